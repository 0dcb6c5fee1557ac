# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that the roles need to know of a host, in one process."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_facts
short_description: All that the roles need to know of a host, in one process
version_added: 1.0.0
description:
  - Sets the facts of M(ansible.builtin.setup) that the roles read (distribution, platform, Python, service manager), by
    Ansible's own collectors, those of M(dsdeploy.llm.nvidia_smi_facts) and M(dsdeploy.llm.memory_facts), and
    C(dsdeploy_deployments), the deployment records as they stand on the host, without the state of their services.
  - A record that cannot be read is warned of and left out.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.reads
  - dsdeploy.llm.attributes.facts
options:
  timeout:
    description: Seconds in which C(nvidia-smi) has to answer everything.
    type: int
    default: 30
  pci_devices:
    description: The directory with the PCI devices of the host.
    type: path
    default: /sys/bus/pci/devices
  lock:
    description: Take the host's lock first. The action plugin of M(dsdeploy.llm.host_lock) fills it in.
    type: dict
    suboptions:
      path:
        description: File of the lock.
        type: path
        default: /run/dsdeploy.lock
      force:
        description: Take the lock from whoever holds it.
        type: bool
        default: false
      holder:
        description: The run.
        type: dict
        required: true
      dead:
        description: A run that is known to have ended.
        type: dict
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: Read what the roles need to know of the host
  dsdeploy.llm.host_facts:
"""

RETURN = r"""
holder:
  description: The run that holds the lock now.
  returned: with O(lock), outside check mode
  type: dict
ansible_facts:
  description: The facts, besides those of M(ansible.builtin.setup).
  returned: unless another run holds the lock
  type: dict
  contains:
    nvidia_smi:
      description: As M(dsdeploy.llm.nvidia_smi_facts) returns it.
      type: dict
    nvcc:
      description: Every nvcc, as C(path) and C(version), the one in PATH first.
      type: list
      elements: dict
    dsdeploy_memory:
      description: As M(dsdeploy.llm.memory_facts) returns it.
      type: dict
    dsdeploy_deployments:
      description: The deployment records, with C(file).
      type: list
      elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.facts import ansible_collector
from ansible.module_utils.facts.namespace import PrefixFactNamespace
from ansible.module_utils.facts.system.distribution import DistributionFactCollector
from ansible.module_utils.facts.system.platform import PlatformFactCollector
from ansible.module_utils.facts.system.python import PythonFactCollector
from ansible.module_utils.facts.system.service_mgr import ServiceMgrFactCollector
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import lock as host_lock
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import memory
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia import nvcc
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.gather import gather
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.deployments import read_records

# In the order in which they need each other.
COLLECTORS = (PlatformFactCollector, DistributionFactCollector, PythonFactCollector, ServiceMgrFactCollector)


def system(module):
    """Facts of Ansible's own collectors, as `setup` returns them, under the names that begin with `ansible_`."""
    namespace = PrefixFactNamespace(namespace_name="ansible", prefix="ansible_")
    collector = ansible_collector.AnsibleFactCollector([made(namespace=namespace) for made in COLLECTORS], namespace)
    return collector.collect(module=module)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "timeout": {"type": "int", "default": 30},
            "pci_devices": {"type": "path", "default": "/sys/bus/pci/devices"},
            "lock": {
                "type": "dict",
                "options": {
                    "path": {"type": "path", "default": host_lock.PATH},
                    "force": {"type": "bool", "default": False},
                    "holder": {"type": "dict", "required": True},
                    "dead": {"type": "dict"},
                },
            },
        },
        supports_check_mode=True,
    )
    wanted, holder = module.params["lock"], {}
    if wanted and not module.check_mode:
        try:
            found = host_lock.take(wanted["path"], wanted["holder"], wanted["dead"], wanted["force"])
        except Failure as failure:
            module.fail_json(**failure.fields())
        except OSError as error:
            module.fail_json(msg="%s: %s" % (wanted["path"], error.strerror), error_kind="preflight")
        holder = {"holder": found}
        if not host_lock.same(found, wanted["holder"]):
            module.exit_json(changed=False, **holder)
    records, problems = read_records()
    for problem in problems:
        module.warn("%s; skipped" % str(problem))
    facts = dict(
        system(module),
        nvidia_smi=gather(None, max(1, module.params["timeout"]), module.params["pci_devices"]),
        nvcc=nvcc.find(),
        dsdeploy_memory=memory.look(),
        dsdeploy_deployments=records,
    )
    module.exit_json(changed=False, ansible_facts=facts, **holder)


if __name__ == "__main__":
    main()
