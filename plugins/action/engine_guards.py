# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os

from ansible.plugins.action import ActionBase
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import api_key as api_keys
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import guards
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.engines import gpu_problem
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.value_rules import VALUES, value_problems


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(
            argument_spec={
                "role": {"type": "str", "required": True, "choices": list(guards.GUARDS)},
                "host": {"type": "str", "default": "127.0.0.1"},
                "api_key": {"type": "str", "default": "", "no_log": True},
                "has_tls": {"type": "bool", "default": False},
                "extra_args": {"type": "raw", "default": []},
                "environment": {"type": "dict", "default": {}},
                "several_hosts": {"type": "bool", "default": False},
                "gpus": {
                    "type": "dict",
                    "options": {
                        "nvidia_smi": {"type": "dict", "required": True},
                        "expected": {"type": "int", "default": 0},
                        "wanted": {"type": "bool", "required": True},
                        "instead": {"type": "str", "required": True},
                    },
                },
                "values": VALUES,
            }
        )
        wrong = value_problems(args["values"])
        if wrong:
            return dict(result, failed=True, msg="; ".join(wrong), error_kind="usage")
        role, extra = args["role"], args["extra_args"]
        hint = "Leave them to the variables of role %s, which are checked." % role
        found = []
        if isinstance(extra, str):
            # Ansible's own check takes a string for a list, and would make a word of every letter.
            found.append("%s_extra_args is the string %r, not a list" % (role, extra))
            hint = 'Write a list, one word an element, as in -e \'{"%s_extra_args": ["--seed", "1"]}\'.' % role
        else:
            found += guards.problems(role, dict(args, extra_args=[str(word) for word in extra]))
        wrong = api_keys.problem(args["api_key"])
        if wrong:
            found.append("%s_api_key: %s" % (role, wrong))
            hint = "Choose a key of letters, digits and signs, without spaces and without a line end."
        address = guards.address_problem(role, args["host"], bool(args["api_key"]), args["has_tls"])
        if address:
            found.append(address.msg)
            hint = address.hint
        if found:
            return dict(result, failed=True, **Failure(found, hint=hint, error_kind="usage").fields())
        gpus = args["gpus"] or {}
        if gpus.get("wanted"):
            missing = gpu_problem(gpus["nvidia_smi"], gpus["expected"], gpus["instead"])
            if missing:
                return dict(result, failed=True, **missing.fields())
        return dict(result, changed=False, role_files=os.path.join(task_vars.get("role_path", ""), "files"))
