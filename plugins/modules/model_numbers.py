#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_numbers
short_description: Read what a model is from its own config.json or GGUF header, before it is fetched
version_added: 1.0.0
description:
  - Adds to an entry of the catalog that has no C(architecture) what the model itself tells, so that
    M(dsdeploy.llm.model_fit) can plan it.
  - Looks at the files of the user's own path, or of the store, or else at the hubs. Of a hub the list of files and one
    file are read, of a GGUF file its header only.
  - A model that does not tell is no failure.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.reads
options:
  model:
    description: The resolved entry, as M(dsdeploy.llm.model_resolve) returns it.
    type: dict
    required: true
  models_dir:
    description: The model store.
    type: path
    required: true
  source_order:
    description: Kinds of sources to use, in this order. When empty, as the entry has them.
    type: list
    elements: str
    choices: [pypi, huggingface, modelscope, url, git_lfs, path, generated]
    default: []
  mirrors:
    description: Endpoints of the hubs by their kind, lists in the order to try.
    type: dict
    default: {}
  tokens:
    description: Tokens by endpoint.
    type: dict
    default: {}
  timeout:
    description: Seconds without an answer after which a request is given up.
    type: int
    default: 20
  retries:
    description: How often a request is tried again.
    type: int
    default: 1
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: Read what the model is
  dsdeploy.llm.model_numbers:
    model: "{{ dsdeploy_model_entry }}"
    models_dir: /data/models
    mirrors:
      huggingface: [https://huggingface.co]
  register: numbers
"""

RETURN = r"""
model:
  description: The entry with what was read, such as C(architecture), C(bytes), C(format) and C(kv_cache).
  returned: success
  type: dict
problems:
  description: Why nothing was read, one line each.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import own_numbers
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.catalog import KINDS
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.fetch import Fetch


def main():
    module = AnsibleModule(
        argument_spec=dict(
            model=dict(type="dict", required=True),
            models_dir=dict(type="path", required=True),
            source_order=dict(type="list", elements="str", choices=list(KINDS), default=[]),
            mirrors=dict(type="dict", default={}),
            tokens=dict(type="dict", default={}, no_log=True),
            timeout=dict(type="int", default=20),
            retries=dict(type="int", default=1),
        ),
        supports_check_mode=True,
    )
    p = module.params
    entry = p["model"]
    options = {"kinds": p["source_order"], "mirrors": p["mirrors"], "tokens": p["tokens"]}
    options.update(timeout=p["timeout"], retries=p["retries"])
    fetch = Fetch(entry, p["models_dir"], options, module.warn)
    try:
        fetch.require_place()
        added, problems = own_numbers.look(entry, fetch)
    except Failure as error:
        module.fail_json(**error.fields())
    if problems and not added:
        module.warn(
            "model %s: its memory is not checked before it is fetched: %s" % (entry["name"], "; ".join(problems))
        )
    # What the entry itself says wins.
    module.exit_json(changed=False, model=dict(added, **entry), problems=problems)


if __name__ == "__main__":
    main()
