# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.engines import resolve_engine


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(
            argument_spec={"name": {"type": "str", "required": True}, "engines": {"type": "dict", "required": True}}
        )
        try:
            engine = resolve_engine(args["engines"], args["name"])
        except Failure as failure:
            return dict(result, failed=True, **failure.fields())
        return dict(result, changed=False, engine=engine)
