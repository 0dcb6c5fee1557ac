#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_verify
short_description: Read the models of the store again and compare every file with its sha256
version_added: 1.0.0
description:
  - Hashes every file of the models at disk speed.
  - A model with a damaged file is taken from engines (its manifest goes), and the module fails. The next
    M(dsdeploy.llm.model_fetch) fetches the damaged files again and keeps the others.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
attributes:
  check_mode:
    support: full
    details:
      - Reads and compares all the same, but leaves a damaged model visible.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  models_dir:
    description: The model store.
    type: path
    required: true
  names:
    description: Models to verify. Empty means all that are complete.
    type: list
    elements: str
    default: []
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: Read every model of the store again
  dsdeploy.llm.model_verify:
    models_dir: /data/models
"""

RETURN = r"""
verified:
  description: What was read.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the model.
      type: str
    revision:
      description: Revision.
      type: str
    directory:
      description: Where it lies.
      type: str
    files:
      description: Number of files.
      type: int
    bytes:
      description: Bytes read.
      type: int
    seconds:
      description: Time it took, s.
      type: float
    problems:
      description: What is wrong, one line each.
      type: list
      elements: str
hint:
  description: What to do next.
  returned: failure
  type: str
error_kind:
  description: V(verify), or V(usage) for a model that is not in the store.
  returned: failure
  type: str
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import Progress
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import admin as store_admin


def main():
    module = AnsibleModule(
        argument_spec=dict(
            models_dir=dict(type="path", required=True),
            names=dict(type="list", elements="str", default=[]),
        ),
        supports_check_mode=True,
    )
    found = store_admin.inventory(module.params["models_dir"])
    names = [name.lower() for name in module.params["names"]]
    missing = sorted(set(names) - set(item["name"].lower() for item in found))
    if missing:
        module.fail_json(
            msg="model %s is not in the store %s" % (", ".join(missing), module.params["models_dir"]),
            hint="models there: %s" % (", ".join(sorted(set(item["name"] for item in found))) or "none"),
            error_kind="usage",
        )
    chosen = [item for item in found if item["name"].lower() in names or (not names and item["files"])]
    verified, problems, changed = [], [], False
    for item in chosen:
        started = time.monotonic()
        with Progress("verify %s" % item["name"], item["bytes"]) as progress:
            wrong = store_admin.verify(item["directory"], progress.update)
        verified.append(
            dict(
                name=item["name"],
                revision=item["revision"],
                directory=item["directory"],
                files=item["files"],
                bytes=item["bytes"],
                seconds=round(time.monotonic() - started, 3),
                problems=wrong,
            )
        )
        problems.extend(wrong)
        if wrong and not module.check_mode and item["files"]:
            store_admin.make_invisible(item["directory"], wrong)
            changed = True
    if problems:
        module.fail_json(
            msg="\n".join(problems),
            hint="`dsdeploy up` fetches the damaged files again",
            error_kind="verify",
            changed=changed,
            verified=verified,
        )
    module.exit_json(changed=False, verified=verified)


if __name__ == "__main__":
    main()
