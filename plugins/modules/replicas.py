#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that serve the same model are changed one after the other."""

from __future__ import annotations

DOCUMENTATION = r"""
module: replicas
short_description: Change hosts that serve the same model one after the other
version_added: 1.0.0
description:
  - Replicas are hosts with the same name in variable C(dsdeploy_replicas). Each has a gateway (C(dsdeploy_expose)),
    which stands before all of them.
  - This runs on the controller, in a play of strategy linear. No host is changed where one before it failed.
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
      - V(found) finds the replicas and their gateways. Register it as C(_dsdeploy_replicas).
      - V(certificates) returns by what the gateways of the other replicas are known, of what each host has registered
        of M(dsdeploy.llm.replica_certificate) as C(_gateway_own_certificate).
      - V(come) notes that the host has come as far as the first turn. Register it as C(_dsdeploy_turn_come).
      - V(turn) fails where it must not be this host's turn, as another has failed.
      - V(like) finds a replica that was changed before this one, answers, and may give it what its engine has compiled,
        by what M(dsdeploy.llm.compiled_cache) has said on each (C(_dsdeploy_compiled)).
      - V(done) notes that its turn is over, and that it answers. Register it as C(_dsdeploy_turn_done).
    type: str
    choices: [found, certificates, come, turn, like, done]
    required: true
  name:
    description: The replicas' name, for V(state=found).
    type: str
    default: ""
  engine:
    description: Their engine, for V(state=found).
    type: str
    default: ""
  has_key:
    description: Whether the engine asks for an API key, for V(state=found).
    type: bool
    default: false
  gateway_port:
    description: Port of a gateway, where C(gateway_port) of its host says nothing else.
    type: int
    default: 8443
  partly:
    description:
      - Whether V(state=found) is for what leaves the others as they are, such as a stop. No gateways are then told of
        where all replicas are in this run, and none are required.
    type: bool
    default: false
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: Find the replicas
  dsdeploy.llm.replicas:
    state: found
    name: chat
    engine: llama_cpp
    has_key: true
  register: _dsdeploy_replicas
"""

RETURN = r"""
hosts:
  description: The replicas of this run, in the order of their turns.
  returned: state found
  type: list
  elements: str
complete:
  description: Whether all replicas of that name are in this run.
  returned: state found
  type: bool
certificates:
  description: PEM by the replica's name.
  returned: state certificates
  type: dict
gateways:
  description: C(host) of each gateway, and what this host is called there (C(server)).
  returned: state found
  type: list
  elements: dict
behind:
  description: The other replicas, for variable C(gateway_replicas).
  returned: state found
  type: list
  elements: dict
like:
  description: The host, empty where there is none.
  returned: state like
  type: str
engine:
  description: Their engine.
  returned: state found
  type: str
"""
