#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# An action plugin of the same name says which run it is that gives its lock back.

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_report
short_description: What a deployment has come to, and the host left to other runs
version_added: 1.0.0
author:
  - The dsdeploy developers (@dsdeploy)
description:
  - Tells of a deployment what M(dsdeploy.llm.deployment_facts) does, makes the quick checks of
    M(dsdeploy.llm.host_check) that concern it, and gives the host's lock back as M(dsdeploy.llm.host_lock) does, in one
    process on the host.
  - Of the checks, a line is warned of for each that does not pass. Nothing is said of a host that is in order.
  - The lock is not given back where this fails.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.reads
  - dsdeploy.llm.attributes.facts
  - dsdeploy.llm.supervisor
options:
  path:
    description: Directory of the records.
    type: path
    default: /etc/dsdeploy/deployments
  engine:
    description: Return the records of this engine alone.
    type: str
  checks:
    description: Whether to make the checks.
    type: bool
    default: true
  lock:
    description: File of the lock.
    type: path
    default: /run/dsdeploy.lock
  holder:
    description: The run. The action plugin fills it in.
    type: dict
seealso:
  - module: dsdeploy.llm.deployment_facts
  - module: dsdeploy.llm.host_check
  - module: dsdeploy.llm.host_lock
"""

EXAMPLES = r"""
- name: Report what is deployed, and leave the host to other runs
  dsdeploy.llm.deployment_report:
    engine: llama_cpp
"""

RETURN = r"""
deployments:
  description: As M(dsdeploy.llm.deployment_facts) returns them.
  returned: always
  type: list
  elements: dict
unreadable:
  description: Files that are no records, with C(file) and C(reason).
  returned: always
  type: list
  elements: dict
checks:
  description: Results of the checks, as M(dsdeploy.llm.host_check) returns them.
  returned: with O(checks)
  type: list
  elements: dict
unlocked:
  description: Whether the lock was given back. In check mode there is none.
  returned: success
  type: bool
ansible_facts:
  description: The same list as a fact.
  returned: always
  type: dict
  contains:
    dsdeploy_deployments:
      description: As RV(deployments).
      type: list
      elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.check import told
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.make import make
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.reading import Place
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import lock as host_lock
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.deployed import deployed, refuse_unreadable


def check(module, deployments):
    """The results of the quick checks; what does not pass is warned of."""
    place = Place(
        records=module.params["path"],
        supervisor_config=module.params["supervisor_config"],
        engine=module.params["engine"] or "",
        known=tuple(deployments),
    )
    found = make(place, moment="up")["checks"]
    for line in told(found):
        module.warn(line)
    return found


def unlock(module):
    """Whether the lock was given back; in check mode there is none."""
    try:
        if not module.check_mode:
            host_lock.release(module.params["lock"], module.params["holder"] or {})
    except (Failure, OSError) as error:
        module.warn("%s: the lock could not be given back: %s" % (module.params["lock"], error))
        return False
    return True


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            path=dict(type="path", default=places.RECORDS),
            engine=dict(type="str"),
            checks=dict(type="bool", default=True),
            lock=dict(type="path", default=host_lock.PATH),
            holder=dict(type="dict"),
            supervisor_config=dict(type="path", default=places.SUPERVISOR_CONFIG),
        ),
        supports_check_mode=True,
    )
    result, problems = deployed(module)
    if module.params["checks"]:
        result["checks"] = check(module, result["deployments"])
    refuse_unreadable(module, problems, result)
    module.exit_json(changed=False, unlocked=unlock(module), **result)


if __name__ == "__main__":
    main()
