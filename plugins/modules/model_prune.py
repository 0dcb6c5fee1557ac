#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_prune
short_description: Remove from the store what nothing needs any more
version_added: 1.0.0
description:
  - Removes half-downloaded revisions that no run is working on, and revisions that nothing serves of models of which
    another revision is served. A revision that a deployment record names is never removed.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  models_dir:
    description: The model store.
    type: path
    required: true
  records_dir:
    description: Where the deployment records lie.
    type: path
    default: /etc/dsdeploy/deployments
  name:
    description:
      - Remove this model instead, in all its revisions, whether something serves it or not. Files in their directories
        that are not the model's stay, and are named.
    type: str
  unused:
    description: Also remove complete models that nothing serves.
    type: bool
    default: false
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: Remove old revisions and half downloads
  dsdeploy.llm.model_prune:
    models_dir: /data/models
"""

RETURN = r"""
removed:
  description: What was removed, or would be in check mode.
  returned: success
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
      description: Where it lay.
      type: str
    bytes:
      description: Bytes on disk.
      type: int
    reason:
      description: Why it could go.
      type: str
freed_bytes:
  description: Bytes that were freed, or would be.
  returned: success
  type: int
"""

import contextlib
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import is_in
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import admin as store_admin


@contextlib.contextmanager
def told(module):
    """What stands in the way of removing ends the module, in one line."""
    try:
        yield
    except Failure as failure:
        module.fail_json(**failure.fields())
    except (OSError, ValueError) as error:
        module.fail_json(msg="model store: %s" % error, hint="remove it by hand if it is not needed")


def remove_named(module, name):
    """All that the store has of one model."""
    needed = store_admin.needed_paths(module.params["records_dir"])
    gone, left = store_admin.remove_all(module.params["models_dir"], name, module.check_mode)
    for engine, path in needed:
        if any(is_in(path, directory) for directory in gone):
            module.warn(
                "model %s: the release of %s before the one that runs served it, and cannot be gone back to without "
                "it (dsdeploy rollback)" % (name, engine)
            )
    for path in left:
        module.warn("%s: not the model's, stays" % path)
    removed = [
        dict(name=name, revision=os.path.basename(path), directory=path, bytes=0, reason="it was named")
        for path in gone
    ]
    module.exit_json(changed=bool(gone), removed=removed, freed_bytes=0)


def main():
    module = AnsibleModule(
        argument_spec=dict(
            models_dir=dict(type="path", required=True),
            records_dir=dict(type="path", default=store_admin.RECORDS),
            unused=dict(type="bool", default=False),
            name=dict(type="str"),
        ),
        supports_check_mode=True,
    )
    if module.params["name"]:
        with told(module):
            remove_named(module, module.params["name"])
    found = store_admin.inventory(module.params["models_dir"], module.params["records_dir"])
    going = store_admin.superfluous(found, module.params["unused"])
    gone = [item["directory"] for item, _reason in going]
    with told(module):
        for directory in [] if module.check_mode else gone:
            for path in store_admin.remove(directory):
                module.warn("%s: not the model's, stays" % path)
    before = [item["directory"] for item in found]
    module.exit_json(
        changed=bool(going),
        removed=[
            dict(
                name=item["name"],
                revision=item["revision"],
                directory=item["directory"],
                bytes=item["bytes"],
                reason=reason,
            )
            for item, reason in going
        ],
        freed_bytes=sum(item["bytes"] for item, _reason in going),
        diff=dict(
            before="".join(path + "\n" for path in before),
            after="".join(path + "\n" for path in before if path not in gone),
        ),
    )


if __name__ == "__main__":
    main()
