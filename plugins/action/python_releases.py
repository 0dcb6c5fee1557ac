# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible_collections.dsdeploy.llm.plugins.action import gang
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import gangs


class ActionModule(ActionBase):
    """What a host of a gang has to know of the first one is registered on the controller."""

    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        if boolean(self._task.args.get("of_gang", False)):
            hostvars = task_vars["hostvars"]
            about = hostvars[task_vars["inventory_hostname"]][gang.LOOKED]["gang"]
            together = gangs.Gang(about["name"], tuple(about["hosts"]))
            try:
                gangs.require_answer(together, hostvars[together.head].get(gang.ASKED) or {})
            except Failure as failure:
                return dict(result, failed=True, **failure.fields())
        return dict(result, **self._execute_module(task_vars=task_vars))
