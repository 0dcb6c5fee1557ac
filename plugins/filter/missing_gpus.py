# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host has fewer GPUs than it is said to have."""

from __future__ import annotations

DOCUMENTATION = r"""
name: missing_gpus
author: The dsdeploy developers
version_added: 1.0.0
short_description: Whether a host has fewer GPUs than it is said to have
description:
  - A condition for O(dsdeploy.llm.preflight#module:require), with the words that every engine has for it.
positional: expected, least, vfio
options:
  _input:
    description: The number of GPUs that were found.
    type: int
    required: true
  expected:
    description: The number of GPUs that the host is said to have. V(0) for not known.
    type: int
    required: true
  least:
    description: As many of them are enough for now. All by default.
    type: int
  vfio:
    description: The number of further GPUs that it has, which are bound to vfio-pci, for virtual machines.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: A host that is said to have eight
  ansible.builtin.debug:
    msg: "{{ ansible_facts.nvidia_smi.gpus | length | dsdeploy.llm.missing_gpus(8) }}"
"""

RETURN = r"""
_value:
  description: Whether it has them (C(that)); where it has not, what is wrong (C(msg)) and what to do (C(hint)).
  type: dict
"""

from ansible_collections.dsdeploy.llm.plugins.plugin_utils import engines


def _filter(found, expected, least=None, vfio=0):
    problem = engines.missing_gpus(found, expected, least, vfio)
    return {"that": problem is None, "msg": str(problem or ""), "hint": problem.hint if problem else ""}


class FilterModule:
    def filters(self):
        return {"missing_gpus": _filter}
