"""What must be there before anything is changed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import disk
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import preflight
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.access import Barrier

MODULE = Path(preflight.__file__).parents[2] / "modules" / "preflight.py"


def test_port_held_by_its_own_service_is_fine():
    owner = {"pid": None, "command": "", "user": "dsdeploy-llama-cpp"}
    assert preflight.port_problem(8080, owner, "dsdeploy-llama-cpp", "llama_cpp_port") is None
    assert preflight.port_problem(8080, None, "dsdeploy-llama-cpp", "llama_cpp_port") is None


def test_port_held_by_another_names_it_and_the_variable():
    problem = preflight.port_problem(8080, {"pid": 7, "command": "nginx", "user": "www-data"}, "me", "llama_cpp_port")
    assert problem.msg == "port 8080 is taken by nginx (pid 7) of user www-data"
    assert "llama_cpp_port" in problem.hint


def test_disk_is_added_up_by_mount_point(monkeypatch):
    monkeypatch.setattr(disk, "space", lambda path: ("/data" if path.startswith("/data") else "/", 4 << 30))
    plan = disk.disk_plan([("/opt", 3 << 30, "engine"), ("/srv", 2 << 30, "model"), ("/data/x", 2 << 30, "cache")])
    (problem,) = preflight.disk_problems(plan)
    needs = "5.0 GiB needed (engine 3.0 GiB, model 2.0 GiB), 4.0 GiB free, 1.0 GiB too few"
    assert problem.msg == "not enough disk space on /: " + needs
    assert "move /opt and /srv to a larger file system" in problem.hint
    assert preflight.disk_problems(disk.disk_plan([("/srv", 2 << 30, "model"), ("/data", 2 << 30, "cache")])) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "localhost", "::1"])
def test_loopback_needs_neither_key_nor_tls(host):
    assert preflight.host_problem(host, False, False, "llama_cpp") is None


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
    problem = preflight.host_problem("0.0.0.0", key, tls, "llama_cpp")
    assert (missing in problem.msg and problem.kind == "usage") if missing else problem is None


@pytest.mark.parametrize(
    "host", ["foo_bar", "", "256.0.0.1", "127.1", "-a", "a..b", "[::1]", "10.0.0.1:8000", "a" * 64]
)
def test_what_is_no_address_is_said_to_be_none(host):
    problem = preflight.host_problem(host, False, False, "llama_cpp")
    assert problem.msg == f"llama_cpp_host is {host!r}, which is neither an address nor a host name"
    assert problem.kind == "usage"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "gpu-1.example.org", "127.0.0.1.example.org", "fe80::1"])
def test_an_address_that_others_can_reach(host):
    assert "which others can reach" in preflight.host_problem(host, False, False, "llama_cpp").msg
    assert preflight.host_problem(host, True, True, "llama_cpp") is None


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


def test_variables_alone_that_are_wrong_are_wrong_usage(tmp_path):
    absent = str(tmp_path / "absent")
    text = tmp_path / "text"
    text.write_text("")
    wrong = {
        "host": "0.0.0.0",
        "files": [
            {"variable": "x_ssl_keyfile", "path": absent},
            {"variable": "x_interpreter", "path": str(text), "executable": True},
            {"variable": "x_ssl_certfile", "path": str(text)},
            {"variable": "x_other", "path": ""},
        ],
        "require": [{"that": False, "msg": "no lock", "hint": "another version", "kind": "usage"}],
    }
    result = run(**wrong)
    assert result["error_kind"] == "usage"
    assert [problem["msg"] for problem in result["problems"]][1:] == [
        f"x_ssl_keyfile: there is no file {absent} on this host",
        f"x_interpreter: there is no program {text} on this host",
        "no lock",
    ]
    assert run(**wrong, require_commands=["no-such-command"])["error_kind"] == "preflight"


def test_module_finds_nothing_wrong():
    result = run(disk=[{"what": "model", "path": "/", "need_bytes": 1}], commands=["sh"])
    assert not result.get("failed")
    assert result["commands"]["sh"].endswith("/sh")


def test_packages_are_those_that_are_installed():
    text = "python3-venv 3.11.2-1+b1 installed\nlibgomp1 12.2.0 config-files\nother 1 installed\nno packages found x\n"
    assert preflight.installed_packages(text, ["python3-venv", "libgomp1", "x"]) == {"python3-venv": "3.11.2-1+b1"}
    assert preflight.installed_packages("", ["python3-venv"]) == {}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/opt/dsdeploy", None),
        ("/srv/llm-1.0/_x", None),
        ("/opt/my engines", "characters"),
        ("/opt/模型", "characters"),
        ("/opt/a\n", "characters"),
        ("opt/dsdeploy", "characters"),
        ("/" + "x" * 100, "101 characters"),
    ],
)
def test_programs_are_installed_where_they_can_be_started_from(path, said):
    problems = preflight.install_dir_problems(path)
    assert [problem.kind for problem in problems] == ([] if said is None else ["usage"])
    assert said is None or said in problems[0].msg


def test_module_refuses_a_user_that_is_somebody():
    """Before anything is fetched: no login account becomes a service's user."""
    result = run(user="root")
    assert result["msg"] == "the user root is root: an engine cannot run as this user"
    assert result["error_kind"] == "usage" and "x_user" in result["hint"]
    assert not run(user="dsdeploy-of-the-tests").get("failed")


