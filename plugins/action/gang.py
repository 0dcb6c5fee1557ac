# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import time

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.dsdeploy.llm.plugins.module_utils.gang.options import OPTIONS
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.urls import is_private
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import gangs, other_hosts
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.run_lock import this_run

# What each host has registered, by the names under which the tasks register it.
LOOKED, COMPARED, MET = "_dsdeploy_gang_looked", "_dsdeploy_gang", "_dsdeploy_gang_met"
READY, HERE = "_dsdeploy_gang_ready", "_dsdeploy_gang_here"
WOULD, ASKED, FETCHED = "_dsdeploy_gang_would", "_python_engine_asked", "_model_fetched"
HINT = "docs/several-hosts.md says what the hosts of a gang must have in common."


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(argument_spec=OPTIONS)
        self.args, self.vars, self.here = args, task_vars, task_vars["inventory_hostname"]
        self.hostvars, self.active = task_vars["hostvars"], task_vars["ansible_play_hosts"]
        try:
            found = self.STATES[args["state"]](self)
        except Failure as failure:
            return dict(result, failed=True, **failure.fields())
        result.update(dict({"changed": False}, **found))
        return result

    # --- what hosts know

    def registered(self, host, name):
        """What a host has registered in this run; {} where it has not."""
        found = self.hostvars[host].get(name) if host in self.hostvars else None
        return found if isinstance(found, dict) else {}

    def gang(self):
        found = self.registered(self.here, LOOKED)["gang"]
        return gangs.Gang(found["name"], tuple(found["hosts"]))

    def told(self, gang, name, key):
        """By host of the gang, what it has registered under a name and key."""
        every = {host: self.registered(host, name) for host in gang.hosts}
        return {host: one[key] for host, one in every.items() if not one.get("failed") and key in one}

    def records(self, host):
        """The deployment records that a host had at the beginning of the run."""
        facts = self.hostvars[host].get("ansible_facts") if host in self.hostvars else None
        return (facts or {}).get("dsdeploy_deployments") or []

    def require(self, lines, hint=HINT, kind="preflight"):
        if lines:
            raise Failure(lines, hint=hint, error_kind=kind)

    # --- the steps

    def looked(self):
        gang = gangs.of_play(self.here, self.vars, self.args["name"], self.args["role"], self.args["size"])
        forks = int(self.vars.get("ansible_forks") or 0)
        if 0 < forks < len(gang.hosts):
            raise Failure(
                "%s starts as one, and Ansible works on %d hosts at a time" % (gang, forks),
                hint="Set forks to %d or more (ansible.cfg, --forks)." % len(gang.hosts),
                error_kind="usage",
            )
        # One that is gone is told of when they are compared.
        addresses = {host: self._address(host) for host in gang.hosts if host in self.active}
        before = time.time()
        found = self._execute_module(
            module_name="dsdeploy.llm.gang",
            module_args=dict(self._task.args, ask={"names": addresses, "here": self.here}),
            task_vars=self.vars,
        )
        after = time.time()
        if found.get("failed") or found.get("unreachable"):
            return found
        look = found["look"]
        # The host's clock stood so at some time between the two.
        look["clock"] = {"offset": look.pop("time") - (before + after) / 2, "error": (after - before) / 2}
        look["common"] = self.args["common"]
        found["look"] = dict(look, hcas=self.args["hcas"] or look["hcas"])
        if self.args["gid_index"] >= 0:
            found["look"]["gid_index"] = self.args["gid_index"]
        about = {"name": gang.name, "hosts": list(gang.hosts), "rank": gang.hosts.index(self.here)}
        return dict(found, gang=dict(about, size=len(gang.hosts), head=gang.head))

    def _address(self, host):
        values = other_hosts.OtherHosts(self.hostvars)[host]
        own = self.args["address"] if host == self.here else values.get("dsdeploy_gang_address")
        return str(own or values.get("ansible_host") or host)

    def compared(self):
        gang, engine = self.gang(), self.args["engine"]
        looks = self.told(gang, LOOKED, "look")
        self.require(gangs.missing(gang, looks, self.active))
        if not self.args["has_key"]:
            hint = "Set dsdeploy_api_key, the same for all of them."
            self.require("the hosts of a gang know each other by the engine's API key, and none is set", hint, "usage")
        self.require(gangs.broken_up(gang, engine, {host: self.records(host) for host in gang.hosts}))
        self.require(gangs.common_problems(gang, looks))
        addresses = {host: looks[host]["address"] for host in gang.hosts}
        rank, own = gang.hosts.index(self.here), looks[self.here]
        warnings = []
        if not all(is_private(address) for address in addresses.values()):
            warnings.append("%s talks over public addresses, unencrypted: %s" % (gang, ", ".join(addresses.values())))
        lines = gangs.rows(gang, addresses, self.args["port"])
        if rank == 0:
            Display().display("%s: %s" % (gang, "; ".join(lines)))
        about = {"name": gang.name, "hosts": list(gang.hosts), "rank": rank, "head": gang.head}
        return {
            "gang": dict(about, size=len(gang.hosts), addresses=addresses),
            "parameters": gangs.placement(engine, rank, len(gang.hosts), addresses[gang.head], self.args["port"]),
            "environment": gangs.environment(engine, own["address"], own["interface"], own["hcas"], own["gid_index"]),
            "guard": gangs.guard(rank, len(gang.hosts), own["address"], addresses[gang.head], self.args["guard_port"]),
            "record": dict(about, addresses=addresses, port=self.args["port"]),
            "lines": lines,
            "warnings": warnings,
        }

    def recorded(self):
        record = self.args["record"]
        lines = gangs.of_record(record, self.vars["ansible_play_hosts_all"], self.args["partly"])
        if lines and not self.args["partly"]:
            self.require(lines, "Name all of them: --limit %s" % ",".join(record["hosts"]), "usage")
        hosts = list(record["hosts"])
        about = {"name": record.get("name") or "", "hosts": hosts, "rank": record["rank"], "size": len(hosts)}
        return {"gang": dict(about, head=hosts[0]), "look": {}, "warnings": lines}

    def shown(self):
        gang = self.gang()
        return {
            "hosts": list(gang.hosts),
            "lines": gangs.shown(gang, self.told(gang, LOOKED, "look"), self.active, self.records(gang.head)),
        }

    def met(self):
        gang = self.gang()
        looks = self.told(gang, LOOKED, "look")
        addresses = {host: looks[host]["address"] for host in gang.hosts}
        ask = {"here": self.here, "addresses": addresses, "mark": "%s" % this_run()["pid"]}
        return self._execute_module(
            module_name="dsdeploy.llm.gang", module_args=dict(self._task.args, ask=ask), task_vars=self.vars
        )

    def come(self):
        return {"here": True}

    def whole(self):
        gang = self.gang()
        # One that has failed, and has still to give its lock back, counts as active: it has not come here.
        come = {"met": (LOOKED, "look"), "ready": (READY, "here"), "start": (HERE, "here")}[self.args["at"]]
        told = self.told(gang, *come)
        self.require(gangs.missing(gang, told, self.active))
        met = self.told(gang, MET, "reached")
        if met:
            hint = "Let the hosts of a gang reach each other on all TCP ports of their own network."
            self.require(gangs.meeting_problems(gang, met), hint)
        digests = {}
        for host in gang.hosts:
            files = self.registered(host, FETCHED).get("model_files") or {}
            digests[host] = files.get("digest")
        if len(set(digests.values())) > 1:
            lines = ["%s has %s" % (host, (digest or "none")[:12]) for host, digest in digests.items()]
            self.require(
                "the hosts of %s have different files of the model (sha256 of the manifest: %s): %s"
                % (gang, ", ".join(lines), gangs.NOTHING),
                "`dsdeploy model verify` says which files differ from what was fetched.",
            )
        return {}

    def stopping(self):
        gang = self.gang()
        would = self.told(gang, WOULD, "actions")
        self.require(gangs.missing(gang, would, self.active))
        stop = any({"start", "restart"} & set(actions) for actions in would.values())
        states = self.told(gang, WOULD, "state")
        running = [host for host in gang.hosts if states.get(host, {}).get("active") in ("running", "starting")]
        found = {"stop": stop and bool(running)}
        if found["stop"] and self.here == gang.head:
            found["warnings"] = [gangs.outage(gang, self.records(gang.head), self.args["stop_timeout"])]
        return found

    def answered(self):
        gang = self.gang()
        gangs.require_answer(gang, self.registered(gang.head, ASKED))
        return {}

    STATES = {
        "looked": looked,
        "compared": compared,
        "recorded": recorded,
        "shown": shown,
        "met": met,
        "here": come,
        "whole": whole,
        "stopping": stopping,
        "answered": answered,
    }
