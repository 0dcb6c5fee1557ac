#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: memory_facts
short_description: Gather how much memory of a host can be used
version_added: 1.0.0
author:
  - The dsdeploy developers (@dsdeploy)
description:
  - Sets RV(ansible_facts.dsdeploy_memory), for M(dsdeploy.llm.model_fit).
  - In a container with a limit, it is the container's memory.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.reads
  - dsdeploy.llm.attributes.facts
"""

EXAMPLES = r"""
- name: Gather what a model can take
  dsdeploy.llm.memory_facts:
"""

RETURN = r"""
ansible_facts:
  description: The facts to add to those of the host.
  returned: always
  type: dict
  contains:
    dsdeploy_memory:
      description: Memory, in MiB.
      type: dict
      contains:
        total_mib:
          description: What the host or the container has.
          type: int
        available_mib:
          description: What a program can still be given without anything being swapped out.
          type: int
        users:
          description: What the processes of each user hold and give back when they end.
          type: dict
      sample: {total_mib: 24106, available_mib: 22654, users: {dsdeploy-vllm: 2310, root: 180}}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import memory


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.exit_json(changed=False, ansible_facts={"dsdeploy_memory": memory.look()})


if __name__ == "__main__":
    main()
