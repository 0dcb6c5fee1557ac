# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""bench, with its progress shown, and its result kept on the controller."""

from __future__ import annotations

import os
import shlex

from ansible_collections.dsdeploy.llm.plugins.plugin_utils import bench_results
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.progress_action import ProgressAction

# Where this file exists, the measurement ends, and what it has is kept: how the command passes on a Ctrl-C.
STOP_FILE = "DSDEPLOY_STOP_FILE"
_HINT = "Make room there, or name another directory with --results."


class ActionModule(ProgressAction):
    def _run_job(self, task_vars):
        host, directory = task_vars["inventory_hostname"], self._task.args.get("results_dir") or ""
        try:
            # Before a load is put on anything.
            directory = directory or bench_results.default_directory()
            bench_results.require_place(directory, host)
        except OSError as error:
            said = f"a measurement could not be kept: {error.filename or directory}: {error.strerror or error}"
            return {"failed": True, "msg": said, "hint": _HINT, "error_kind": "preflight"}
        result = super()._run_job(task_vars)
        if result.get("bench"):
            try:
                result["path"] = bench_results.save(directory, host, result["bench"])
            except OSError as error:
                said = f"the measurement could not be kept: {error.filename or directory}: {error.strerror or error}"
                result.update(failed=True, msg="; ".join(filter(None, [result.get("msg"), said])), path="")
                result.setdefault("hint", _HINT)
        return result

    def _follow(self, host, job, progress):
        self._progress = shlex.quote(progress)
        super()._follow(host, job, progress)

    def _poll(self, command):
        # The module looks at both: a load that nobody waits for any more must not go on.
        progress = self._progress
        touch = f": > {progress}.alive; "
        if os.path.exists(os.environ.get(STOP_FILE) or os.devnull + "/none"):
            touch += f": > {progress}.stop; "
        ended, report, process = super()._poll(touch + command)
        if ended:
            self._low_level_execute_command(f"rm -f {progress}.alive {progress}.stop")
        return ended, report, process
