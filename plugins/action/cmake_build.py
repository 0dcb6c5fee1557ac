# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""cmake_build, with its progress shown while it builds."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.progress_action import ProgressAction


class ActionModule(ProgressAction):
    def run(self, tmp=None, task_vars=None):
        if self._task.args.get("state") != "probed":
            return super().run(tmp, task_vars)
        # A look takes no time to show.
        result = ActionBase.run(self, tmp, task_vars)
        result.update(self._execute_module(task_vars=task_vars))
        self._remove_tmp_path(self._connection._shell.tmpdir)
        return result
