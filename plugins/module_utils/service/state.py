# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""State and last log lines of a service under systemd or supervisor.

A state is `{active, restarting, restarts, pid, since, detail}`: `active` is running, starting, stopped, failed or
absent; `restarting` (starting only): the process died and the manager is about to start it again; `restarts`: the
manager's count (None: supervisor keeps none); `pid` of the main process or None; `since`: UTC, ISO 8601, or None;
`detail`: the manager's own words on one line.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from datetime import datetime, timezone
from typing import Any, Dict, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.process import Answer, run
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.supervisor import Daemon, NotRunning

AUTOSTART = "autostart=true"  # in the file of a program that starts with supervisord

TIMEOUT = 15.0  # s; a manager that does not answer must not hold up its caller
MAX_TAIL = 1024 * 1024  # bytes of a log read at most

PROPERTIES = "LoadState,ActiveState,SubState,Result,NRestarts,MainPID,ExecMainCode,ExecMainStatus,StateChangeTimestamp"


def _line(text: str) -> str:
    return " ".join(text.split())[:200]


def check_name(name: str) -> str:
    """The name itself; Failure for one that the managers would take as an option or a pattern."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:@\\-]*", name):
        raise Failure(f"name: '{_line(name)}' is not a service's name", error_kind="")
    return name


def _state(active: str, detail: str, **more: Any) -> Dict[str, Any]:
    state = {"active": active, "restarting": False, "restarts": None, "pid": None, "since": None, "detail": detail}
    state.update(more)
    return state


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


# --- systemd


def parse_systemctl(text: str) -> Dict[str, Any]:
    """The state in the output of `TZ=UTC systemctl show -p PROPERTIES NAME` (org.freedesktop.systemd1(5))."""
    values = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
    active, sub, load = values.get("ActiveState", ""), values.get("SubState", ""), values.get("LoadState", "")
    if not active:
        raise Failure(f"systemctl show: no ActiveState in: {_line(text)}", error_kind="")
    if load == "not-found" and active == "inactive":
        return _state("absent", "no such unit")
    more: Dict[str, Any] = {"restarting": sub.startswith("auto-restart")}
    if values.get("NRestarts", "").isdigit():
        more["restarts"] = int(values["NRestarts"])
    if values.get("MainPID", "0") not in ("0", ""):
        more["pid"] = int(values["MainPID"])
    try:
        stamp = values.get("StateChangeTimestamp", "").split()  # "Mon 2026-11-23 19:22:13 UTC", empty before the first
        more["since"] = _iso(datetime.strptime(" ".join(stamp[1:3]), "%Y-%m-%d %H:%M:%S"))
    except ValueError:
        pass
    detail = f"{active} ({sub})"
    if load not in ("loaded", "not-found"):
        detail += f", unit is {load}"
    failed = values.get("Result", "success") != "success"
    if failed:
        detail += f", {values['Result']}" + _exit_text(values.get("ExecMainCode"), values.get("ExecMainStatus"))
    if (sub == "start-post" and failed and not more.get("pid")) or load in ("bad-setting", "error"):
        # An engine that dies while its start check still waits: systemd waits for the check, and shows "activating".
        return _state("failed", detail, **more)
    names = {"active": "running", "reloading": "running", "activating": "starting", "failed": "failed"}
    return _state(names.get(active, "stopped"), detail, **more)


def _exit_text(code: Optional[str], status: Optional[str]) -> str:
    """The end of the last main process: `code` is CLD_EXITED 1, CLD_KILLED 2 or CLD_DUMPED 3 of waitid(2)."""
    if code == "1":
        return f", exit status {status}"
    if code in ("2", "3"):
        try:
            return f", killed by {signal.Signals(int(status or '')).name}"
        except ValueError:
            return f", killed by signal {status}"
    return ""


def parse_journal(text: str) -> List[str]:
    """The log lines of `journalctl` without its own remarks (`-- No entries --`, `-- Boot … --`)."""
    return [clean(line) for line in text.splitlines() if not line.startswith("-- ")]


# --- supervisor


def parse_info(info: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    """The state in what supervisord's getProcessInfo says of a program; None: it has none of that name.

    Source: http://supervisord.org/subprocess.html, api.html.
    """
    if info is None:
        return _state("absent", "no such program")
    word = str(info.get("statename", ""))
    detail = _line(f"{word} {info.get('description') or info.get('spawnerr') or ''}")
    if word == "RUNNING":
        since = _iso(datetime.fromtimestamp(info.get("start", 0), timezone.utc)) if info.get("start") else None
        return _state("running", detail, pid=info.get("pid") or None, since=since)
    if word in ("STARTING", "BACKOFF"):
        return _state("starting", detail, restarting=word == "BACKOFF")
    if word in ("STOPPED", "STOPPING"):
        return _state("stopped", detail)
    return _state("failed", detail)  # FATAL, EXITED (the engine ended and is not restarted), UNKNOWN


# --- both


def clean(line: str) -> str:
    """A log line as a terminal would have left it: no colours, and of a progress bar only its last state."""
    line = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).rstrip("\r")
    return line.rpartition("\r")[2]


def tail_file(path: str, count: int, limit: int = MAX_TAIL) -> List[str]:
    """The last `count` lines of a file, reading from its end and never more than `limit` bytes. Raises OSError."""
    with open(path, "rb") as handle:
        start = handle.seek(0, os.SEEK_END)
        data = b""
        # One newline more than lines: the first line is then known to be whole. The last may lack its newline.
        while start > 0 and data.count(b"\n") <= count and len(data) < limit:
            step = min(start, 65536, limit - len(data))
            start -= step
            handle.seek(start)
            data = handle.read(step) + data
    lines = data.decode("utf-8", "replace").split("\n")
    if lines[-1] == "":
        lines.pop()
    return [clean(line) for line in lines[-count:]] if count > 0 else []


def _run(argv: List[str], **environment: str) -> Answer:
    done = run(argv, TIMEOUT, **environment)
    if done.timed_out:
        raise Failure(f"{argv[0]} did not answer within {TIMEOUT:.0f} s", error_kind="")
    if done.rc is None:
        raise Failure(f"{argv[0]} cannot be run: {_line(done.stderr)}", error_kind="")
    return done


def service_state(name: str, manager: str, supervisor_config: str = "") -> Dict[str, Any]:
    """The state now; `manager` is systemd or supervisor. A manager that is not there has no services: absent.

    Raises Failure.
    """
    check_name(name)
    if manager == "systemd":
        if not shutil.which("systemctl"):
            return _state("absent", "systemctl is not there")
        done = _run(["systemctl", "show", "-p", PROPERTIES, name], TZ="UTC")
        if done.rc and re.search(
            # From systemd 257 on "to system scope bus via local transport".
            r"not been booted with systemd|connect to (?:\w+ scope )?bus(?: via local transport)?: "
            r"(No such file|Host is down)",
            done.stderr,
        ):
            return _state("absent", "systemd does not run here")
        if done.rc:
            raise Failure(f"systemctl show: {_line(done.stderr)}", error_kind="")
        return parse_systemctl(done.stdout)
    config = supervisor_config or places.SUPERVISOR_CONFIG
    if not os.path.exists(config):
        return _state("absent", f"{config} is not there")
    try:
        return parse_info(Daemon(config).info(name))
    except NotRunning as error:
        return _state("stopped", str(error))


def starts_with_host(name: str, manager: str, supervisor_config: str = "") -> bool:
    """Whether its manager starts the service by itself: one that is not to was stopped on purpose."""
    check_name(name)
    if manager == "systemd":
        return _run(["systemctl", "is-enabled", "--quiet", name]).rc == 0
    try:
        with open(program_file(name, supervisor_config), encoding="utf-8") as handle:
            return AUTOSTART in handle.read()
    except FileNotFoundError:
        return False


def program_file(name: str, supervisor_config: str = "") -> str:
    """The file that makes a service a program of supervisor."""
    if not supervisor_config or supervisor_config == places.SUPERVISOR_CONFIG:
        return f"{places.SUPERVISOR_PROGRAMS}/{name}.conf"
    return os.path.join(os.path.dirname(supervisor_config), "conf.d", f"{name}.conf")


def service_log(name: str, manager: str, log: Optional[str] = None, count: int = 50) -> List[str]:
    """The last `count` lines: of the file `log` if one is given, else of systemd's journal. Raises Failure."""
    check_name(name)
    if log:
        try:
            return tail_file(log, count)
        except OSError as exc:
            raise Failure(f"{log}: {exc.strerror}", error_kind="") from exc
    if manager == "supervisor":
        raise Failure("supervisor keeps no journal: log must name the file that the service writes", error_kind="")
    done = _run(["journalctl", "-u", name, "-n", str(count), "--no-pager", "-o", "short-iso"])
    if done.rc:
        raise Failure(f"journalctl: {_line(done.stderr)}", error_kind="")
    return parse_journal(done.stdout)


