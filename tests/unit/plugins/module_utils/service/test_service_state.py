# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The outputs here were recorded from systemd 252 (Debian 12) and supervisor 4.3.0."""

import os
import re
import sys
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import state as module
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.state import (
    Watch,
    check_name,
    has_process,
    parse_info,
    parse_journal,
    parse_systemctl,
    service_log,
    service_state,
    tail_file,
)

sys.path.append(str(Path(__file__).resolve().parents[4] / "standins"))
from standin_supervisor import StandinSupervisor


def systemctl(active, sub, result="success", restarts=0, pid=0, code=0, status=0, load="loaded", changed=True):
    stamp = "Mon 2026-11-23 19:42:50 UTC" if changed else ""
    return (
        f"MainPID={pid}\nResult={result}\nNRestarts={restarts}\nExecMainCode={code}\nExecMainStatus={status}\n"
        f"LoadState={load}\nActiveState={active}\nSubState={sub}\nStateChangeTimestamp={stamp}\n"
    )


@pytest.mark.parametrize(
    ("output", "active", "restarting", "restarts", "pid", "detail"),
    [
        (systemctl("active", "running", pid=94), "running", False, 0, 94, "active (running)"),
        (systemctl("activating", "start-post", pid=105), "starting", False, 0, 105, "activating (start-post)"),
        (
            systemctl("activating", "auto-restart", "exit-code", 1, 0, 1, 1),
            "starting",
            True,
            1,
            None,
            "activating (auto-restart), exit-code, exit status 1",
        ),
        (
            # The engine died while its ExecStartPost still waits for it; systemd waits on.
            systemctl("activating", "start-post", "exit-code", 0, 0, 1, 4),
            "failed",
            False,
            0,
            None,
            "activating (start-post), exit-code, exit status 4",
        ),
        (
            systemctl("failed", "failed", "exit-code", 0, 0, 1, 203),
            "failed",
            False,
            0,
            None,
            "failed (failed), exit-code, exit status 203",
        ),
        (
            systemctl("failed", "failed", "signal", 5, 0, 2, 9),
            "failed",
            False,
            5,
            None,
            "failed (failed), signal, killed by SIGKILL",
        ),
        (
            systemctl("failed", "failed", "oom-kill", 0, 0, 2, 9),
            "failed",
            False,
            0,
            None,
            "failed (failed), oom-kill, killed by SIGKILL",
        ),
        (systemctl("deactivating", "stop-sigterm", pid=94), "stopped", False, 0, 94, "deactivating (stop-sigterm)"),
        (systemctl("inactive", "dead"), "stopped", False, 0, None, "inactive (dead)"),
    ],
)
def test_systemd(output, active, restarting, restarts, pid, detail):
    assert parse_systemctl(output) == {
        "active": active,
        "restarting": restarting,
        "restarts": restarts,
        "pid": pid,
        "since": "2026-11-23T19:42:50Z",
        "detail": detail,
    }


@pytest.mark.parametrize(
    ("load", "active", "detail"),
    [
        ("not-found", "absent", "no such unit"),
        ("masked", "stopped", "inactive (dead), unit is masked"),
        ("bad-setting", "failed", "inactive (dead), unit is bad-setting"),
    ],
)
def test_systemd_units_that_cannot_run(load, active, detail):
    state = parse_systemctl(systemctl("inactive", "dead", load=load, changed=False))
    assert (state["active"], state["detail"], state["since"]) == (active, detail, None)


def test_a_removed_unit_that_still_runs_is_not_absent():
    assert parse_systemctl(systemctl("active", "running", pid=7, load="not-found"))["active"] == "running"


def test_systemd_says_something_else():
    with pytest.raises(Failure, match="no ActiveState"):
        parse_systemctl("")


