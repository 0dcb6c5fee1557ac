# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""chat_probe, with the wait for an engine that takes minutes to start shown while it waits."""

from __future__ import annotations

from ansible_collections.dsdeploy.llm.plugins.plugin_utils.progress_action import ProgressAction


class ActionModule(ProgressAction):
    def _run_job(self, task_vars):
        # An engine that is up needs no job in the background, which takes several more round trips.
        known = self._execute_module(module_args=dict(self._task.args, wait=False), task_vars=task_vars)
        if known.pop("waiting", False):
            return super()._run_job(task_vars)
        return known