class Watch:
    """Sees the states of one service, one after the other, and knows when waiting for it is pointless.

    One restart is forgiven (a peer that was not up yet, a process that a test killed); an engine that dies a second
    time under our eyes will not come up.
    """

    # s without a process. Both managers show a crash as stopped, exited or deactivating for a moment before they say
    # that they will restart; and a process that dies at once may never be seen between two restarts.
    DOWN, RESTARTING = 2.5, 10.0

    def __init__(self) -> None:
        self.last: Optional[Dict[str, Any]] = None
        self.deaths = 0
        self._down_since: Optional[float] = None
        self._end = ""  # how the manager described the last death; gone from its words once it restarts the service

    def see(self, state: Dict[str, Any], now: float) -> Optional[str]:
        """Why waiting is pointless, on one line, or None. `now`: time.monotonic(), in s."""
        last, self.last = self.last, state
        if last:
            self.deaths += _deaths_between(last, state)
        if has_process(state):
            self._down_since = None
        else:
            self._down_since = now if self._down_since is None else self._down_since
            self._end = state["detail"]
        down = 0.0 if self._down_since is None else now - self._down_since
        if self.deaths > 1 or (state["restarting"] and down >= self.RESTARTING):
            return f"the service keeps dying: {self._end or state['detail']}"
        if state["active"] == "absent" or (state["active"] in ("stopped", "failed") and down >= self.DOWN):
            return f"the service is {state['active']}: {state['detail']}"
        return None


def has_process(state: Dict[str, Any]) -> bool:
    """Whether the service has a process that can answer, as far as its manager knows."""
    return state["active"] in ("running", "starting") and not state["restarting"]


def _deaths_between(last: Dict[str, Any], state: Dict[str, Any]) -> int:
    if state["restarts"] is not None and last["restarts"] is not None:
        return max(0, state["restarts"] - last["restarts"])
    # supervisor counts nothing and shows a pid only once the process has stayed up.
    died = last["pid"] is not None and state["pid"] != last["pid"]
    return int(died or (state["restarting"] and not last["restarting"]))
