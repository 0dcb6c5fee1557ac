# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import getpass
import json
import os
import sys
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import deployed
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.deployments import parse_record

sys.path.append(str(Path(__file__).resolve().parents[3] / "standins"))
from standin_chat_server import StandinChatServer
from standin_supervisor import StandinSupervisor

RECORD = {
    "device": "gpu",
    "user": getpass.getuser(),
    "engine": "vllm",
    "version": "0.32.0",
    "model": "deepseek-r1",
    "endpoint": "http://127.0.0.1:1",
    "api": "openai",
    "api_key_file": "/etc/dsdeploy/keys/dsdeploy-vllm",
    "health_path": "/health",
    "service": {"name": "dsdeploy-vllm", "manager": "supervisor", "log": "/var/log/dsdeploy/dsdeploy-vllm.log"},
    "dirs": ["/opt/dsdeploy/vllm"],
}


class Host:
    """A host with records, whose supervisor says the same of every service."""

    def __init__(self, path, run_module, supervisor):
        self.path, self.run_module = path, run_module
        self.records = path / "deployments"
        self.records.mkdir()
        self.supervisor = supervisor
        supervisor.running("dsdeploy-vllm")
        self.starts("true")

    def starts(self, automatically):
        (self.path / "conf.d").mkdir(exist_ok=True)
        (self.path / "conf.d" / "dsdeploy-vllm.conf").write_text(f"[program:x]\nautostart={automatically}\n")

    def says(self, *words):
        self.supervisor.says("dsdeploy-vllm", *words)

    def record(self, **changes):
        record = dict(RECORD, **changes)
        (self.records / f"{record['engine']}.json").write_text(json.dumps(record))

    def run(self, **options):
        ours = {
            "path": str(self.records),
            "supervisor_config": str(self.path / "supervisord.conf"),
        }
        result = self.run_module("deployment_facts", **dict(ours, **options))
        if not result.get("failed"):
            assert result["ansible_facts"]["dsdeploy_deployments"] == result["deployments"]
        return result


@pytest.fixture
def host(tmp_path, run_module):
    with StandinSupervisor(tmp_path) as supervisor:
        yield Host(tmp_path, run_module, supervisor)


def test_a_bare_host_has_no_deployments(host):
    assert host.run(path=str(host.path / "nothing"))["deployments"] == []
    assert host.run()["deployments"] == []


def test_a_running_deployment_that_answers(host):
    with StandinChatServer() as server:
        host.record(endpoint=server.url)
        (found,) = host.run(check=True)["deployments"]
    state = found.pop("state")
    assert (state["active"], state["pid"]) == ("running", 7)
    assert found.pop("ask")["endpoint"] == server.url
    assert found == dict(
        RECORD,
        # No gateway stands before it.
        public_endpoint=None,
        fingerprint=None,
        endpoint=server.url,
        stopped_on_purpose=False,
        ready=True,
        ready_detail=None,
        file=str(host.records / "vllm.json"),
    )
    assert [(method, path) for method, path, *_rest in server.requests] == [("GET", "/health")]
    assert "Authorization" not in server.requests[0][2]


def test_sorted_and_filtered_by_engine(host):
    for engine in ("vllm", "llama_cpp", "sglang"):
        host.record(engine=engine)
    assert [found["engine"] for found in host.run(health=False)["deployments"]] == ["llama_cpp", "sglang", "vllm"]
    (found,) = host.run(health=False, engine="sglang")["deployments"]
    assert (found["engine"], found["ready"]) == ("sglang", None)
    assert host.run(engine="ollama")["deployments"] == []


def test_not_ready(host):
    host.record()
    (found,) = host.run()["deployments"]
    assert found["ready"] is False
    assert found["ready_detail"] == "GET http://127.0.0.1:1/health: connection refused"
    with StandinChatServer("llama.cpp", loading_replies=9) as server:
        host.record(endpoint=server.url)
        (found,) = host.run()["deployments"]
        assert (found["ready"], found["state"]["active"]) == (False, "running")
        assert found["ready_detail"].endswith("HTTP 503: Loading model")


@pytest.mark.parametrize(("autostart", "on_purpose"), [("false", True), ("true", False)])
def test_one_that_is_not_to_start_was_stopped_on_purpose(host, autostart, on_purpose):
    host.says("STOPPED", "Nov 24 06:00 AM")
    host.starts(autostart)
    host.record()
    (found,) = host.run()["deployments"]
    assert found["stopped_on_purpose"] is on_purpose
    assert found["ready"] is (None if on_purpose else False)
    host.supervisor.running("dsdeploy-vllm")
    assert host.run()["deployments"][0]["stopped_on_purpose"] is False


def test_a_slow_endpoint_is_not_waited_for(host):
    with StandinChatServer(fault="hang") as server:
        host.record(endpoint=server.url)
        (found,) = host.run(health_timeout=1)["deployments"]
    assert (found["ready"], found["ready_detail"]) == (False, f"GET {server.url}/health: no answer within 1 s")


def test_an_endpoint_that_wants_a_key_answers(host):
    with StandinChatServer(api_key="k") as server:
        host.record(endpoint=server.url, health_path="/v1/models")
        assert host.run()["deployments"][0]["ready"] is True


def test_another_program_on_the_port_is_not_the_deployment(host):
    host.says("FATAL", "Exited too quickly")
    with StandinChatServer() as server:
        host.record(endpoint=server.url)
        (found,) = host.run()["deployments"]
    assert (found["ready"], found["state"]["active"]) == (False, "failed")
    assert "another program has its port" in found["ready_detail"]


