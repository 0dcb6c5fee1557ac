#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_info
short_description: List the models in the store of a host
version_added: 1.0.0
description:
  - Lists every revision of every model in the store, whether it is complete and which engine serves it.
  - Files are looked at (size), not read; see M(dsdeploy.llm.model_verify).
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.reads
options:
  models_dir:
    description: The model store.
    type: path
    required: true
  records_dir:
    description: Where the deployment records lie.
    type: path
    default: /etc/dsdeploy/deployments
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: See what is in the store
  dsdeploy.llm.model_info:
    models_dir: /data/models
  register: store
"""

RETURN = r"""
models:
  description: The revisions, sorted by name and revision.
  returned: success
  type: list
  elements: dict
  contains:
      name:
        description: Name of the model.
        type: str
      revision:
        description: Revision, the name of its directory.
        type: str
      directory:
        description: Where it lies.
        type: str
      complete:
        description: Whether its manifest is there and every file has its size.
        type: bool
      format:
        description: V(gguf) or V(safetensors); none while it is not complete.
        type: str
      files:
        description: Number of files.
        type: int
      bytes:
        description: Bytes on disk.
        type: int
      source:
        description: Where it came from.
        type: dict
      problems:
        description: What is wrong with its files, one line each.
        type: list
        elements: str
      served_by:
        description: Engines that serve it, from the deployment records.
        type: list
        elements: str
      needed_by:
        description: Engines whose release before served it, which C(dsdeploy rollback) serves again.
        type: list
        elements: str
      busy:
        description: Whether a run is fetching it.
        type: bool
disk:
  description: Bytes that are free where the store lies.
  returned: success
  type: dict
  contains:
    mount:
      description: Mount point.
      type: str
    free:
      description: Free bytes.
      type: int
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.disk import space
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import admin as store_admin


def main():
    module = AnsibleModule(
        argument_spec=dict(
            models_dir=dict(type="path", required=True),
            records_dir=dict(type="path", default=store_admin.RECORDS),
        ),
        supports_check_mode=True,
    )
    models_dir = module.params["models_dir"]
    mount, free = space(models_dir)
    module.exit_json(
        changed=False,
        models=store_admin.inventory(models_dir, module.params["records_dir"]),
        disk={"mount": mount, "free": free},
    )


if __name__ == "__main__":
    main()
