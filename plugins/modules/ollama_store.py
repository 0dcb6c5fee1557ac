#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ollama_store
short_description: Models in Ollama's own store, on the disk
version_added: 1.0.0
description:
  - Says what the store of a server (OLLAMA_MODELS) holds, and removes models and leftovers from it while the server
    does not run. M(dsdeploy.llm.ollama_model) asks a server that runs.
  - Of a model goes what no other one needs, as with Ollama itself.
  - A model counts as ours only where O(state_file) has noted its very digest. One that was made anew by somebody else,
    and every other one, stays and is named.
author:
  - The dsdeploy developers (@dsdeploy)
extends_documentation_fragment:
  - dsdeploy.llm.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  directory:
    description: The store.
    type: path
    required: true
  state_file:
    description: Where M(dsdeploy.llm.ollama_model) has noted what it made.
    type: path
    required: true
  remove:
    description:
      - Models of ours to remove, by their name in Ollama or in the catalog. One that is not there is no failure.
    type: list
    elements: str
    default: []
  remove_ours:
    description: Remove all models of ours, and what uploads that were cut have left.
    type: bool
    default: false
seealso:
  - module: dsdeploy.llm.ollama_model
"""

EXAMPLES = r"""
- name: See what Ollama holds
  dsdeploy.llm.ollama_store:
    directory: /var/lib/dsdeploy/ollama
    state_file: /var/lib/dsdeploy/ollama-models.json

- name: Take out all that dsdeploy has put there
  dsdeploy.llm.ollama_store:
    directory: /var/lib/dsdeploy/ollama
    state_file: /var/lib/dsdeploy/ollama-models.json
    remove_ours: true
"""

RETURN = r"""
removed:
  description: The models that were removed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: ["deepseek-r1-q4_k_m:latest"]
freed_bytes:
  description: Bytes that got free.
  returned: success
  type: int
leftovers:
  description: Files that uploads which were cut have left.
  returned: success
  type: list
  elements: str
kept:
  description: The models that stay, with the bytes that would get free with them, and whether they are ours.
  returned: success
  type: list
  elements: dict
  sample: [{name: "qwen3:8b", bytes: 5200000000, ours: false}]
msg:
  description: What was done and what stays, in a line. Empty where there is nothing to say.
  returned: success
  type: str
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import ollama_store
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.ollama_notes import Notes
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure


def run(params: Dict[str, Any], dry: bool) -> Dict[str, Any]:
    directory, notes = params["directory"], Notes(params["state_file"])
    stored = ollama_store.models(directory)
    leftovers = ollama_store.leftovers(directory)
    ours = ollama_store.ours(stored, notes.made())
    going = ollama_store.going(stored, ours, params["remove"], params["remove_ours"])
    doomed = leftovers if params["remove_ours"] else []
    freed = 0
    if not dry:
        freed += sum(ollama_store.remove(directory, one) for one in going)
        freed += sum(ollama_store.remove_file(path) for path in doomed)
        # All of them, also after the first that was noted.
        if sum(bool(notes.forget(one.name)) for one in going):
            notes.write()
        stored = ollama_store.models(directory)
    gone = {one.name for one in going}
    kept = [dict(name=one.name, bytes=one.alone, ours=one.name in ours) for one in stored if one.name not in gone]
    return dict(
        changed=bool(going or doomed),
        removed=[one.name for one in going],
        freed_bytes=freed,
        leftovers=leftovers,
        kept=kept,
        msg=ollama_store.told([one.name for one in going], kept if params["remove_ours"] else [], directory),
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            directory=dict(type="path", required=True),
            state_file=dict(type="path", required=True),
            remove=dict(type="list", elements="str", default=[]),
            remove_ours=dict(type="bool", default=False),
        ),
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode)
    except Failure as error:
        module.fail_json(**error.fields())
    except OSError as error:
        module.fail_json(msg="ollama_store: %s" % error, hint="Look at the disk and its permissions.")
    if module.params["remove_ours"] and result["kept"]:
        module.warn(result["msg"].rpartition("; ")[2])
    module.exit_json(**result)


if __name__ == "__main__":
    main()
