# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible.plugins.action import ActionBase

KINDS = ["usage", "preflight", "service", "verify", "reboot"]


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(
            argument_spec={
                "msg": {"type": "str", "required": True},
                "hint": {"type": "str", "default": ""},
                "error_kind": {"type": "str", "choices": KINDS, "required": True},
                "log_tail": {"type": "list", "elements": "str", "default": []},
            }
        )
        return dict(result, failed=True, **args)
