# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""model_fetch, with its progress shown while it runs."""

from __future__ import annotations

from ansible_collections.dsdeploy.llm.plugins.plugin_utils.progress_action import ProgressAction


class ActionModule(ProgressAction):
    def _run_job(self, task_vars):
        # A model that is complete needs no job in the background, which takes several more round trips.
        known = self._execute_module(module_args=dict(self._task.args, probe=True), task_vars=task_vars)
        if known.get("failed") or known.get("complete", True):
            return known
        return super()._run_job(task_vars)
