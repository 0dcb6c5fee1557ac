# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nvcc of a host compiles the kernels of an engine's packages."""

from __future__ import annotations

DOCUMENTATION = r"""
name: nvcc_for
author: The dsdeploy developers
version_added: 1.0.0
short_description: Which nvcc of a host compiles the kernels of an engine's packages
description:
  - What an engine compiles on GPUs, it compiles where it runs, with the host's nvcc and programs of its own release.
  - One of another major version of CUDA than the release's packages does not serve.
positional: cuda, root
options:
  _input:
    description: The fact C(nvcc) of M(dsdeploy.llm.host_facts).
    type: list
    elements: dict
    required: true
  cuda:
    description: Version of CUDA that the packages are built for, such as V(13.0).
    type: str
    required: true
  root:
    description: Directory of the engine's releases.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: What does vLLM compile with?
  ansible.builtin.debug:
    msg: "{{ ansible_facts.nvcc | dsdeploy.llm.nvcc_for('13.0', '/opt/dsdeploy/vllm') }}"
"""

RETURN = r"""
_value:
  description:
    - C(path) (empty where there is none), C(found) (all, with versions) and C(environment) (C(PATH), C(CUDA_HOME)).
  type: dict
"""

from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia import nvcc


class FilterModule:
    def filters(self):
        return {"nvcc_for": lambda found, cuda, root: nvcc.for_packages(list(found), str(cuda), str(root))}
