#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

# The work is done on the controller, by the action plugin of the same name.

DOCUMENTATION = r"""
module: deployment_plan
short_description: Say what fits a machine, what would be deployed there, and what that takes
version_added: 1.0.0
description:
  - Plans each model of the catalog with each engine that serves it on the GPUs of a host, of a saved file of facts, or
    of the table of GPUs; recommends one with its reason; and says what the deployment that is asked for would change.
  - Fails where a model is named and nothing of it fits.
author:
  - The dsdeploy developers (@dsdeploy)
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.reads
  - dsdeploy.llm.attributes.controller
options:
  model:
    description: Model, or family of models, of the catalog; else what O(model_entry) is of.
    type: str
    required: true
  model_entry:
    description: Entry of a model that is not in the catalog, as M(dsdeploy.llm.model_numbers) returns it.
    type: dict
    default: {}
  embedded:
    description: The model that is served where none is named. Of it the whole catalog is planned.
    type: str
    default: ""
  engine:
    description: Engine that would be deployed.
    type: str
    required: true
  engines:
    description: The table of engines, C(dsdeploy_engines).
    type: dict
    required: true
  catalog:
    description: The catalog.
    type: dict
    required: true
  gpus:
    description: GPUs that are planned instead of a host's, such as V(8xH800-80GB), V(2x8xH100-80GB), V(any).
    type: str
  facts_file:
    description:
      - Saved output of C(nvidia-smi -q -x) or C(nvidia-smi), or facts of M(dsdeploy.llm.host_facts) in JSON, on the
        controller.
    type: path
  facts:
    description: Facts of the host, as M(dsdeploy.llm.host_facts) gives them. Used without O(gpus) and O(facts_file).
    type: dict
    default: {}
  deployments:
    description: Deployment records of the host.
    type: list
    elements: dict
    default: []
  store:
    description: C(models) and C(disk) of M(dsdeploy.llm.model_info).
    type: dict
    default: {}
  users:
    description: Requests at the same time, each of full length.
    type: int
    default: 1
  context:
    description: Tokens of each request. V(0) means 8192, or the model's longest where that is shorter.
    type: int
    default: 0
  profile:
    description: Recipes of the model for V(latency) or V(throughput) go before those for neither.
    type: str
    default: ""
  download_mb_s:
    description: Speed that downloads are reckoned with, in MB/s.
    type: float
    default: 100.0
  merge:
    description: How shards are merged for Ollama, C(model_merge).
    type: str
    default: copy
  gang:
    description: How the hosts would serve one model together, in lines, for RV(lines).
    type: list
    elements: str
    default: []
  gang_hosts:
    description:
      - Those hosts, by rank. vLLM and SGLang are planned over all of them, with what each of their GPUs has free.
    type: list
    elements: str
    default: []
  explain:
    description: Whether RV(lines) show each number with its label and formula.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: What a machine would hold
  dsdeploy.llm.deployment_plan:
    model: deepseek-r1
    engine: vllm
    engines: "{{ dsdeploy_engines }}"
    catalog: "{{ model_catalog }}"
    gpus: 8xH800-80GB
    users: 32
    context: 16384
  register: planned
"""

RETURN = r"""
plan:
  description: The plan, in the shape of docs/plan.schema.json.
  returned: when it could be made
  type: dict
  contains:
    machine:
      description: The machine.
      type: dict
    rows:
      description: What becomes of each model with each engine.
      type: list
      elements: dict
    up:
      description: What would be deployed as asked, with its costs, changes and mistakes.
      type: dict
    recommended:
      description: What is recommended, in the same shape, or null.
      type: dict
    needs:
      description: Machines of docs/plan.md that hold what is asked, where this one does not.
      type: list
      elements: dict
    measured:
      description: What engines that run said of their memory, beside what is planned.
      type: list
      elements: dict
lines:
  description: The same for people.
  returned: when it could be made
  type: list
  elements: str
hint:
  description: What to do next.
  returned: failure
  type: str
error_kind:
  description: V(usage) or V(preflight).
  returned: failure
  type: str
"""
