# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""uv_venv, with its progress shown while it installs."""

from __future__ import annotations

from ansible_collections.dsdeploy.llm.plugins.plugin_utils.progress_action import ProgressAction


class ActionModule(ProgressAction):
    def _run_job(self, task_vars):
        known = self._execute_module(module_args=dict(self._task.args, probe=True), task_vars=task_vars)
        if known.get("failed") or known["complete"] or self._task.args.get("probe"):
            return known
        return super()._run_job(task_vars)
