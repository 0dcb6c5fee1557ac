"""No secret goes to who has taken the port of an engine."""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import chat
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import processes
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import watched

sys.path.append(str(Path(__file__).resolve().parents[4] / "standins"))
from standin_chat_server import StandinChatServer

SERVICE = {"name": "engine", "manager": "systemd", "log": None}
RUNNING = {
    "active": "running",
    "restarting": False,
    "restarts": 0,
    "pid": os.getpid(),
    "since": None,
    "detail": "running",
}
KEY = "sk-0123456789"


@pytest.fixture
def service(monkeypatch):
    monkeypatch.setattr(watched, "service_state", lambda *_: dict(RUNNING))
    monkeypatch.setattr(watched, "service_log", lambda *_: ["loading model tensors"])
    return watched.WatchedService(SERVICE)


def endpoint(url, service):
    found = chat.Endpoint(url, KEY)
    found.trust = service.trust
    return found


def keys(server):
    return [headers.get("Authorization") for _method, _path, headers, _body in server.requests]


def test_health_is_asked_without_the_key_and_the_service_s_own_listener_gets_it(service):
    with StandinChatServer("vllm") as server:
        target = endpoint(server.url, service)
        chat.wait_healthy(target, "/health", 5, service.check)
        chat.ask(target, "openai", "Who?", 10)
        assert keys(server)[0] is None
        assert keys(server)[-1] == f"Bearer {KEY}"


def test_a_stranger_on_the_port_never_sees_the_key(service, monkeypatch):
    monkeypatch.setattr(processes, "uid_of", lambda pid: os.geteuid() + 1)  # the listener's is ours, the service's not
    with StandinChatServer("vllm") as server:
        target = endpoint(server.url, service)
        chat.wait_healthy(target, "/health", 5, service.check)
        for ask in (lambda: chat.ask(target, "openai", "Who?", 10), lambda: target.get("/metrics", 5)):
            with pytest.raises(chat.EngineFailure, match="the API key was not sent"):
                ask()
        assert set(keys(server)) == {None}


def test_a_listener_that_is_gone_is_not_trusted(service):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(chat.EngineFailure, match="nothing listens on port"):
        service.trust("127.0.0.1", port)


def test_a_service_without_a_process_gets_no_key(service, monkeypatch):
    monkeypatch.setattr(watched, "service_state", lambda *_: dict(RUNNING, pid=None, active="starting"))
    monkeypatch.setattr(watched, "PID_S", 0.3)
    with pytest.raises(chat.EngineFailure, match="engine has no process"):
        service.trust("127.0.0.1", 1)


def test_one_that_wants_a_key_for_its_health_is_healthy(service):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse():
            with server.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        threading.Thread(target=refuse, daemon=True).start()
        chat.health(endpoint(f"http://127.0.0.1:{server.getsockname()[1]}", service), "/health")


def test_a_wait_goes_on_while_the_engine_works_and_ends_when_it_does_not(service, monkeypatch):
    """Its time-out is 0.4 s; it works for more than a second, then hangs."""
    work = iter([processes.Work(cpu, 0) for cpu in range(6)] + [processes.Work(6, 0)] * 99)
    monkeypatch.setattr(processes, "work_of", lambda pid: next(work))
    monkeypatch.setattr(watched, "LOOK_S", 0.0)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        target = chat.Endpoint(f"http://127.0.0.1:{unused.getsockname()[1]}")
        seen = []
        with pytest.raises(chat.EngineFailure, match=r"it has done nothing for \d s") as raised:
            chat.wait_healthy(
                target,
                "/health",
                0.4,
                service.check,
                lambda *_: seen.append(service.doing),
                lambda: service.give_up(0.4),
            )
    assert len(seen) >= 6
    assert seen[-1] == "loading"
    assert "connection refused" in str(raised.value)


# --- why it ended ---

NO_ROOM = "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`"
WRAPPER = "RuntimeError: Engine core initialization failed. See root cause above."


def dying(monkeypatch, line):
    """A service that died once: the manager counts it, and starts it again."""
    states = iter([dict(RUNNING, restarts=0), dict(RUNNING, restarts=1), dict(RUNNING, restarts=2)])
    monkeypatch.setattr(watched, "service_state", lambda *_: next(states))
    monkeypatch.setattr(watched, "service_log", lambda *_: [line, WRAPPER])
    return watched.WatchedService(SERVICE)


def test_what_ends_every_start_is_told_after_the_first_one(monkeypatch):
    service = dying(monkeypatch, NO_ROOM)
    service.check()
    with pytest.raises(chat.EngineFailure, match="engine: the engine ended: ValueError: No available memory") as caught:
        service.check()
    assert "vllm_venv_gpu_memory_utilization" in caught.value.hint
    assert not caught.value.retry


def test_what_may_pass_is_told_with_its_cause_after_the_second(monkeypatch):
    service = dying(monkeypatch, "OSError: [Errno 98] Address already in use")
    service.check()
    service.check()
    with pytest.raises(chat.EngineFailure, match="keeps dying: running: OSError: .* in use") as caught:
        service.check()
    assert "ss -ltnp" in caught.value.hint