def test_journal():
    text = (
        "-- Journal begins at Mon 2026-11-23 19:42:50 UTC. --\n"
        "2026-11-23T19:42:50+0000 probe1 systemd[1]: Started p-good.service.\n"
        "2026-11-23T19:42:50+0000 probe1 sh[94]: loading 木 model\n"
        "-- Boot 3d0d8b5c1f1c4b0fa5f0d5b3a7a5e9a1 --\n"
        "2026-11-23T19:42:50+0000 probe1 sh[94]: \x1b[32mINFO\x1b[0m ready\n"
    )
    assert [line.partition("]: ")[2] for line in parse_journal(text)] == [
        "Started p-good.service.",
        "loading 木 model",
        "INFO ready",
    ]
    assert parse_journal("-- No entries --\n") == []


def info(words, name="x"):
    """What getProcessInfo of supervisor 4.3.0 says where `supervisorctl status` shows these words."""
    state, _space, rest = words.partition(" ")
    rest = rest.strip()
    pid = re.match(r"pid (\d+)", rest)
    return {"name": name, "group": name, "statename": state, "description": rest, "spawnerr": "", "logfile": "",
            "pid": int(pid.group(1)) if pid else 0, "start": 1795461455, "stop": 0, "now": 1795461732}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "active", "restarting", "pid", "since"),
    [
        ("RUNNING pid 10379, uptime 0:04:37", "running", False, 10379, "2026-11-23T19:17:35Z"),
        ("STARTING", "starting", False, None, None),
        ("BACKOFF Exited too quickly (process log may have details)", "starting", True, None, None),
        ("BACKOFF can't find command '/nonexistent/engine'", "starting", True, None, None),
        ("FATAL Exited too quickly (process log may have details)", "failed", False, None, None),
        ("EXITED Nov 23 07:22 PM", "failed", False, None, None),
        ("UNKNOWN", "failed", False, None, None),
        ("STOPPED Not started", "stopped", False, None, None),
        ("STOPPING", "stopped", False, None, None),
    ],
)
def test_supervisor(words, active, restarting, pid, since):
    wanted = {"active": active, "restarting": restarting, "restarts": None, "pid": pid, "since": since, "detail": words}
    assert parse_info(info(words)) == wanted


def test_a_process_that_starts_has_no_pid_yet():
    assert parse_info(dict(info("STARTING"), pid=7))["pid"] is None


def test_supervisor_without_the_program():
    assert (parse_info(None)["active"], parse_info(None)["detail"]) == ("absent", "no such program")


@pytest.mark.parametrize("name", ["-x", "--help", "a b", "a*", "", "a\n", "../x", "$(id)"])
def test_names_that_are_options_or_patterns(name):
    with pytest.raises(Failure, match="is not a service's name"):
        check_name(name)


def test_names():
    for name in ("dsdeploy-llama_cpp", "vllm@node-1.service", "group:worker"):
        assert check_name(name) == name


# --- logs


@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 99])
def test_tail_of_a_short_file(tmp_path, count, end):
    path = tmp_path / "log"
    path.write_text("one\ntwo 木\nthree" + end)
    assert tail_file(str(path), count) == ["one", "two 木", "three"][max(0, 3 - count) :]


def test_tail_of_nothing(tmp_path):
    path = tmp_path / "log"
    path.write_text("")
    assert tail_file(str(path), 5) == []


def test_tail_reads_from_the_end_only(tmp_path, monkeypatch):
    path = tmp_path / "log"
    path.write_bytes(b"x" * 3_000_000 + b"\n" + b"line\n" * 200_000)
    read = []

    class Counted:
        def __init__(self, handle):
            self.handle = handle

        def __enter__(self):
            return self

        def __exit__(self, *args):
            self.handle.close()

        def seek(self, *args):
            return self.handle.seek(*args)

        def read(self, size):
            read.append(size)
            return self.handle.read(size)

    monkeypatch.setattr(module, "open", lambda *args: Counted(open(*args)), raising=False)
    assert tail_file(str(path), 3) == ["line"] * 3
    assert sum(read) <= 65536
    read.clear()
    path.write_bytes(b"y" * 3_000_000)
    (line,) = tail_file(str(path), 3, limit=200_000)
    assert len(line) == sum(read) == 200_000