def test_the_port_of_another_user_is_not_the_deployment(host):
    """Whoever took the port is sent nothing, not even the question for its health."""
    with StandinChatServer() as server:
        host.record(endpoint=server.url, user="daemon")
        (found,) = host.run()["deployments"]
    assert found["ready"] is False
    assert found["ready_detail"].endswith(f"belongs to user {getpass.getuser()}, not to the service's user daemon")
    assert server.requests == []


def test_a_manager_that_cannot_be_asked(host):
    host.supervisor._getProcessInfo = lambda name: 1 / 0
    host.record()
    result = host.run(health=False)
    assert result["deployments"][0]["state"] is None
    assert "the state of service dsdeploy-vllm is not known" in str(result["warnings"])


BROKEN = {
    "empty": b"",
    "list": b"[]",
    "number": b"5",
    "null": b"null",
    "cut": b'{"engine": "sgl',
    "foreign": b'{"name": "something else"}',
    "random": bytes(range(128, 256)),
    "deep": b"[" * 200_000,
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_record_that_cannot_be_read_is_named_and_nothing_is_lost(host, content):
    host.record()
    broken = host.records / "sglang.json"
    broken.write_bytes(content)
    result = host.run(health=False)
    assert result["failed"] and "\n" not in result["msg"]
    assert result["msg"].startswith(f"{broken} is not a deployment record: ")
    assert "dsdeploy up" in result["hint"]
    assert [found["engine"] for found in result["deployments"]] == ["vllm"]
    assert [found["file"] for found in result["unreadable"]] == [str(broken)]
    assert broken.read_bytes() == content
    # Who asks for another engine is warned; who deploys is, too.
    for options in ({"engine": "vllm"}, {"strict": False}):
        warned = host.run(health=False, **options)
        assert "sglang.json is not a deployment record" in str(warned["warnings"])
    assert host.run(health=False, engine="sglang")["failed"]


def test_what_is_no_file_is_no_record(host):
    (host.records / "folder.json").mkdir()
    (host.records / "dangling.json").symlink_to("/not/there")
    (host.records / "notes.txt").write_text("not looked at")
    os.mkfifo(host.records / "pipe.json")
    result = host.run(health=False)
    assert [os.path.basename(found["file"]) for found in result["unreadable"]] == [
        "dangling.json", "folder.json", "pipe.json"]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine": ""}, "'engine' is missing"),
        ({"engine": 5}, "'engine' is missing or not a text"),
        ({"endpoint": "127.0.0.1:8000"}, "is not a base URL"),
        ({"api": "grpc"}, "'api' is 'grpc', not one of openai, ollama"),
        ({"service": None}, "'service' is missing"),
        ({"service": {"name": "x", "manager": "runit"}}, "'service.manager' is 'runit'"),
        ({"service": {"name": "--x", "manager": "systemd"}}, "is not a service's name"),
        ({"health_path": "health"}, "'health_path' is 'health'"),
        ({"dirs": ["opt"]}, "'dirs' is not a list of absolute paths"),
        ({"device": "tpu"}, "'device' is 'tpu', not one of gpu, cpu"),
        ({"dirs": "/"}, "'dirs' is not a list of absolute paths"),
        ({"dirs": ["/"]}, "'dirs' is not a list of absolute paths"),
        ({"left": ["/opt/.."]}, "'left' is not a list of absolute paths"),
        ({"state_dir": 5}, "'state_dir' is not an absolute path"),
        ({"user": []}, "'user' is not a text"),
        ({"answer_max_tokens": "many"}, "'answer_max_tokens' is not a number of tokens"),
        ({"service": dict(RECORD["service"], log=["x"])}, "'service.log' is not an absolute path"),
        ({"store": 5}, "'store' does not name a directory and a state_file"),
        ({"store": {"directory": "/models"}}, "'store' does not name a directory and a state_file"),
        ({"engine": "../x"}, "'engine' is not the name of an engine"),
    ],
)
def test_what_is_not_a_record(changes, message):
    with pytest.raises(ValueError, match=message):
        parse_record(json.dumps(dict(RECORD, **changes)))


def test_a_record_is_filled_in():
    least = {"engine": "o", "endpoint": "http://h", "api": "ollama", "service": {"name": "o", "manager": "systemd"}}
    assert parse_record(json.dumps(least)) == dict(
        least,
        health_path="/api/version",
        dirs=[],
        device="gpu",
        user="o",
        service={"name": "o", "manager": "systemd", "log": None},
    )


@pytest.mark.parametrize(
    ("ready", "on_purpose", "said"),
    [
        (False, [True, True], "no engine runs behind it: vllm, ollama, stopped on purpose"),
        (False, [True, False], "HTTP 503: busy"),
        (True, [True], "HTTP 503: busy"),
        (False, [], "HTTP 503: busy"),
    ],
)
def test_a_gateway_whose_engines_were_stopped_says_so(ready, on_purpose, said):
    gateway = {"engine": "gateway", "api": "gateway", "ready": ready, "ready_detail": "HTTP 503: busy"}
    engines = [
        {"engine": name, "api": "openai", "stopped_on_purpose": stopped}
        for name, stopped in zip(("vllm", "ollama"), on_purpose, strict=False)
    ]
    deployed.explain_gateway([*engines, gateway])
    assert gateway["ready_detail"] == said
