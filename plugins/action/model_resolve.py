# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

from ansible.plugins.action import ActionBase
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.catalog import entry_of_config, resolve
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.arguments import checked
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.value_rules import VALUES, value_problems


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        spec = dict(
            name=dict(type="str", required=True),
            engine=dict(type="str", default=""),
            catalog=dict(type="dict", required=True),
            extra=dict(type="dict", default={}),
            config_urls=dict(type="bool", default=False),
            values=VALUES,
            numbers=dict(type="dict", default={}),
        )
        args = checked(self, spec, tables=("catalog", "extra", "numbers"))
        try:
            if args["config_urls"] and re.match(r"https?://", args["name"]):
                model = entry_of_config(args["name"])
            else:
                model = resolve(args["catalog"], args["extra"], args["name"], args["engine"] or None)
        except Failure as error:
            return dict(result, failed=True, msg="\n".join(error.problems), hint=error.hint, error_kind="usage")
        problems = value_problems(args["values"])
        if problems:
            return dict(result, failed=True, msg="; ".join(problems), error_kind="usage")
        if "architecture" not in model and args["numbers"]:
            # The only case in which the host is asked.
            arguments = dict(args["numbers"], model=model)
            read = self._execute_module("dsdeploy.llm.model_numbers", module_args=arguments, task_vars=task_vars)
            if read.get("failed"):
                return dict(result, **read)
            return dict(result, **dict(read, changed=False))
        return dict(result, changed=False, model=model)
