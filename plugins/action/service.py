# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Passes the definition on as one text, which Ansible then keeps out of logs as a whole.

    Of a dict that is marked as a secret each value would be masked wherever it occurs: "1" would vanish everywhere.
    """

    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if isinstance(arguments.get("definition"), dict):
            definition = dict(arguments["definition"])
            arguments["definition"] = json.dumps(definition, default=str)
        else:
            return dict(result, failed=True, msg="service: definition is not a dict", error_kind="usage")
        result.update(
            self._execute_module(module_name="dsdeploy.llm.service", module_args=arguments, task_vars=task_vars)
        )
        return result
