# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host has GPUs that cannot be used."""

from __future__ import annotations

DOCUMENTATION = r"""
name: gpus_hidden
author: The dsdeploy developers
version_added: 1.0.0
short_description: Whether a host has GPUs that cannot be used
description:
  - A driver that does not answer, or GPUs on the PCI bus without a driver.
  - A host without GPUs has none that are hidden.
options:
  _input:
    description: The fact C(nvidia_smi) of M(dsdeploy.llm.host_facts).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Would the CPU serve, although there are GPUs?
  ansible.builtin.debug:
    msg: "{{ ansible_facts.nvidia_smi | dsdeploy.llm.gpus_hidden }}"
"""

RETURN = r"""
_value:
  description: Whether it has.
  type: bool
"""

from ansible_collections.dsdeploy.llm.plugins.plugin_utils.engines import gpus_hidden


class FilterModule:
    def filters(self):
        return {"gpus_hidden": lambda nvidia_smi: gpus_hidden(dict(nvidia_smi))}
