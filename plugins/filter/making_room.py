# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which deployments are stopped before an engine starts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: making_room
author: The dsdeploy developers
version_added: 1.0.0
short_description: Which deployments are stopped before an engine starts
description:
  - Those of the deployments whose memory will be free by the time that an engine on a device loads its model.
  - M(dsdeploy.llm.service) stops by the same rule.
positional: device, stop_others
options:
  _input:
    description: Deployments, as M(dsdeploy.llm.deployment_facts) returns them.
    type: list
    elements: dict
    required: true
  device:
    description: What the engine computes on.
    type: str
    choices: [gpu, cpu]
    required: true
  stop_others:
    description: The variable C(dsdeploy_stop_others).
    type: str
    choices: [gpu, all, none]
    required: true
"""

EXAMPLES = r"""
- name: Who gives the GPUs back?
  ansible.builtin.debug:
    msg: "{{ ansible_facts.dsdeploy_deployments | dsdeploy.llm.making_room('gpu', 'gpu') | map(attribute='engine') }}"
"""

RETURN = r"""
_value:
  description: Those of the deployments.
  type: list
  elements: dict
"""

from ansible.errors import AnsibleFilterError
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import others


def _filter(deployments, device, stop_others):
    if stop_others not in others.CHOICES:
        raise AnsibleFilterError("stop_others is not one of %s: %s" % (", ".join(others.CHOICES), stop_others))
    # The engine itself is one of them: what runs of it is stopped before it starts anew.
    return others.making_room(list(deployments), "", device, stop_others)


class FilterModule:
    def filters(self):
        return {"making_room": _filter}
