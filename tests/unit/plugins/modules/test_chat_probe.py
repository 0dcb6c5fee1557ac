# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import os
import re
import socket
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.chat import QUESTION
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import processes

sys.path.append(str(Path(__file__).resolve().parents[3] / "standins"))
from standin_chat_server import StandinChatServer
from standin_supervisor import STATES, StandinSupervisor

KEY = "sk-0123456789abcdef"


@pytest.fixture
def refused():
    """A URL at which nothing listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}"


@pytest.fixture
def service(tmp_path):
    """Options of a service under a supervisor that says `words` of it, one after the other, the last for ever."""
    with StandinSupervisor(tmp_path) as supervisord:

        def make(*words, log="loading\nCUDA error: out of memory\n"):
            (tmp_path / "log").write_text(log)
            left = list(words)

            def say(name):
                word = left.pop(0) if len(left) > 1 else left[0]
                state, _space, rest = word.partition(" ")
                if state not in STATES:
                    raise ValueError(word)
                pid = re.match(r" *pid (\d+)", rest)
                supervisord.says(name, state, rest.strip(), pid=int(pid.group(1)) if pid else 0)
                return supervisord.programs[name]

            supervisord._getProcessInfo = say
            return {
                "supervisor_config": str(supervisord.config),
                "service": {"name": "engine", "manager": "supervisor", "log": str(tmp_path / "log")},
            }

        yield make


def test_verified(run_module):
    deltas = [("reasoning", "木+乞"), ("content", "杚"), ("content", "。")]
    with StandinChatServer("llama.cpp", deltas) as server:
        result = run_module("chat_probe", url=server.url, expect="杚")
    assert result["verified"] is True
    assert result["as_expected"] is True
    assert result["msg"] == "deepseek-r1 answered, 50.0 tokens/s: 杚。"
    assert (result["answer"], result["reasoning"], result["model"]) == ("杚。", "木+乞", "deepseek-r1")
    assert (result["finish_reason"], result["tokens_per_s_source"]) == ("stop", "timings")
    assert result["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert result["health_wait_s"] >= 0 and result["ttft_s"] > 0
    *_others, (method, path, _headers, body) = server.requests
    assert (method, path) == ("POST", "/v1/chat/completions")
    assert body["messages"] == [{"role": "user", "content": QUESTION}]
    assert body["max_tokens"] == 2048 and "temperature" not in body


def test_verified_by_ollama(run_module):
    with StandinChatServer("ollama") as server:
        result = run_module("chat_probe", url=server.url, api="ollama", question="Which?", temperature=0)
    assert result["verified"] is True
    assert "as_expected" not in result
    assert [path for _method, path, *_rest in server.requests] == ["/api/version", "/api/tags", "/api/chat"]
    assert server.requests[-1][3]["options"] == {"num_predict": 2048, "temperature": 0.0}


def test_a_cut_answer_is_told(run_module):
    with StandinChatServer("llama.cpp", [("content", "Once upon")], finish_reason="length") as server:
        result = run_module("chat_probe", url=server.url)
    assert result["verified"] is True and result["finish_reason"] == "length"
    assert ", cut at max_tokens: Once upon" in result["msg"]


def test_check_mode_asks_nothing_and_says_so(run_module):
    with StandinChatServer() as server:
        result = run_module("chat_probe", check=True, url=server.url, api_key_file="/not/there/yet")
    assert server.requests == []
    assert result["verified"] is False
    assert result["msg"] == "check mode: no question was asked"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "localhost:8000"}, "url: 'localhost:8000' is not a base URL"),
        ({"expect": "(杚"}, "expect: not a regular expression: "),
        ({"max_tokens": 0}, "max_tokens: must be at least 1"),
        ({"health_timeout": -1}, "health_timeout: must be at least 1"),
        ({"health_path": "health"}, "health_path: 'health' is not a path that starts with /"),
        ({"api_key_file": "/not/there"}, "api_key_file: /not/there: No such file or directory"),
        ({"api_key_file": "/dev/null"}, "api_key_file: /dev/null: not a file"),
        ({"api_key": "two words"}, "the API key holds a space"),
        ({"url": "https://127.0.0.1:1", "ca_path": "/not/there"}, "ca_path: /not/there: No such file or directory"),
        ({"url": "https://127.0.0.1:1", "ca_path": "/dev/null"}, "ca_path: /dev/null: "),
    ],
)
def test_bad_options_are_usage_errors(run_module, options, message):
    result = run_module("chat_probe", **dict({"url": "http://127.0.0.1:1"}, **options))
    assert result["failed"] and result["error_kind"] == "usage"
    assert message in result["msg"] and "\n" not in result["msg"]
    assert result["verified"] is False


def test_nobody_there(run_module, refused):
    result = run_module("chat_probe", url=refused, health_timeout=1)
    assert result["failed"] and result["verified"] is False
    assert result["error_kind"] == "verify"
    assert result["msg"] == f"not healthy within 1 s: GET {refused}/health: connection refused"
    assert "Nothing listens there" in result["hint"]
    assert result["log_tail"] == []


def test_one_that_is_not_to_be_waited_for(run_module, refused):
    result = run_module("chat_probe", url=refused, wait=False, health_timeout=60)
    assert (result["waiting"], result["verified"]) == (True, False)
    with StandinChatServer() as server:
        result = run_module("chat_probe", url=server.url, wait=False, metrics_path="/nothing/there")
    assert result["verified"] is True
    assert "waiting" not in result


def test_how_long_a_start_took_is_known_where_it_was_seen(run_module, service):
    options = service(f"RUNNING   pid {os.getpid()}, uptime 0:00:09")
    with StandinChatServer(loading_replies=1) as server:
        started = run_module("chat_probe", url=server.url, **options)
        again = run_module("chat_probe", url=server.url, **options)
    assert started["verified"] and again["verified"]
    # It listens in this process.
    assert abs(started["ready_s"] - processes.age_of(os.getpid())) < 30
    assert "ready_s" not in again


def test_what_had_arrived_comes_with_the_failure(run_module):
    with StandinChatServer(deltas=[("content", "half"), ("content", "whole")], fault="cut") as server:
        result = run_module("chat_probe", url=server.url)
    assert result["failed"] and result["error_kind"] == "verify"
    assert (result["answer"], result["model"], result["finish_reason"]) == ("half", "deepseek-r1", None)


def test_a_thought_is_not_an_answer(run_module):
    deltas = [("content", "<think>"), ("content", "it must be 杚")]
    with StandinChatServer(deltas=deltas, finish_reason="length") as server:
        result = run_module("chat_probe", url=server.url, expect="杚")
    assert result["msg"] == "the model reasoned (12 characters) but gave no answer"
    assert result["hint"] == "The answer was cut at max_tokens: raise it."
    assert result["verified"] is False and result["reasoning"] == "it must be 杚"


@pytest.mark.parametrize("given", ["api_key", "api_key_file"])
def test_the_key_is_sent_and_never_shown(run_module, tmp_path, service, given):
    (tmp_path / "key").write_text(KEY + "\n")
    option = {given: KEY if given == "api_key" else str(tmp_path / "key")}
    log = service(f"RUNNING   pid {os.getpid()}, uptime 0:00:09", log=f"args: --api-key {KEY}\n")
    with StandinChatServer(api_key=KEY, deltas=[("content", f"I know {KEY}")]) as server:
        good = run_module("chat_probe", url=server.url, **option, **log)
        server.api_key = "another"
        bad = run_module("chat_probe", url=server.url, **option, **log)
    assert server.requests[-1][2]["Authorization"] == f"Bearer {KEY}"
    assert good["verified"] is True
    assert "HTTP 401" in bad["msg"] and "refuses this API key" in bad["hint"]
    assert len(bad["log_tail"]) == 1 and bad["log_tail"][0].startswith("args: --api-key ")
    for result in (good, bad):
        assert KEY not in result["printed"]


def test_a_dead_service_ends_the_wait_with_its_log(run_module, refused, service):
    started = time.monotonic()
    options = service("FATAL     Exited too quickly (process log may have details)")
    result = run_module("chat_probe", url=refused, **options)
    assert time.monotonic() - started < 20  # of 600
    assert result["error_kind"] == "verify"
    assert result["msg"].startswith("engine: the service is failed: FATAL Exited too quickly")
    assert result["log_tail"] == ["loading", "CUDA error: out of memory"]
    assert result["service_state"]["active"] == "failed"


def test_an_absent_service_ends_the_wait_at_once(run_module, refused, service):
    result = run_module("chat_probe", url=refused, **dict(service("x"), supervisor_config="/not/there"))
    assert result["msg"].startswith("engine: the service is absent: /not/there is not there")
    assert "Deploy it first" in result["hint"]


def test_a_service_that_keeps_dying_ends_the_wait(run_module, refused, service):
    back = "BACKOFF   Exited too quickly"
    result = run_module("chat_probe", url=refused, **service("STARTING", back, "STARTING", back))
    assert result["msg"].startswith("engine: the service keeps dying: BACKOFF Exited too quickly")


def test_another_program_on_the_port_is_not_the_service(run_module, service):
    with StandinChatServer() as server:
        dead = service("FATAL     Exited too quickly", log="loading\n")
        result = run_module("chat_probe", url=server.url, **dead)
        # A cause that its log names is told before that.
        full = run_module("chat_probe", url=server.url, **service("FATAL     Exited too quickly"))
    assert result["failed"] and "another program has taken it" in result["hint"]
    assert full["failed"] and "memory is full" in full["hint"]
    assert [path for _method, path, *_rest in server.requests if path != "/health"] == []


def test_an_engine_that_dies_of_its_first_question_is_not_verified(run_module, service):
    options = service(f"RUNNING   pid {os.getpid()}, uptime 0:00:09", "BACKOFF   Exited too quickly")
    with StandinChatServer() as server:
        result = run_module("chat_probe", url=server.url, **options)
    assert result["failed"] and result["verified"] is False
    assert result["msg"] == "engine: the service is BACKOFF Exited too quickly"
    assert result["answer"] == "杚"


def test_a_manager_that_cannot_be_asked_is_a_warning(run_module, service):
    with StandinChatServer() as server:
        result = run_module("chat_probe", url=server.url, **service("gibberish"))
    assert result["verified"] is True
    assert "The state of service engine is not known" in str(result["warnings"])