def test_lines_look_as_on_a_terminal(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"\x1b[32mINFO\x1b[0m ready\nLoading:  10%\rLoading: 100%\r\n")
    assert tail_file(str(path), 5) == ["INFO ready", "Loading: 100%"]


def test_log_errors(tmp_path):
    with pytest.raises(Failure, match="absent.log: No such file or directory"):
        service_log("x", "supervisor", str(tmp_path / "absent.log"))
    with pytest.raises(Failure, match="log must name the file"):
        service_log("x", "supervisor")


# --- the programs


def program(path, text, code=0):
    """A program that prints `text`, exits with `code` and writes its arguments and TZ beside it."""
    path.write_text(f'#!/bin/sh\necho "$TZ" "$@" >{path}.args\ncat <<\'EOF\'\n{text}\nEOF\nexit {code}\n')
    path.chmod(0o755)
    return str(path)


def test_supervisord_is_asked(tmp_path):
    with StandinSupervisor(tmp_path) as supervisord:
        supervisord.says("bad", "FATAL", "Exited too quickly")
        assert service_state("bad", "supervisor", str(supervisord.config))["active"] == "failed"
        assert service_state("nope", "supervisor", str(supervisord.config))["detail"] == "no such program"
    state = service_state("bad", "supervisor", str(supervisord.config))
    assert (state["active"], "supervisord does not run" in state["detail"]) == ("stopped", True)
    supervisord.config.unlink()
    state = service_state("bad", "supervisor", str(supervisord.config))
    assert (state["active"], state["detail"]) == ("absent", f"{supervisord.config} is not there")


def test_a_socket_of_somebody_else(tmp_path):
    """What answers is no supervisord: one line, and no state."""
    with StandinSupervisor(tmp_path) as supervisord:
        supervisord.server.RequestHandlerClass.rpc_paths = ("/elsewhere",)
        try:
            with pytest.raises(Failure, match="supervisord cannot be asked over .*: Not Found") as said:
                service_state("x", "supervisor", str(supervisord.config))
        finally:
            supervisord.server.RequestHandlerClass.rpc_paths = ("/RPC2",)
    assert "\n" not in str(said.value)


