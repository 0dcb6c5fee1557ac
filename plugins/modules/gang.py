#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that serve one model together are looked at, compared, and meet before anything is started."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gang
short_description: Check the hosts that serve one model together, before anything is started
version_added: 1.0.0
description:
  - A gang are the processes of one model over several hosts, which start, fail and stop together.
  - This module is asked once for each step, by all hosts of a play at once (strategy linear). What each host tells is
    compared on the controller; where something is wrong, each host of the gang fails with the same lines.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  state:
    description:
      - V(looked) finds who belongs together, and looks at the host. Register it as C(_dsdeploy_gang_looked).
      - V(compared) compares what the hosts have told, and says what the engine is to be told.
        Register it as C(_dsdeploy_gang).
      - V(recorded) takes the gang from what a deployment record tells of it, for what is done to one that serves.
        Register it as C(_dsdeploy_gang_looked). It fails where not all of its hosts are in the play.
      - V(shown) says in RV(lines) who belongs together, and what would keep them from starting; it fails for nothing.
      - V(met) lets each host of the gang listen and go to each of the others. Register it as C(_dsdeploy_gang_met).
      - V(here) notes that the host has come as far as this. Register it as C(_dsdeploy_gang_here).
      - V(whole) fails where a host of the gang is not there any more, could not be reached by another, or has
        other files of the model.
      - V(stopping) says in RV(stop) whether the gang is to be stopped before it starts, from what
        C(_dsdeploy_gang_would) (M(dsdeploy.llm.service) in check mode) says on each host.
      - V(answered) fails where the first host's question (C(_python_engine_asked)) failed.
    type: str
    choices: [looked, compared, recorded, shown, met, here, whole, stopping, answered]
    required: true
  size:
    description: Hosts that serve the model together.
    type: int
    default: 1
  name:
    description: What the inventory calls the gang, for V(state=looked). Hosts without a name are cut in their order.
    type: str
    default: ""
  record:
    description: The gang as a deployment record has it, for V(state=recorded).
    type: dict
    default: {}
  partly:
    description: Whether V(state=recorded) allows that some of its hosts are not in the play, and warns instead.
    type: bool
    default: false
  role:
    description: Role of the engine, whose C(<role>_node_rank) is each host's rank where it is set.
    type: str
    default: ""
  engine:
    description: The engine.
    type: str
    choices: [vllm, sglang]
  common:
    description: What all hosts must have in common, by what it is called.
    type: dict
    default: {}
  address:
    description: Address of the host in the gang's network. By default C(ansible_host), else its name.
    type: str
    default: ""
  interface:
    description: Interface of that network. By default the one that has the address.
    type: str
    default: ""
  hcas:
    description: RDMA devices. By default those with a port that works.
    type: list
    elements: str
    default: []
  gid_index:
    description:
      - Index of the RoCE GID. V(-1) is that of RoCE v2 with an IPv4 address, where all devices have the same.
    type: int
    default: -1
  port:
    description:
      - Port at which the engine's processes meet on the first host, for V(state=compared).
      - Port at which the hosts meet, for V(state=met).
    type: int
    default: 0
  timeout:
    description: Seconds in which the hosts must have met.
    type: int
    default: 20
  stop_timeout:
    description: Seconds that a start may take, which V(state=stopping) tells where answers end for so long.
    type: int
    default: 0
  at:
    description:
      - How far all hosts must have come for V(state=whole) - they have met; each has a release to go back to
        (V(state=here), registered as C(_dsdeploy_gang_ready)); they are about to start (the same, registered as
        C(_dsdeploy_gang_here)).
    type: str
    choices: [met, ready, start]
    default: met
  has_key:
    description: Whether the engine asks for an API key, by which the ranks know each other, for V(state=compared).
    type: bool
    default: false
  guard_port:
    description: Port at which the first host's guard listens, for V(state=compared).
    type: int
    default: 29401
  ask:
    description: What the action plugin asks of the host.
    type: dict
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: Look
  dsdeploy.llm.gang:
    state: looked
    size: 2
    role: vllm_venv
    engine: vllm
    common: {driver: "580.159.04"}
  register: _dsdeploy_gang_looked

- name: Compare
  dsdeploy.llm.gang:
    state: compared
    engine: vllm
    port: 29501
  register: _dsdeploy_gang
"""

RETURN = r"""
gang:
  description: C(name), C(hosts) by rank, C(rank) of this one, C(size), C(head).
  returned: all states
  type: dict
look:
  description: C(address), C(interface), C(mtu), C(hcas), C(gid_index), C(clock), C(common), C(problem) of the host.
  returned: state looked
  type: dict
parameters:
  description: The engine's parameters of this host's rank.
  returned: state compared
  type: dict
environment:
  description: Environment variables of the engine.
  returned: state compared
  type: dict
guard:
  description: What the guard of this host's rank is told.
  returned: state compared
  type: list
  elements: str
record:
  description: What the deployment record notes of the gang.
  returned: state compared
  type: dict
hosts:
  description: The hosts of the gang, by rank.
  returned: state shown
  type: list
  elements: str
lines:
  description: The gang, a line a rank.
  returned: states compared and shown
  type: list
  elements: str
reached:
  description: By host of the gang, empty where it was reached, else why not.
  returned: state met
  type: dict
stop:
  description: Whether the gang is to be stopped before it starts.
  returned: state stopping
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.gang import look, meet
from ansible_collections.dsdeploy.llm.plugins.module_utils.gang.options import OPTIONS


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(OPTIONS, ask={"type": "dict"}),
        supports_check_mode=True,
    )
    ask = module.params["ask"]
    if ask is None or module.params["state"] not in ("looked", "met"):
        module.fail_json(msg="gang works through its action plugin, on the controller", error_kind="usage")
    if module.params["state"] == "looked":
        module.exit_json(changed=False, look=look.look(ask["names"], ask["here"], module.params["interface"]))
    meeting = meet.Meeting(ask["here"], ask["addresses"], module.params["port"], ask["mark"])
    try:
        reached = meeting.hold(module.params["timeout"])
    except OSError as error:
        own = "%s port %d" % (ask["addresses"][ask["here"]], module.params["port"])
        module.exit_json(changed=False, reached={ask["here"]: "%s cannot be taken: %s" % (own, error.strerror)})
    module.exit_json(changed=False, reached=reached)


if __name__ == "__main__":
    main()
