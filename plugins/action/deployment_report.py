# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.dsdeploy.llm.plugins.plugin_utils.run_lock import LockingAction, this_run


class ActionModule(LockingAction):
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        args = dict(self._task.args, holder=this_run())
        result.update(
            self._execute_module(module_name="dsdeploy.llm.deployment_report", module_args=args, task_vars=task_vars)
        )
        if result.get("unlocked") and self._connection.transport != "local":
            self.released(task_vars)
        return result