def test_systemctl_and_journalctl_are_called(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    program(tmp_path / "systemctl", systemctl("active", "running", pid=94))
    assert service_state("x", "systemd")["active"] == "running"
    assert (tmp_path / "systemctl.args").read_text().split() == ["UTC", "show", "-p", module.PROPERTIES, "x"]
    program(tmp_path / "journalctl", "2026-11-23T19:42:50+0000 h x[1]: hello")
    assert service_log("x", "systemd", None, 7) == ["2026-11-23T19:42:50+0000 h x[1]: hello"]
    wanted = ["-u", "x", "-n", "7", "--no-pager", "-o", "short-iso"]
    assert (tmp_path / "journalctl.args").read_text().split()[-7:] == wanted


def test_no_systemd_here(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = tmp_path / "systemctl"
    for words, active in (
        ("System has not been booted with systemd as init system (PID 1). Can't operate.", "absent"),
        # systemd 257
        ("Failed to connect to system scope bus via local transport: No such file or directory", "absent"),
        ("Failed to connect to bus: No such file or directory", "absent"),
        ("Failed to connect to bus: Operation not permitted", None),
    ):
        path.write_text(f'#!/bin/sh\necho "{words}" >&2\nexit 1\n')
        path.chmod(0o755)
        if active:
            assert service_state("x", "systemd")["active"] == active
        else:
            with pytest.raises(Failure, match="Operation not permitted"):
                service_state("x", "systemd")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert service_state("x", "systemd")["detail"] == "systemctl is not there"
    with pytest.raises(Failure, match="journalctl cannot be run"):
        service_log("x", "systemd")


def test_a_manager_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(module, "TIMEOUT", 0.3)
    (tmp_path / "systemctl").write_text("#!/bin/sh\nsleep 20\n")
    (tmp_path / "systemctl").chmod(0o755)
    with pytest.raises(Failure, match="did not answer"):
        service_state("x", "systemd")


# --- the watch


def looks(*outputs, step=1.0):
    """What a watch says of states seen one after the other, `step` seconds apart."""
    watch = Watch()
    return [watch.see(output, number * step) for number, output in enumerate(outputs)]


def sysd(*args, **kwargs):
    return parse_systemctl(systemctl(*args, **kwargs))


def sup(line):
    return parse_info(info(line))


RUNNING = sysd("active", "running", pid=5)
FAILED = sysd("failed", "failed", "exit-code", 0, 0, 1, 3)
RESTARTING = [sysd("activating", "auto-restart", "exit-code", n, 0, 1, 3) for n in range(4)]
RERUNNING = [sysd("active", "running", restarts=n, pid=10 + n) for n in range(4)]


def test_a_loading_service_is_waited_for():
    assert looks(*[sysd("activating", "start-post", pid=5)] * 50) == [None] * 50
    assert looks(*[sup("STARTING")] * 5, *[sup("RUNNING   pid 5, uptime 0:00:05")] * 50) == [None] * 55


def test_a_failed_service_is_given_up_once_it_stays_so():
    assert looks(RUNNING, FAILED, FAILED, FAILED, FAILED) == [None] * 4 + [
        "the service is failed: failed (failed), exit-code, exit status 3"
    ]
    stopped = sup("STOPPED   Not started")
    assert looks(stopped, stopped, stopped, stopped)[-1] == "the service is stopped: STOPPED Not started"


def test_an_absent_service_is_given_up_at_once():
    assert looks(sysd("inactive", "dead", load="not-found")) == ["the service is absent: no such unit"]


def test_an_exit_that_supervisor_is_about_to_mend_is_forgiven():
    exited, up = sup("EXITED    Nov 23 07:22 PM"), sup("RUNNING   pid 6, uptime 0:00:05")
    assert looks(sup("RUNNING   pid 5, uptime 0:00:05"), exited, sup("STARTING"), up, up) == [None] * 5


def test_one_restart_is_forgiven_the_second_is_not():
    assert looks(RERUNNING[0], RESTARTING[0], RERUNNING[1], RERUNNING[1]) == [None] * 4
    verdicts = looks(RERUNNING[0], RESTARTING[0], RERUNNING[1], RESTARTING[1], RERUNNING[2])
    assert verdicts == [None] * 4 + ["the service keeps dying: activating (auto-restart), exit-code, exit status 3"]


def test_restarts_before_the_watch_do_not_count():
    assert looks(RERUNNING[3], RERUNNING[3], RERUNNING[3]) == [None] * 3


def test_supervisor_does_not_count_but_the_watch_does():
    back, up = sup("BACKOFF   Exited too quickly"), "RUNNING   pid {}, uptime 0:00:05"
    assert (
        looks(sup("STARTING"), back, sup("STARTING"), back)[-1] == "the service keeps dying: BACKOFF Exited too quickly"
    )
    one, two, three = (sup(up.format(pid)) for pid in (5, 6, 7))
    assert looks(one, two, three)[-1].startswith("the service keeps dying")
    assert looks(one, one, two, two) == [None] * 4


def test_a_process_that_dies_too_fast_to_be_seen():
    back = sup("BACKOFF   can't find command '/nonexistent/engine'")
    verdicts = looks(*[back] * 11)
    assert verdicts[:10] == [None] * 10
    assert verdicts[10] == "the service keeps dying: BACKOFF can't find command '/nonexistent/engine'"


def test_has_process():
    assert has_process(RUNNING) and has_process(sup("STARTING"))
    assert not has_process(FAILED) and not has_process(RESTARTING[0]) and not has_process(sup("STOPPED   x"))
