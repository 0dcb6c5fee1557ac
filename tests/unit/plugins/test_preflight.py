"""What must be there before anything is changed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils import preflight

MODULE = Path(preflight.__file__).parents[1] / "modules" / "preflight.py"
# Two lines of a real table: 127.0.0.1:8080 listening for uid 998, and a connection from port 8080 (state 01).
PROC_NET_TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000   998        0 37014 1 0000000000000000 100
   1: 0100007F:1F90 0100007F:C3A2 01 00000000:00000000 00:00000000 00000000   998        0 37015 1 0000000000000000 20
"""


def test_listeners():
    assert preflight.listeners(PROC_NET_TCP, 8080) == [preflight.Listener("37014", 998)]
    assert preflight.listeners(PROC_NET_TCP, 8081) == []


def test_port_held_by_its_own_service_is_fine():
    owner = {"pid": None, "command": "", "user": "dsdeploy-llama-cpp"}
    assert preflight.port_problem(8080, owner, "dsdeploy-llama-cpp", "llama_cpp_port") is None
    assert preflight.port_problem(8080, None, "dsdeploy-llama-cpp", "llama_cpp_port") is None


def test_port_held_by_another_names_it_and_the_variable():
    problem = preflight.port_problem(8080, {"pid": 7, "command": "nginx", "user": "www-data"}, "me", "llama_cpp_port")
    assert problem.msg == "port 8080 is taken by nginx (pid 7) of user www-data"
    assert "llama_cpp_port" in problem.hint


def test_disk_is_added_up_by_mount_point():
    wants = [
        {"what": "engine", "path": "/opt", "need_bytes": 3 << 30, "mount": "/", "free_bytes": 4 << 30},
        {"what": "model", "path": "/srv", "need_bytes": 2 << 30, "mount": "/", "free_bytes": 4 << 30},
        {"what": "cache", "path": "/data", "need_bytes": 2 << 30, "mount": "/data", "free_bytes": 4 << 30},
    ]
    (problem,) = preflight.disk_problems(wants)
    assert problem.msg == "not enough disk space on /: 5.0 GiB needed (engine 3.0 GiB, model 2.0 GiB), 4.0 GiB free"
    assert preflight.disk_problems(wants[1:]) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "localhost", "::1"])
def test_loopback_needs_neither_key_nor_tls(host):
    assert preflight.loopback_problem(host, False, False, "llama_cpp") is None


@pytest.mark.parametrize(
    "key, tls, missing",
    [
        (False, False, "an API key and TLS are"),
        (True, False, "TLS is"),
        (False, True, "an API key is"),
        (True, True, ""),
    ],
)
def test_beyond_loopback_needs_both(key, tls, missing):
    problem = preflight.loopback_problem("0.0.0.0", key, tls, "llama_cpp")
    assert missing in problem.msg if missing else problem is None


def run(**arguments):
    """The module as Ansible runs it: a program with JSON on its standard input."""
    given = json.dumps({"ANSIBLE_MODULE_ARGS": {"prefix": "x", **arguments}})
    environ = dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path))
    done = subprocess.run([sys.executable, MODULE], input=given, env=environ, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_module_names_all_problems_at_once():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = run(
            host="0.0.0.0",
            port=port,
            disk=[{"what": "model", "path": "/no/such/yet", "need_bytes": 1 << 60}],
            require=[{"that": False, "msg": "no wheel", "hint": "take the source"}],
            require_commands=["no-such-command"],
            warn=["", "slow"],
        )
    assert result["failed"]
    assert result["error_kind"] == "preflight"
    assert len(result["problems"]) == 5
    assert result["port_owner"]["pid"] == os.getpid()
    assert result["disk"][0]["mount"] == "/"
    assert len(result["warnings"]) == 1


def test_module_finds_nothing_wrong():
    result = run(disk=[{"what": "model", "path": "/", "need_bytes": 1}], commands=["sh"])
    assert not result.get("failed")
    assert result["commands"]["sh"].endswith("/sh")
