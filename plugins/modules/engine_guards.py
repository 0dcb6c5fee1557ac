# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# The work is done on the controller, by the action plugin of the same name.
"""Refuse what would go around the checks of an engine's address, key, TLS and model."""

from __future__ import annotations

DOCUMENTATION = r"""
module: engine_guards
short_description: Refuse what would bypass the checks of an engine's address, API key, TLS and model
version_added: 1.0.0
description:
  - Engines take words and environment variables of the user's own. Those that set the address, the port, the API key,
    TLS, the allowed origins or the model are refused, in every form that the engine understands, and those that run
    programs for whoever asks.
  - GPUs that cannot be used, or are fewer than the host is said to have, are refused too.
  - An address that others can reach is refused for an engine that answers without its API key; for any other it needs
    an API key and TLS.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.reads
  - dsdeploy.llm.attributes.controller
  - dsdeploy.llm.values
options:
  role:
    description: The engine, by its role.
    type: str
    choices: [vllm_venv, sglang, llama_cpp, ollama]
    required: true
  host:
    description: Address or name that it listens on.
    type: str
    default: 127.0.0.1
  api_key:
    description:
      - The API key that it asks for, if any. One that no client could send is refused, without saying it.
    type: str
    default: ""
  has_tls:
    description: Whether it speaks TLS.
    type: bool
    default: false
  extra_args:
    description: The user's own words for its command line, a list.
    type: raw
    default: []
  environment:
    description: The user's own environment variables.
    type: dict
    default: {}
  several_hosts:
    description: Whether one engine spans hosts, whose processes talk over the network.
    type: bool
    default: false
  gpus:
    description: The GPUs that it is to use where the host has any.
    type: dict
    suboptions:
      nvidia_smi:
        description: The fact of M(dsdeploy.llm.host_facts). GPUs that cannot be used are refused.
        type: dict
        required: true
      expected:
        description: How many the host is said to have. Fewer are refused, unless V(0).
        type: int
        default: 0
      wanted:
        description: Whether it is to use them at all.
        type: bool
        required: true
      instead:
        description: What serves from the CPU all the same, for the hint.
        type: str
        required: true
  values:
    default: []
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: Check what the user sets
  dsdeploy.llm.engine_guards:
    role: llama_cpp
    host: "{{ llama_cpp_host }}"
    api_key: "{{ llama_cpp_api_key }}"
    extra_args: "{{ llama_cpp_extra_args }}"
    environment: "{{ llama_cpp_environment }}"
"""

RETURN = r"""
role_files:
  description:
    - The directory of files of the role that asks, on the controller. In variables of that role C(role_path) would be
      another role's where that one uses them.
  returned: success
  type: str
hint:
  description: What to do next.
  returned: failure
  type: str
error_kind:
  description: V(usage), or V(preflight) for the GPUs.
  returned: failure
  type: str
"""
