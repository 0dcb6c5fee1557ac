#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine's parameters, checked against the engine that is installed, as its command line."""

from __future__ import annotations

DOCUMENTATION = r"""
module: engine_parameters
short_description: Check an engine's parameters, by themselves and against the installed engine, and render them
version_added: 1.0.0
description:
  - Checks values against a table of types, ranges, choices and versions, and against the flags that the installed
    engine lists in its own help.
  - Fails with everything that is wrong, one line each, before the engine is started. A parameter that has left the
    engine is refused by name, with what replaced it.
  - Returns the words of the command line.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.reads
options:
  table:
    description:
      - The parameters, by name, each with its C(flag), C(type) (str, int, float, flag, json, list), C(choices),
        C(known), C(min), C(max), C(since), C(until), C(replaced_by), C(negative) and C(default), as far as they apply.
    type: dict
    required: true
  values:
    description: Values by the same names. V(null) and empty ones are left to the recipe, then to the
        engine. V(false) of any parameter leaves it to the engine, whatever the recipe says.
    type: dict
    required: true
  recipes:
    description:
      - What the model's entry in the catalog says for this engine, a list of C(since), C(until), C(parameters),
        C(environment) and C(started). The first that is for O(version) fills in the values that are V(null).
      - Of one that was not started on GPUs with this version, by its C(started), a warning tells (O(rules), GPUs).
    type: list
    elements: dict
    default: []
  profile:
    description: V(latency) or V(throughput). A recipe for it goes before one for neither, one for the other is out.
    type: str
    default: ""
  prefix:
    description: Prefix of the role's variables, for messages that name one.
    type: str
    required: true
  engine:
    description: Name of the engine, for messages.
    type: str
    required: true
  version:
    description: Version of the engine.
    type: str
    required: true
  extra_args:
    description:
      - Further words of the command line, which come last. Flags that O(table) has, the API key and files of settings
        are refused among them, and flags that the installed engine does not know.
    type: list
    elements: str
    default: []
  own_lock:
    description:
      - Whether the engine is installed from a lock of the user's own. It may hold another release or plugins, which
        take values that C(known) in O(table) does not name.
    type: bool
    default: false
  rules:
    description: What else to check, of the rules that belong to one engine. None when empty.
    type: str
    choices: ["", sglang, vllm]
    default: ""
  facts:
    description: What the rules need to know, such as C(profile), C(gpus) and C(architecture).
    type: dict
    default: {}
  help_file:
    description:
      - File on the host with the engine's help. Without it nothing is compared with it, and the host is not asked.
    type: path
  model_files:
    description: What is served, C(name) and C(format). One of another format than V(safetensors) is refused.
    type: dict
    default: {}
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: Check them before 4 GB are installed
  dsdeploy.llm.engine_parameters:
    table:
      port: {type: int, min: 1, max: 65535}
      swap_space: {type: int, until: "0.11.0", replaced_by: set kv_offloading_size}
    values: {port: 8000, swap_space: null}
    prefix: vllm_venv
    engine: vLLM
    version: 0.32.0
"""

RETURN = r"""
argv:
  description: The words of the command line.
  type: list
  elements: str
  returned: success
  sample: [--port, "8000"]
values:
  description: The values with the recipe's filled in.
  type: dict
  returned: success
environment:
  description: Environment variables of the recipe.
  type: dict
  returned: success
compared:
  description: Whether the parameters were compared with the installed engine's help.
  type: bool
  returned: success
problems:
  description: Everything found wrong, one line each.
  type: list
  elements: str
  returned: always
hint:
  description: What to do next.
  type: str
  returned: failure
error_kind:
  description: V(usage).
  type: str
  returned: failure
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import asked
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure


def main() -> None:
    module = AnsibleModule(argument_spec=asked.OPTIONS, supports_check_mode=True)
    help_file, text = module.params["help_file"], None
    if help_file and os.path.exists(help_file):
        with open(help_file, encoding="utf-8") as handle:
            text = handle.read()
    try:
        found = asked.look(module.params, text)
    except Failure as failure:
        module.fail_json(problems=failure.problems, **failure.fields())
    for warning in found.pop("warnings"):
        module.warn(warning)
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
