"""The real SGLang 0.4.3.post2 on a host without a GPU, with a model of Qwen2's architecture."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from _play import aliases, cost
from _python_engine import CHAT, KEY, SENTENCE, THOUGHT, Engine, deploy, dsdeploy, playbook
from _sockets import nothing_listens_by_surprise

SGLANG = Engine("sglang", 30000, model="any")
# This release has no parser of reasoning: it stays in the answer.
ANSWER = f"<think>\n{THOUGHT}\n</think>\n\n{SENTENCE}"
LONG = {"max_new_tokens": 600, "ignore_eos": True, "temperature": 0}


def test_it_answers_exactly_on_loopback_only(host):
    assert SGLANG.ask(host)[0]["content"] == ANSWER
    nothing_listens_by_surprise(host, "sglang")


def test_it_is_the_environment_of_its_time(host):
    wanted = {"sglang": "0.4.3.post2", "transformers": "4.48.3", "vllm": "0.7.2", "torchao": "0.9.0"}
    code = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    found = host.check_output("%s/current/bin/python -c %s " + " ".join(wanted), SGLANG.root, code)
    assert json.loads(found) == wanted
    assert SGLANG.current(host) == SGLANG.release(host, "0.4.3.post2")


def test_it_asks_for_the_key(host):
    for path, body in (("/v1/chat/completions", dict(CHAT, model="any")), ("/v1/models", None), ("/metrics", None)):
        for key in ("wrong", ""):
            assert SGLANG.fetch(host, path, key, body)[0][0] == 401
    assert SGLANG.fetch(host, "/v1/models")[0][0] == 200
    ((status, metrics),) = SGLANG.fetch(host, "/metrics")
    assert status == 200
    assert 'sglang:num_requests_total{model_name="tiny-qwen2"}' in metrics


def test_the_key_is_in_no_readable_place(host):
    SGLANG.the_key_is_in_no_readable_place(host)
    assert "api_key='***'" in SGLANG.log(host)


# Each in one run of the command, as a host of its own: (variables, what it says).
REFUSED = {
    "parser": (
        {"sglang_reasoning_parser": "deepseek-r1"},
        "SGLang 0.4.3.post2 does not know --reasoning-parser yet",
    ),
    "word": ({"sglang_schedule_policy": "lmp"}, "sglang_schedule_policy: expected one of lpm, random, fcfs,"),
    # A word that other releases know.
    "later": (
        {"sglang_schedule_policy": "lof"},
        "does not know --schedule-policy lof; it knows lpm, random, fcfs,",
    ),
    "range": ({"sglang_mem_fraction_static": 1.5}, "sglang_mem_fraction_static: expected a value from 0.05 to 0.99"),
    "extra": ({"sglang_extra_args": ["--context-lenght", "9"]}, "does not know --context-lenght; did you mean"),
    "vulnerable": ({"sglang_allow_vulnerable": False}, "CVE-2026-3059"),
    "memory": (
        {"dsdeploy_model": "qwen2.5-72b-instruct"},
        "qwen2.5-72b-instruct does not fit into the memory of this host",
    ),
}


@pytest.fixture(scope="module")
def refused(host):
    """(exit code, what each was refused with, the engine's process before and after) of the one run."""
    before = SGLANG.pid(host)
    path = aliases(host, {name: variables for name, (variables, _line) in REFUSED.items()})
    code, summary, said = dsdeploy("up", "-i", path, "--limit", "aliases")
    assert KEY not in said
    return code, {failure["host"]: failure["msg"] for failure in summary["failures"]}, before, SGLANG.pid(host)


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_parameters_are_refused_by_name_before_anything_is_touched(refused, name):
    code, messages, before, after = refused
    assert code == 2
    assert REFUSED[name][1] in messages[name]
    assert before == after


def test_nothing_changed_restarts_nothing_and_a_changed_flag_restarts_once(host):
    before = SGLANG.pid(host)
    processes, results = cost(playbook(host, "deepseek_r1", "-vvv"))
    # Counted, not timed: a process on the host costs a hundred times what a result does.
    assert processes <= 12
    assert results <= 30
    assert SGLANG.pid(host) == before
    assert "changed=0" not in deploy(host, "-e", "sglang_max_running_requests=16")
    assert SGLANG.pid(host) != before
    assert "--max-running-requests 16" in host.check_output("ps -o args= -p %s", str(SGLANG.pid(host)))


def test_it_comes_back_after_sigkill(host):
    before = SGLANG.pid(host)
    with host.sudo():
        host.check_output("kill -9 %s", str(before))
    assert SGLANG.answers_within(host, 200)["content"] == ANSWER
    assert SGLANG.pid(host) != before


def test_a_stop_lets_it_finish_and_its_own_sigkill_is_a_clean_end(host):
    with ThreadPoolExecutor(1) as pool:
        question = pool.submit(SGLANG.fetch, host, "/generate", body={"text": "Hello", "sampling_params": LONG})
        time.sleep(1)
        with host.sudo():
            host.check_output("systemctl stop %s", SGLANG.service)
        ((status, body),) = question.result()
    assert status == 200
    assert json.loads(body)["meta_info"]["completion_tokens"] == LONG["max_new_tokens"]
    assert host.check_output("systemctl show -p ActiveState,Result %s", SGLANG.service).split() == [
        "Result=success",
        "ActiveState=inactive",
    ]
    running = host.check_output("ps -eo args")
    assert "sglang-server" not in running and "sglang::" not in running
    playbook(host, "down")
    assert host.run("systemctl is-failed %s", SGLANG.service).stdout.strip() == "inactive"
