# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""host_watch, with each of its looks told as it comes, and the host tried again when it is gone."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import one_line
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import live_lines, look_line

display = Display()

SOCKET = "DSDEPLOY_WATCH_SOCKET"
MARK = b"DSDEPLOY_LOOK "
# s without a look until the connection counts as lost: a host whose network was cut says nothing.
START_S, SILENT_S, SILENT_INTERVALS = 60.0, 15.0, 5
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0)  # before a host is tried again


class Gone(Exception):
    """Who wanted the looks is not there any more."""


class Sink:
    """Where looks go: datagrams of JSON to the socket of the command, or lines for a person."""

    def __init__(self, host: str, path: str | None) -> None:
        self._host, self._path = host, path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if path else None
        if self._socket:
            self._socket.setblocking(False)

    def look(self, look: dict[str, Any]) -> None:
        self._send({"host": self._host, "look": look}, lambda: look_line.line(self._host, look))

    def problem(self, text: str) -> None:
        self._send({"host": self._host, "problem": text}, lambda: f"{self._host}: {text}")

    def _send(self, message: dict[str, Any], text: Any) -> None:
        if not self._socket:
            display.display(text())
            return
        try:
            self._socket.sendto(json.dumps(message).encode(), self._path)
        except BlockingIOError:
            pass  # the next look is as good
        except OSError:
            raise Gone() from None


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        self._sink = Sink(task_vars["inventory_hostname"], os.environ.get(SOCKET))
        wanted = self._task.args.get("duration_s")
        end = None if wanted is None else time.monotonic() + float(wanted)
        failed = 0
        with contextlib.suppress(Gone):
            while True:
                left = {} if end is None else {"duration_s": max(0.0, end - time.monotonic())}
                done, looks = self._looks(dict(self._task.args, **left), task_vars)
                if done.get("error_kind") == "usage":
                    return done
                problem = _problem(done) if done.get("failed") or done.get("unreachable") else None
                if end is not None and time.monotonic() >= end - 0.5:
                    result.update(done)
                    return result
                failed = failed + 1 if problem and not looks else 0
                if problem:
                    self._sink.problem(one_line(problem))
                    self._pause(PAUSES_S[min(failed, len(PAUSES_S)) - 1])
                elif not looks:
                    # A connection that starts no program on this machine: it gives a look when all is over.
                    if done.get("look"):
                        self._sink.look(done["look"])
                    self._task.args["duration_s"] = 0
                    self._pause(float(self._task.args.get("interval_s") or 2))
        return result

    def _pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def _looks(self, arguments: dict[str, Any], task_vars: Any) -> tuple[dict[str, Any], int]:
        """One run of the module: (its result, or what went wrong in the shape of one; how many looks came of it)."""
        seen = _Seen(self._sink, float(arguments.get("interval_s") or 2))
        try:
            with live_lines.taken(MARK, seen.line) as programs, seen.guarded(programs):
                done = self._execute_module(module_args=arguments, task_vars=task_vars)
        except AnsibleConnectionFailure as failure:
            done = {"unreachable": True, "msg": f"cannot be reached: {one_line(failure)}"}
        except AnsibleError as failure:
            done = {"failed": True, "msg": one_line(failure)}
        if seen.gone:
            raise Gone()
        if seen.silent:
            done = {"unreachable": True, "msg": "cannot be reached: it sends nothing any more"}
        if done.get("unreachable"):
            # A master connection that hangs would hold up the next one.
            with contextlib.suppress(Exception):
                self._connection.reset()
        return done, seen.count


def _problem(done: dict[str, Any]) -> str:
    """What went wrong. Of a module that did not even start Ansible says no more than that it said nothing."""
    said = str(done.get("module_stderr") or "").strip().splitlines() or [str(done.get("msg") or "it said nothing")]
    return said[-1 if said[0].startswith("Traceback") else 0]


class _Seen:
    """The looks of one run of the module, and who ends it when they stop coming."""

    def __init__(self, sink: Sink, interval_s: float) -> None:
        self._sink = sink
        self._patience = max(SILENT_S, SILENT_INTERVALS * interval_s)
        self.count = 0
        self.gone = self.silent = False
        self._heard = time.monotonic()
        self._over = threading.Event()

    def line(self, line: bytes) -> None:
        try:
            look = foreign.loads(line)
        except ValueError:
            return
        if not isinstance(look, dict):
            return
        self.count += 1
        self._heard = time.monotonic()
        try:
            self._sink.look(look)
        except Gone:
            self.gone = True

    @contextlib.contextmanager
    def guarded(self, programs: live_lines.Programs):
        thread = threading.Thread(target=self._guard, args=(programs,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _guard(self, programs: live_lines.Programs) -> None:
        while not self._over.wait(0.5):
            silence = time.monotonic() - self._heard
            self.silent = silence > (self._patience if self.count else START_S)
            if self.gone or self.silent:
                programs.kill()
                return
