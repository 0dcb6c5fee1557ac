#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: firewall_rules
short_description: The networks that may reach a service through ufw or firewalld
version_added: 1.0.0
description:
  - Opens the wanted rules and closes those that it has opened before and that are wanted no more.
  - A rule that is there already is the user's own. It is left alone, also when it is wanted no more.
  - Which rules are its own is noted before the firewall is changed, so that a run that is cut leaves none behind.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description: Name of the service.
    type: str
    required: true
  directory:
    description: Directory in which the rules are noted, a file for each service.
    type: path
    default: /etc/dsdeploy/firewall
  manager:
    description: What the rules are of. Needed for O(networks).
    type: str
    choices: [ufw, firewalld]
  port:
    description: TCP port. Needed for O(networks).
    type: int
  networks:
    description: Networks that may reach the port, such as V(10.0.0.0/8). None closes what was opened.
    type: list
    elements: str
    default: []
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: Let a network in
  dsdeploy.llm.firewall_rules:
    name: dsdeploy-ollama
    manager: ufw
    port: 11434
    networks: [10.0.0.0/8]

- name: Close what was opened
  dsdeploy.llm.firewall_rules:
    name: dsdeploy-ollama
"""

RETURN = r"""
opened:
  description: Rules that were opened.
  returned: success
  type: list
  elements: dict
closed:
  description: Rules that were closed.
  returned: success
  type: list
  elements: dict
hint:
  description: What to do next.
  returned: failure
  type: str
error_kind:
  description: V(usage) for what is no network, V(preflight) where the firewall is not there or does not run.
  returned: failure
  type: str
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import write_durably
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import firewall


def read(path: str) -> list:
    try:
        with open(path, encoding="utf-8") as handle:
            return json.load(handle)
    except FileNotFoundError:
        return []


def note(path: str, rules: list) -> None:
    """Rules that are ours, or are about to be; no file where there are none."""
    if not rules:
        if os.path.exists(path):
            os.unlink(path)
        return
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    write_durably(path, json.dumps(rules))


def lines(rules: list) -> str:
    return "".join(sorted("%(manager)s: %(network)s to port %(port)s\n" % rule for rule in rules))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "directory": {"type": "path", "default": places.FIREWALL},
            "manager": {"type": "str", "choices": list(firewall.MANAGERS)},
            "port": {"type": "int"},
            "networks": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    p = module.params
    if p["networks"] and not (p["manager"] and p["port"]):
        module.fail_json(msg="networks needs manager and port", error_kind="usage")
    try:
        networks = [firewall.network_of(network) for network in p["networks"]]
    except ValueError as error:
        module.fail_json(
            msg="%s: %s" % (p["name"], error), hint="Write a network as in 10.0.0.0/8.", error_kind="usage"
        )
    wanted = [{"manager": p["manager"], "network": network, "port": p["port"]} for network in dict.fromkeys(networks)]
    path = os.path.join(p["directory"], p["name"] + ".json")
    before = read(path)

    there, out_of_reach = {}, []
    for manager in sorted({rule["manager"] for rule in before + wanted}):
        listing = firewall.LISTING[manager]
        if not module.get_bin_path(listing[0]):
            problem = "%s is not on this host" % manager
        else:
            rc, out, err = module.run_command(listing)
            there[manager] = firewall.listed(manager, out)
            problem = "%s: %s" % (manager, " ".join((err or out).split())) if rc else ""
        if problem and manager in (rule["manager"] for rule in wanted):
            module.fail_json(
                msg=problem, hint="Install it and let it run, or choose another way.", error_kind="preflight"
            )
        elif problem:
            out_of_reach += [rule for rule in before if rule["manager"] == manager]
            module.warn(
                "%s; what was opened by it stays: %s" % (problem, lines(out_of_reach).replace("\n", " ").strip())
            )
    plan = firewall.plan(before, wanted, there)
    changed = bool(plan.opens or plan.closes)
    if not module.check_mode:
        note(path, before + [rule for rule in plan.ours if rule not in before])
        for rule in plan.closes:
            module.run_command(firewall.command(rule, opens=False), check_rc=True)
        for rule in plan.opens:
            module.run_command(firewall.command(rule, opens=True), check_rc=True)
        for manager in sorted({rule["manager"] for rule in plan.opens + plan.closes} & set(firewall.RELOAD)):
            module.run_command(firewall.RELOAD[manager], check_rc=True)
        note(path, plan.ours + out_of_reach)
    module.exit_json(
        changed=changed,
        opened=plan.opens,
        closed=plan.closes,
        diff={"before": lines(before), "after": lines(plan.ours)},
    )


if __name__ == "__main__":
    main()