def test_module_names_what_the_users_way_is_blocked_by(tmp_path):
    (tmp_path / "disk").mkdir(mode=0o700)
    result = run(user="dsdeploy-of-the-tests", reach=[str(tmp_path / "disk/models"), "", "/usr/bin"])
    assert result["failed"] and len(result["problems"]) == 1
    assert "the engine's user dsdeploy-of-the-tests cannot pass through /" in result["msg"]
    assert "(mode 0700)" in result["msg"]
    assert not run(user="dsdeploy-of-the-tests", reach=["/usr/bin", "/opt/not/there"]).get("failed")


@pytest.mark.parametrize(
    ("tags", "recorded", "refused"),
    [
        (["verify"], False, True),
        (["prepare", "verify"], False, True),
        (["verify"], True, False),
        (["service", "verify"], False, False),
        (["all"], False, False),
        (["preflight"], False, False),
        # Of a playbook of the user's own that imports ours.
        (["llm"], False, False),
    ],
)
def test_a_run_that_only_asks_needs_somebody_to_ask(tags, recorded, refused):
    """Else the model would be fetched, and what is never made noted, before it is found out."""
    found = preflight.undeployed_problem("ollama", tags, recorded)
    said = "--tags verify asks what is deployed, and ollama is not deployed on this host"
    assert (found.msg if found else None) == (said if refused else None)


def test_paths_behind_one_barrier_are_one_problem():
    root, home = Barrier("/root", 0o700, "pass"), Barrier("/home/me", 0o750, "pass")
    ways = [("/root/models", root), ("/opt/dsdeploy", None), ("/home/me/x", home), ("/root/cache", root)]
    first, second = preflight.way_problems("dsdeploy-vllm", ways)
    assert first.msg == (
        "/root/models, /root/cache: the engine's user dsdeploy-vllm cannot pass through /root (mode 0700)"
    )
    assert "chmod o+x /root;" in first.hint and first.kind == "preflight"
    assert second.msg.startswith("/home/me/x: ") and "chmod o+x /home/me;" in second.hint
    assert preflight.way_problems("dsdeploy-vllm", [("/opt", None)]) == []


def test_a_user_that_is_refused_names_the_variable():
    problem = preflight.refused_user("the user root is root", "sglang")
    assert problem.msg == "the user root is root: an engine cannot run as this user"
    assert "sglang_user" in problem.hint and problem.kind == "usage"


def test_a_package_source_that_does_not_answer_is_the_hosts():
    problem = preflight.unreachable_index("http://mirror: no address")
    assert problem.msg == "packages could not be installed: http://mirror: no address"
    assert "dsdeploy_mirrors.http_proxy" in problem.hint and problem.kind == "preflight"


@pytest.mark.parametrize(
    ("flags", "programs", "said"),
    [
        (os.ST_RDONLY, False, "is on /data, which is mounted read-only: nothing can be written there"),
        (os.ST_NOEXEC, True, "is on /data, which is mounted noexec: no program runs there"),
        (os.ST_NOEXEC, False, None),
        (os.ST_NOSUID, True, None),
    ],
)
def test_a_file_system_on_which_nothing_can_be_written_or_run(flags, programs, said):
    problem = preflight.file_system_problem("dsdeploy_install_dir", "/data/opt", "/data", flags, programs)
    assert (problem and problem.msg) == (said and f"dsdeploy_install_dir: /data/opt {said}")
    assert problem is None or "mount -o remount," in problem.hint and "/data" in problem.hint


def test_memory_that_processes_share_is_enlarged_where_it_is():
    plan = [{"mount": "/dev/shm", "need": 2, "free": 1, "fits": False, "for": ["vLLM 2 MiB"], "paths": ["/dev/shm"]}]
    (problem,) = preflight.disk_problems(plan)
    assert "remount,size=" in problem.hint and "dsdeploy_data_dir" not in problem.hint
