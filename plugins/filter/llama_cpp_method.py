# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How llama.cpp is installed on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
name: llama_cpp_method
author: The dsdeploy developers
version_added: 1.0.0
short_description: How llama.cpp is installed on a host
description:
  - What was asked for; for V(auto) what the host needs and what there is for it.
positional: gpus_used, packages, wheel, tls
options:
  _input:
    description: The variable C(llama_cpp_install_method).
    type: str
    choices: [auto, package, wheel, source]
    required: true
  gpus_used:
    description: Whether layers of the model are to be on GPUs. Only a build from source has CUDA.
    type: bool
    required: true
  packages:
    description: The distribution's packages of llama.cpp. Empty where it has none.
    type: list
    elements: str
    required: true
  wheel:
    description: Whether there is a wheel for the host's architecture and Python.
    type: bool
    required: true
  tls:
    description: Whether it is to speak TLS, which the wheel is built without.
    type: bool
    required: true
"""

EXAMPLES = r"""
- name: A host with GPUs builds from source
  ansible.builtin.debug:
    msg: "{{ 'auto' | dsdeploy.llm.llama_cpp_method(true, [], true, false) }}"
"""

RETURN = r"""
_value:
  description: V(package), V(wheel) or V(source).
  type: str
"""

from ansible_collections.dsdeploy.llm.plugins.plugin_utils import llama_cpp


class FilterModule:
    def filters(self):
        return {"llama_cpp_method": llama_cpp.install_method}
