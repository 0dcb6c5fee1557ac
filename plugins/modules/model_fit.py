#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

# The work is done on the controller, by the action plugin of the same name.

DOCUMENTATION = r"""
module: model_fit
short_description: Say whether a model fits the memory of a host, and what would fit when it does not
version_added: 1.0.0
description:
  - Computes weights, KV cache and overhead from the model's catalog entry, and compares them with the GPUs of the fact
    C(nvidia_smi) and the host's memory of the fact C(dsdeploy_memory).
  - Fails with one line when the model does not fit, unless O(refuse=false).
author:
  - The dsdeploy developers (@dsdeploy)
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.reads
  - dsdeploy.llm.attributes.controller
options:
  model:
    description: The resolved entry of the catalog, as M(dsdeploy.llm.model_resolve) returns it.
    type: dict
    required: true
  nvidia_smi:
    description: The fact C(nvidia_smi) of the host.
    type: dict
    required: true
  engine:
    description: Engine that is to serve the model; used to name other models that it serves and that fit.
    type: str
    default: ""
  catalog:
    description: The catalog, to name other models from.
    type: dict
    default: {}
  tensor_parallel:
    description:
      - GPUs that share each layer. 0 means the largest number that works for the model, of the GPUs divided by
        O(pipeline_parallel) × O(data_parallel).
    type: int
    default: 0
  pipeline_parallel:
    description: Stages that the layers are divided into.
    type: int
    default: 1
  data_parallel:
    description: Copies of the model, each on GPUs of its own (vLLM). They share the experts.
    type: int
    default: 1
  expert_parallel:
    description:
      - Parts that the experts, whole, are spread over (vLLM and SGLang). 1 means that each is cut like other layers,
        0 that every GPU has whole ones.
    type: int
    default: 1
  batch:
    description: Tokens that are computed at once; a layer with a window keeps so many more (vLLM and SGLang).
    type: int
    default: 2048
  nodes:
    description:
      - Hosts that serve the model together. Each of its own facts C(nvidia_smi) counts, and the least of their GPUs;
        one without them counts as this one.
    type: int
    default: 1
  gang:
    description: What the inventory calls them (C(dsdeploy_gang)), of several O(nodes).
    type: str
    default: ""
  data_parallel_attention:
    description: Ranks that each keep their own attention and sequences.
    type: int
    default: 1
  context:
    description:
      - Tokens of one sequence, prompt and answer together. V(0) means what vLLM and SGLang take of the model where none
        are asked for, with what O(settings) say of it, and 8192 for others and where that is not known.
    type: int
    default: 0
  sequences:
    description: Sequences of full length at the same time.
    type: int
    default: 1
  kv_bytes:
    description:
      - Bytes of one number in the KV cache; 2 for bf16 and f16, 1 for fp8. Where it is not set, what C(kv_cache_dtype)
        and C(dtype) in O(settings) say for vLLM and SGLang, with all scales, for llama.cpp its own arguments there, for
        Ollama C(kv_cache_type); else V(2). Of a type that is not known the cache is not known.
    type: float
  utilization:
    description:
      - Share of a GPU's, or on a CPU the host's, memory that the engine may take (vLLM and SGLang). V(0.9) where it is
        not set.
      - SGLang takes it of what is free, and one that is set for weights and cache alone.
    type: float
  gpu_layers:
    description: Layers on the GPUs (llama.cpp and Ollama). -1 means as many as fit.
    type: int
    default: -1
  kv_space_gib:
    description: Memory that is set aside for the KV cache on a CPU, in GiB (vLLM). V(0) means what the sequences take.
    type: int
    default: 0
  device:
    description: What the engine computes on.
    type: str
    choices: [cpu, gpu]
    default: gpu
  memory:
    description: The fact C(dsdeploy_memory) of the host (M(dsdeploy.llm.memory_facts)). When empty, it is not checked.
    type: dict
    default: {}
  user:
    description: System user of the engine. What its processes hold counts as free, because it is started anew.
    type: str
    default: ""
  deployments:
    description:
      - Those of what M(dsdeploy.llm.deployment_facts) found on the host that are stopped before the model is loaded.
        What their users' processes hold counts as free, too.
    type: list
    elements: dict
    default: []
  mirrors:
    description: The table of mirrors. A model that none of them offers is not suggested.
    type: dict
  source_order:
    description: Kinds of sources that models come from, as for M(dsdeploy.llm.model_fetch). Empty means all.
    type: list
    elements: str
    default: []
  settings:
    description:
      - What is set of the engine, without the prefix of its role, that is looked through for what costs speed. Eager
        mode, fewer layers on the GPUs than fit, a keep-alive that unloads a large model are warned of.
      - What is set beside the model's own config.json (C(hf_overrides), C(json_model_override_args), C(environment))
        says how long a context is.
      - With O(version), eager mode, the sequences and the arguments of vLLM say how many CUDA graphs it keeps.
    type: dict
    default: {}
  version:
    description:
      - Version of the engine. Empty means that it is not known.
      - The type of KV cache that a checkpoint's quantisation sets counts where this version of vLLM or SGLang, or an
        older one, is known to take it; C(kv_cache_dtype) in O(settings) goes before it.
    type: str
    default: ""
  refuse:
    description: Fail when the model does not fit.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Refuse what cannot work before anything is fetched
  dsdeploy.llm.model_fit:
    model: "{{ dsdeploy_model_entry }}"
    nvidia_smi: "{{ ansible_facts.nvidia_smi }}"
    engine: vllm
    catalog: "{{ model_catalog }}"
    tensor_parallel: 8
    context: 32768
"""

RETURN = r"""
fit:
  description:
    - The plan. Each number is a mapping of C(value) (bytes, unless the name says tokens or layers), C(label)
      (exact, estimated or measured) and C(how) (its formula).
  returned: always
  type: dict
  contains:
    verdict:
      description:
        - V(fits), V(tight) (only if the engine's overhead stays low, and it keeps no more of a window than that),
          V(no), or V(unknown) where numbers of the model or the GPUs are not known.
      type: str
    summary:
      description: The plan in one line.
      type: str
    notes:
      description: Why GPUs are left out, and what is not counted, one line each.
      type: list
      elements: str
    tensor_parallel:
      description: GPUs that share each layer (vLLM and SGLang). So C(pipeline_parallel) and C(data_parallel).
      type: int
    context:
      description: Tokens of one sequence that it was planned for.
      type: int
    problems:
      description: Why it does not fit, one line each.
      type: list
      elements: str
    would_fit:
      description: What would fit instead, one line each.
      type: list
      elements: str
    largest_context:
      description: Tokens of the longest sequence that fits.
      type: dict
    per_gpu:
      description: Bytes on the fullest GPU (vLLM and SGLang).
      type: dict
    host:
      description: Bytes in the host's memory (vLLM and SGLang on a CPU).
      type: dict
    devices:
      description: Layers and bytes on each device (llama.cpp and Ollama).
      type: list
      elements: dict
    gpu_layers:
      description: Layers on the GPUs (llama.cpp and Ollama).
      type: int
    cpu_share:
      description: Share of the model's memory on the CPU, 0 to 1 (llama.cpp and Ollama).
      type: float
hint:
  description: What would fit.
  returned: failure
  type: str
error_kind:
  description: V(preflight).
  returned: failure
  type: str
"""
