# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.dsdeploy.llm.plugins.module_utils.gang import compare
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import other_hosts, replicas

# What each host has registered, by the names under which the tasks register it.
FOUND, COME, DONE = "_dsdeploy_replicas", "_dsdeploy_turn_come", "_dsdeploy_turn_done"
COMPILED = "_dsdeploy_compiled"
CERTIFICATE = "_gateway_own_certificate"


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        _result, args = self.validate_argument_spec(
            argument_spec={
                "state": {
                    "type": "str",
                    "required": True,
                    "choices": ["found", "certificates", "come", "turn", "like", "done"],
                },
                "name": {"type": "str", "default": ""},
                "engine": {"type": "str", "default": ""},
                "has_key": {"type": "bool", "default": False},
                "gateway_port": {"type": "int", "default": 8443},
                "partly": {"type": "bool", "default": False},
            }
        )
        try:
            return dict(result, changed=False, **self._step(args, task_vars))
        except Failure as failure:
            return dict(result, failed=True, **failure.fields())

    def _step(self, args, task_vars):
        here, hostvars = task_vars["inventory_hostname"], task_vars["hostvars"]
        if args["state"] in ("come", "done"):
            return {args["state"]: True}
        if args["state"] == "certificates":
            group = hostvars[here][FOUND]["hosts"]
            told = {host: hostvars[host].get(CERTIFICATE) for host in group}
            lines = compare.same({host: (one or {}).get("place") for host, one in told.items()})
            if lines:
                hint = "Take one of the names out. Copies on one host's GPUs are the engine's own (data_parallel_size)."
                raise Failure(lines, hint=hint, error_kind="usage")
            return {"certificates": replicas.certificates_of(here, group, told)}
        if args["state"] == "turn":
            group = hostvars[here][FOUND]["hosts"]

            def has(name, key):
                return [host for host in group if (hostvars[host].get(name) or {}).get(key)]

            lines = replicas.turn_problems(here, group, has(COME, "come"), has(DONE, "done"))
            if lines:
                raise Failure(lines, hint=replicas.WITHOUT)
            return {}
        if args["state"] == "like":
            group = hostvars[here][FOUND]["hosts"]
            looks = {host: hostvars[host].get(COMPILED) or {} for host in group}
            done = [host for host in group if (hostvars[host].get(DONE) or {}).get("done")]
            return {"like": replicas.like(here, group, looks, done)}
        inventory = task_vars["groups"]["all"]
        values = other_hosts.OtherHosts(hostvars)
        every = replicas.group_of(args["name"], inventory, values)
        gateways = replicas.gateways_of(every, values)
        play = task_vars["ansible_play_hosts_all"]
        complete = all(host in play for host in every)
        if not args["partly"]:
            replicas.require_gateways(every, gateways, args["has_key"])
        elif complete:
            gateways = []
        return {
            "hosts": [host for host in play if host in every],
            "complete": complete,
            "gateways": [
                {"host": gateway, "server": replicas.server_name(gateway, here, args["engine"])} for gateway in gateways
            ],
            "behind": replicas.behind(here, every, values, args["engine"], args["gateway_port"]),
            "engine": args["engine"],
        }
