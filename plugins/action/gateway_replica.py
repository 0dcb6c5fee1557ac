# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible.errors import AnsibleConnectionFailure
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import replicas


class ActionModule(ActionBase):
    """The gateway is on another host than the one whose turn it is. Where that cannot be reached, Ansible would take
    the one whose turn it is for unreachable, and leave it as it is, half changed."""

    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        here = task_vars["inventory_hostname"]
        gateway = str(self._task.delegate_to or here)
        try:
            found = dict(result, **self._execute_module(task_vars=task_vars))
            if found.get("failed") and gateway != here:
                found["msg"] = "%s: %s" % (gateway, found.get("msg") or "unknown error")
            return found
        except AnsibleConnectionFailure as error:
            if gateway == here:
                raise
            why = str(error)
        required = boolean(self._task.args.get("required", True)) and gateway in task_vars["ansible_play_hosts_all"]
        said = replicas.unreached(gateway, self._task.args["name"], self._task.args["state"], why)
        if required:
            failure = Failure(said, hint=replicas.WITHOUT, error_kind="preflight")
            return dict(result, failed=True, **failure.fields())
        return dict(result, changed=False, reached=False, there=False, streams=0, warnings=[said])
