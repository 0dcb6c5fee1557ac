# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a module so that its progress is seen while it runs: the controller's half of module_utils/ground/progress.py.

An action plugin for the module NAME is three lines in plugins/action/NAME.py:

    from ansible_collections.dsdeploy.llm.plugins.plugin_utils.progress_action import ProgressAction

    class ActionModule(ProgressAction):
        pass

The module runs as an asynchronous job of its own on the target. One remote command a second (at first quicker) tells
whether it has ended and how far it is. What is shown, by Display, so that it reaches the user under any callback:

- with DSDEPLOY_PROGRESS=json in the controller's environment one line a second:
  DSDEPLOY_PROGRESS {"host":…,"task":…,"what":…,"done":…,"total":…,"unit":"B","rate":…,"eta_s":…}
- else a line for a person every ten seconds: "gpu1: merge 12.3/404.0 GB, 1.2 GB/s, ETA 5 min".

The job belongs to the target. When the controller is stopped or loses its connection for good, the job goes on to its
end there; a module that must not run twice keeps a lock. A lost poll is tried again for five minutes. In check mode,
with `async` on the task, and over connections that bring their own asynchrony, the module runs as any other.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import time
import uuid
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import ENVIRONMENT

display = Display()

SWITCH = "DSDEPLOY_PROGRESS"
PREFIX = "DSDEPLOY_PROGRESS "
JOB_LIMIT_S = 30 * 24 * 3600  # async needs a limit
FIRST_POLL_S = 0.1
POLL_S = 1.0
TELL_S = 10.0
LOST_S = 300.0  # of polls that fail, until the host counts as lost
DEAD_S = 15.0  # without a result of a job whose process is gone
SILENT_S = 60.0  # without a result of a job that has not said what its process is

_MARK = "--dsdeploy--"
# One remote command: the job's file, the progress file, and whether the process it names lives; a mark before, between
# and behind. What a shell's start-up files print (`echo` in .bashrc) stands before the first or behind the last.
_POLL = (
    "echo; echo {mark}; cat {job} 2>/dev/null; echo; echo {mark}; cat {progress} 2>/dev/null; echo; echo {mark}; "
    "pid=$(sed -n 's/.*\"pid\": \\([0-9]*\\).*/\\1/p' {progress} 2>/dev/null); "
    'if [ -z "$pid" ]; then echo unknown; elif kill -0 "$pid" 2>/dev/null; then echo alive; else echo dead; fi; '
    "echo {mark}"
)


class JobLost(AnsibleError):
    """The job ended without leaving a result."""


def human(count: float, unit: str, whole: float | None = None) -> str:
    """`count` in the scale of `whole`: bytes in powers of 1000 with their unit, anything else as it is."""
    if unit != "B":
        return f"{count:,.0f} {unit}"
    size = count if whole is None else whole
    for name, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{count / scale:.1f} {name}"
    return f"{count:.0f} B"


