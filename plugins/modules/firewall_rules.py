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

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import firewall


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
    try:
        settled = firewall.settle(p["name"], wanted, module.check_mode, p["directory"])
    except Failure as failure:
        module.fail_json(**failure.fields())
    for warning in settled.warnings:
        module.warn(warning)
    module.exit_json(
        changed=bool(settled.opened or settled.closed),
        opened=settled.opened,
        closed=settled.closed,
        diff={"before": firewall.lines(settled.before), "after": firewall.lines(settled.after)},
    )


if __name__ == "__main__":
    main()
