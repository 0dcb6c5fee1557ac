#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One replica behind the gateway of a host: it gets no more requests, or gets them again."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_replica
short_description: Let the gateway of a host send a replica no more requests, or requests again
version_added: 1.0.0
description:
  - Asks the gateway that runs on the host. What is under way goes on. Nothing is written to disk.
  - A host without a gateway, and a gateway that does not know the replica, are left alone.
  - A host that cannot be reached fails the task where it is one of this run, and is named in a warning where it is not,
    as with C(--limit '!gpu3').
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
  pool:
    description: The engine that it is one of.
    type: str
    required: true
  name:
    description: Its name in the gateway.
    type: str
    required: true
  state:
    description:
      - V(drained) gets no new requests, and has answered those that it had, or O(timeout) is over.
      - V(ready) gets requests. The gateway itself has seen it answer.
    type: str
    choices: [drained, ready]
    required: true
  timeout:
    description: Seconds to wait for that at most.
    type: int
    default: 300
  required:
    description: Whether a host of this run that cannot be reached is a failure. Read on the controller.
    type: bool
    default: true
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: Send gpu2 no more requests
  dsdeploy.llm.gateway_replica:
    pool: llama_cpp
    name: gpu2
    state: drained
  delegate_to: gpu1
"""

RETURN = r"""
reached:
  description: Whether the gateway's host could be reached.
  returned: success
  type: bool
there:
  description: Whether the gateway runs and knows the replica.
  returned: success
  type: bool
streams:
  description: Requests that were still under way when O(timeout) was over.
  returned: success
  type: int
hint:
  description: What to do next.
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway import apply
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway.replica import Replica
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway.runtime import Runtime
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "pool": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["drained", "ready"], "required": True},
            "timeout": {"type": "int", "default": 300},
            "required": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    options = module.params
    record = apply.record()
    replica = Replica(Runtime(str(record["state_dir"])), options["pool"], options["name"]) if record else None
    try:
        if replica is None or not replica.is_there():
            module.exit_json(changed=False, reached=True, there=False, streams=0)
        if module.check_mode:
            changed = replica.is_drained() != (options["state"] == "drained")
            module.exit_json(changed=changed, reached=True, there=True, streams=0)
        if options["state"] == "ready":
            module.exit_json(changed=replica.take_back(options["timeout"]), reached=True, there=True, streams=0)
        changed, left = replica.drain(options["timeout"])
    except Failure as failure:
        module.fail_json(**failure.fields())
    if left:
        module.warn(
            "%s: %d requests were still under way after %d s; they are cut"
            % (options["name"], left, options["timeout"])
        )
    module.exit_json(changed=changed, reached=True, there=True, streams=left)


if __name__ == "__main__":
    main()