def duration(seconds: float) -> str:
    """Seconds for a person."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def as_text(host: str, report: dict[str, Any]) -> str:
    """A report as a line for a person."""
    unit, done, total, rate = report["unit"], report["done"], report["total"], report["rate"]
    if total:
        amount = f"{human(done, unit, total).split(' ')[0]}/{human(total, unit)}"
    else:
        amount = human(done, unit)
    parts = [f"{host}: {report['what']} {amount}"]
    if rate:
        parts.append(f"{human(rate, unit)}/s")
    if report["eta_s"] is not None:
        parts.append(f"ETA {duration(report['eta_s'])}")
    return ", ".join(parts)


def as_json(host: str, task: str, report: dict[str, Any]) -> str:
    """A report as the JSON object that the dsdeploy command reads."""
    fields = ("what", "done", "total", "unit", "rate", "eta_s")
    message = {"host": host, "task": task, **{field: report[field] for field in fields}}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def parse(text: str) -> dict[str, Any] | None:
    """The JSON object in `text`; None where there is none, or not all of it."""
    try:
        found = foreign.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


class ProgressAction(ActionBase):
    """Base of the action plugins of modules that report progress."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        wrap_async = bool(self._task.async_val) and not self._connection.has_native_async
        if self._task.async_val or self._task.check_mode or self._connection.has_native_async:
            result.update(self._execute_module(task_vars=task_vars, wrap_async=wrap_async))
            if not wrap_async:
                self._remove_tmp_path(self._connection._shell.tmpdir)
            return result
        result.update(self._run_job(task_vars))
        return result

    def _run_job(self, task_vars):
        host = task_vars["inventory_hostname"]
        started, progress = self._start(task_vars)
        job = started.get("results_file")
        if started.get("failed") or not job:
            return started
        directory = os.path.dirname(job)
        progress = self._connection._shell.join_path(directory, progress)
        try:
            self._follow(host, job, progress)
            result = self._persist(host, lambda: self._result(started["ansible_job_id"], directory, task_vars))
        except JobLost as lost:
            result = {"failed": True, "msg": str(lost), "hint": "run it again"}
        self._low_level_execute_command(f"rm -f {shlex.quote(job)} {shlex.quote(progress)}")
        return result

    def _start(self, task_vars):
        """Start the job: (what async_wrapper answers, the name of the progress file beside the job's own)."""
        progress = f"dsdeploy-{uuid.uuid4().hex}.progress"
        # Not expanded here: the module expands ~ as async_wrapper does, as the same user.
        directory = self.get_shell_option("async_dir", default="~/.ansible_async")
        environment, limit = self._task.environment, self._task.async_val
        self._task.environment = [*(environment or []), {ENVIRONMENT: f"{directory}/{progress}"}]
        self._task.async_val = JOB_LIMIT_S
        try:
            return self._execute_module(task_vars=task_vars, wrap_async=True), progress
        finally:
            self._task.environment, self._task.async_val = environment, limit

    def _follow(self, host, job, progress):
        """Return once the job has ended; show its progress until then. Raises JobLost, AnsibleConnectionFailure."""
        command = _POLL.format(job=shlex.quote(job), progress=shlex.quote(progress), mark=_MARK)
        pause, told = FIRST_POLL_S, time.monotonic()
        patience = {"dead": DEAD_S, "unknown": SILENT_S}
        seen_alive = time.monotonic()
        shown = None
        while True:
            time.sleep(pause)
            pause = min(POLL_S, pause * 2)
            ended, report, process = self._persist(host, lambda: self._poll(command))
            if ended:
                return
            now = time.monotonic()
            if process == "alive":
                seen_alive = now
            elif now - seen_alive > patience[process]:
                raise JobLost(f"the job on {host} ended without a result: was it killed, or the host restarted?")
            if report is None or report["updated"] == shown or self._task.no_log:
                continue
            if os.environ.get(SWITCH) == "json":
                shown = report["updated"]
                display.display(PREFIX + as_json(host, self._task.get_name(), report))
            elif now - told >= TELL_S:
                told = now
                display.display(as_text(host, report))

    def _poll(self, command):
        """(whether the job has ended, its last report or None, its process: alive, dead or unknown)"""
        output = self._low_level_execute_command(command)["stdout"]
        parts = output.split(_MARK)
        if len(parts) != 5:
            raise AnsibleConnectionFailure(f"a poll brought back {output[:200]!r}")
        _before, job, report, process, _behind = parts
        job, report = parse(job), parse(report)
        # The rule of the module async_status.
        ended = job is not None and ("started" not in job or bool(job.get("finished")))
        return ended, report, process.strip()

    def _result(self, jid, directory, task_vars):
        arguments = {"jid": jid, "mode": "status", "_async_dir": directory}
        result = self._execute_module("ansible.legacy.async_status", module_args=arguments, task_vars=task_vars)
        for key in ("ansible_job_id", "started", "finished", "results_file"):
            result.pop(key, None)
        if result.get("failed") and not result.get("data", "-") and "Traceback" in str(result.get("msg")):
            # async_wrapper's own words for a module that died without one.
            raise JobLost(f"the module was killed on {task_vars['inventory_hostname']} before it could report")
        return result

    def _persist(self, host, action):
        """What `action` returns; a connection that fails is tried again for LOST_S."""
        pause, deadline = 1.0, None
        while True:
            try:
                return action()
            except AnsibleConnectionFailure as failure:
                now = time.monotonic()
                deadline = deadline or now + LOST_S
                if now > deadline:
                    raise AnsibleConnectionFailure(
                        f"lost {host} for {duration(LOST_S)}; the job goes on there: run it again later ({failure})"
                    ) from failure
                display.vv(f"{host}: a poll failed, trying again: {failure}")
                with contextlib.suppress(Exception):
                    self._connection.reset()
                time.sleep(pause)
                pause = min(10.0, pause * 2)


class ProbedAction(ProgressAction):
    """Base for modules with the option `probe`: one that has nothing to do needs no job in the background, which takes
    several more round trips."""

    def _run_job(self, task_vars):
        known = self._execute_module(module_args=dict(self._task.args, probe=True), task_vars=task_vars)
        if known.get("failed") or known.get("complete", True):
            return known
        return super()._run_job(task_vars)
