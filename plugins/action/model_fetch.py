# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""model_fetch, with its progress shown while it runs; and who the other hosts are that fetch the same model."""

from __future__ import annotations

from ansible import constants as C
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.utils.display import Display
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import fleet
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.progress_action import ProbedAction

LOOKED = "_model_looked"  # under which each host has registered what it has


class ActionModule(ProbedAction):
    def run(self, tmp=None, task_vars=None):
        args = self._task.args
        if boolean(args.get("look", False)):
            return self._look(args, task_vars)
        looked = task_vars.get(LOOKED) or {}
        together = self._together(task_vars) if boolean(args.get("peers", False)) else []
        if boolean(args.get("peers", False)) and not together and looked.get("complete"):
            return {key: looked[key] for key in ("changed", "model_files", "fetched_bytes", "source")}
        if together:
            here, token = task_vars["inventory_hostname"], fleet.token_of_run(C.DEFAULT_LOCAL_TMP)
            self._task.args = dict(args, fleet={"name": here, "token": token, "members": together})
        result = super().run(tmp, task_vars)
        # Check mode: what would be fetched, for whoever reads along.
        for line in result.get("plan") or []:
            Display().display("%s: %s" % ((task_vars or {}).get("inventory_hostname", ""), line))
        return result

    def _run_job(self, task_vars):
        if "fleet" in self._task.args:
            # It is known what it has: who has the model has it to give, and is a job as long as others fetch.
            return super(ProbedAction, self)._run_job(task_vars)
        return super()._run_job(task_vars)

    def _look(self, args, task_vars):
        found = self._execute_module(task_vars=task_vars)
        if found.get("failed") or found.get("unreachable"):
            return found
        address = args.get("peer_address") or task_vars.get("ansible_host") or task_vars["inventory_hostname"]
        about = {"wanted": fleet.wanted(args["model"]), "complete": found.get("complete", True)}
        return dict(found, address=str(address), port=int(args.get("peer_port") or 29402), **about)

    def _together(self, task_vars):
        hostvars = task_vars["hostvars"]
        looked = {host: hostvars[host].get(LOOKED) or {} for host in task_vars["ansible_play_hosts"]}
        looked = {host: found for host, found in looked.items() if "wanted" in found and not found.get("failed")}
        play, here = task_vars["ansible_play_hosts"], task_vars["inventory_hostname"]
        if here not in looked:
            return []
        return fleet.members(here, play, looked, int(task_vars.get("ansible_forks") or 0))
