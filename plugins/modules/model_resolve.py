#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

# The work is done on the controller, by the action plugin of the same name.

DOCUMENTATION = r"""
module: model_resolve
short_description: Find a model in the catalog, for an engine
version_added: 1.0.0
description:
  - Checks the catalog and the user's own entries, and returns the entry that a name or an absolute path means.
  - Runs on the controller, and asks the host only for what the catalog does not know of the model.
author:
  - The dsdeploy developers (@dsdeploy)
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.reads
  - dsdeploy.llm.values
options:
  name:
    description:
      - Name in the catalog (case does not matter), or the absolute path of a GGUF file or model directory on the host.
    type: str
    required: true
  engine:
    description: Engine that is to serve the model. Empty accepts any.
    type: str
    default: ""
  catalog:
    description: The catalog, C(model_catalog) of role C(dsdeploy.llm.model).
    type: dict
    required: true
  extra:
    description: The user's own entries in the same form; they win over entries of the same name.
    type: dict
    default: {}
  config_urls:
    description: Whether the URL of a config.json names a model, too. It can be planned, and not fetched.
    type: bool
    default: false
  values:
    default: []
  numbers:
    description:
      - The other options of M(dsdeploy.llm.model_numbers), which reads on the host what the catalog does not know of
        the model. Without them nothing is read.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Resolve the model
  dsdeploy.llm.model_resolve:
    name: deepseek-r1-q4_k_m
    engine: llama_cpp
    catalog: "{{ model_catalog }}"
    extra: "{{ model_catalog_extra }}"
  register: resolved
"""

RETURN = r"""
model:
  description: The entry, with its C(name), and with what was read of it (O(numbers)).
  returned: success
  type: dict
problems:
  description: Why nothing was read, one line each.
  returned: where the model was read
  type: list
  elements: str
hint:
  description: What to do next.
  returned: failure
  type: str
error_kind:
  description: V(usage).
  returned: failure
  type: str
"""
