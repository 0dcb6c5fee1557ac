# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of DeepGEMM's kernels can be compiled before SGLang starts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: deep_gemm_products
author: The dsdeploy developers
version_added: 1.0.0
short_description: Which of DeepGEMM's kernels can be compiled before SGLang starts
description:
  - For a model in FP8 with blocks SGLang compiles DeepGEMM's kernels at its first start, one after the other.
  - These are the arguments of the program of role P(dsdeploy.llm.sglang#role) that compiles them on all cores.
positional: gpus, version, tensor, attention_ranks, chunked, environment, extra_args
options:
  _input:
    description: The model's entry of the catalog.
    type: dict
    required: true
  gpus:
    description: The GPUs of fact C(nvidia_smi).
    type: list
    elements: dict
    required: true
  version:
    description: Version of SGLang.
    type: str
    required: true
  tensor:
    description: Tensor parallelism.
    type: int
    required: true
  attention_ranks:
    description: Ranks that each keep their own attention.
    type: int
    default: 1
  chunked:
    description: Tokens of a part of a long prompt, as SGLang is told; 0 where it is not.
    type: int
    default: 0
  environment:
    description: Variables of the service that the user has set.
    type: dict
    default: {}
  extra_args:
    description: Arguments that the user has added.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: R1 on this host
  ansible.builtin.debug:
    msg: "{{ entry | dsdeploy.llm.deep_gemm_products(ansible_facts.nvidia_smi.gpus, '0.5.23', 8) }}"
  vars:
    entry: "{{ model_catalog['deepseek-r1'] }}"
"""

RETURN = r"""
_value:
  description: Words, empty where nothing is compiled ahead.
  type: str
"""

from ansible_collections.dsdeploy.llm.plugins.plugin_utils import sglang_kernels


class FilterModule:
    def filters(self):
        return {"deep_gemm_products": sglang_kernels.deep_gemm_products}
