# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.value_rules import KINDS, value_problem


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        options = dict(
            name=dict(type="str", required=True),
            value=dict(type="raw", required=True),
            kind=dict(type="str", choices=list(KINDS)),
            words=dict(type="list", elements="str", default=[]),
        )
        _result, args = self.validate_argument_spec(
            argument_spec=dict(values=dict(type="list", elements="dict", required=True, options=options))
        )
        found = [value_problem(each["name"], each["value"], each["kind"], each["words"]) for each in args["values"]]
        problems = [problem for problem in found if problem]
        if problems:
            result.update(failed=True, msg="; ".join(problems), error_kind="usage")
        return dict(result, changed=False)
