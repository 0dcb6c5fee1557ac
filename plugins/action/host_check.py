# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""host_check, which is told what the other hosts of a gang have told."""

from __future__ import annotations

import time

from ansible.plugins.action import ActionBase
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.gang import OUTSIDE, UNREACHABLE
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import gangs
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.run_lock import this_run

# What each host has registered, by the names under which the tasks register it.
LOOKED, MET = "_doctor_looked", "_doctor_met"
PORT = 29400  # where no inventory says another, as roles/_common has it
TIMEOUT = 15  # s in which the hosts of a gang must have met


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        self.vars, self.here, self.hostvars = task_vars, task_vars["inventory_hostname"], task_vars["hostvars"]
        args = dict(self._task.args)
        step = args.get("gang")
        if step == "look":
            return self._look(args)
        if step == "meet":
            return self._meet(args)
        others = self._others()
        return self._ask(dict(args, others=others) if others else args)

    def _ask(self, args):
        return self._execute_module(module_args=args, task_vars=self.vars)

    def _registered(self, host, name, key):
        found = self.hostvars[host].get(name) if host in self.hostvars else None
        return found.get(key) if isinstance(found, dict) else None

    def _value(self, host, name, default=""):
        """A variable of a host; the default where it cannot be told, such as for want of a role's own."""
        try:
            return self.hostvars[host].get(name) or default
        except Exception:  # a template that needs more than the inventory
            return default

    # --- steps

    def _look(self, args):
        problem, hosts = "", ()
        try:
            hosts = self._by_inventory()
        except Failure as failure:
            problem = str(failure)
        names = {
            host: str(self._value(host, "dsdeploy_gang_address") or self._value(host, "ansible_host") or host)
            for host in hosts
        }
        asked = {"names": names, "here": self.here, "interface": self._value(self.here, "dsdeploy_gang_interface")}
        before = time.time()
        found = self._ask(dict(args, others=asked))
        after = time.time()
        look = found.get("gang_look")
        if look:
            # The host's clock stood so at some time between the two.
            look["clock"] = {"offset": look.pop("time") - (before + after) / 2, "error": (after - before) / 2}
        elif look is not None and problem:
            found["gang_look"] = {"hosts": [self.here], "here": self.here, "wrong": problem}
        return found

    def _by_inventory(self):
        """The hosts of this one's gang by rank, as the inventory has it; () where it has none."""
        every = self.vars["groups"]["all"]
        named = {host: str(self._value(host, "dsdeploy_gang")) for host in every}
        sizes = [self._value(self.here, role + "_nnodes", 0) for role in ("vllm_venv", "sglang")]
        size = max((int(size) for size in sizes if str(size).isdigit()), default=0)
        if named[self.here] and size < 2:
            return tuple(host for host in every if named[host] == named[self.here])
        if size < 2:
            return ()
        play, limited = self.vars["ansible_play_hosts_all"], bool(self.vars.get("ansible_limit"))
        return gangs.gang_of(self.here, play, every, named, {}, size, limited).hosts

    def _meet(self, args):
        looks = self._looks()
        addresses = {host: look["address"] for host, look in looks.items() if look.get("address")}
        if self.here not in addresses or len(addresses) < 2:
            return {"changed": False, "gang_met": {}}
        play = self.vars["ansible_play_hosts"]
        meeting = [host for host in play if self._registered(host, LOOKED, "gang_look")]
        forks = int(self.vars.get("ansible_forks") or 0)
        if 0 < forks < len(meeting):
            said = "they did not meet: Ansible works on %d hosts at a time, and %d belong to gangs (--forks)"
            return {"changed": False, "gang_met": said % (forks, len(meeting))}
        asked = {
            "here": self.here,
            "addresses": addresses,
            "port": int(self._value(self.here, "dsdeploy_gang_port", PORT)),
            "mark": "doctor-%s" % this_run()["pid"],
            "timeout": TIMEOUT,
        }
        return self._ask(dict(args, others=asked))

    # --- what was told

    def _looks(self):
        """What the hosts of this one's gang have told, by host."""
        own = self._registered(self.here, LOOKED, "gang_look") or {}
        looks = {host: self._registered(host, LOOKED, "gang_look") or {} for host in own.get("hosts", [])}
        return {
            host: look for host, look in looks.items() if look.get("hosts") == own["hosts"] and not look.get("wrong")
        }

    def _others(self):
        own = self._registered(self.here, LOOKED, "gang_look")
        if own is None:
            return None  # no step was made: the host knows itself whether it is in a gang
        if not own:
            return {}
        looks = self._looks()
        away = {}
        for host in own["hosts"]:
            told = self._registered(host, LOOKED, "gang_look")
            if host not in self.vars["ansible_play_hosts_all"]:
                away[host] = OUTSIDE
            elif told is None:
                away[host] = UNREACHABLE
            elif host not in looks and not own.get("wrong"):
                away[host] = "belongs to %s" % (", ".join(told.get("hosts", [])) or "no gang")
        met = {host: self._registered(host, MET, "gang_met") or {} for host in looks}
        unmet = next((said for said in met.values() if isinstance(said, str)), None)
        about = {"here": own["here"], "hosts": own["hosts"], "looks": looks, "away": away}
        return dict(about, met=unmet or met, problem=own.get("wrong") or "")
