# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where NVIDIA's driver of a host comes from."""

from __future__ import annotations

DOCUMENTATION = r"""
name: driver_method
author: The dsdeploy developers
version_added: 1.0.0
short_description: Where NVIDIA's driver of a host comes from
description:
  - What C(auto) means on a host. A driver that is loaded and whole stays where a GPU is lost or C(nvidia-smi) hangs.
positional: driver, status
options:
  _input:
    description: V(auto), or V(nvidia), V(distribution) or V(preinstalled), which stay as they are.
    type: str
    required: true
  driver:
    description: What M(dsdeploy.llm.nvidia_driver_facts) found.
    type: dict
    required: true
  status:
    description: The status that M(dsdeploy.llm.nvidia_smi_facts) found.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: What auto means here
  ansible.builtin.debug:
    msg: "{{ 'auto' | dsdeploy.llm.driver_method(ansible_facts.nvidia_driver, ansible_facts.nvidia_smi.status) }}"
"""

RETURN = r"""
_value:
  description: V(nvidia), V(distribution), V(preinstalled), or V(none) where there is no GPU.
  type: str
"""

from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.driver import install_method


class FilterModule:
    def filters(self):
        return {"driver_method": install_method}
