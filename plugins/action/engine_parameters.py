# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import asked
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure


class ActionModule(ActionBase):
    """Without the help of an installed engine there is nothing to read on the host: it is asked here."""

    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        if self._task.args.get("help_file"):
            return dict(result, **self._execute_module(task_vars=task_vars))
        _result, args = self.validate_argument_spec(argument_spec=asked.OPTIONS)
        try:
            return dict(result, changed=False, **asked.look(args))
        except Failure as failure:
            return dict(result, failed=True, problems=failure.problems, **failure.fields())
