#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: memory_facts
short_description: Gather how much memory of a host can be had
version_added: 1.0.0
author:
  - The dsdeploy developers (@dsdeploy)
description:
  - Sets RV(ansible_facts.dsdeploy_memory), for M(dsdeploy.llm.model_fit).
  - In a container with a limit, it is the container's memory.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
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

import os
import pwd

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import memory as host_memory

CGROUP = "/sys/fs/cgroup"
MIB = 1024**2


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except OSError:
        return ""


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def held_by_user() -> dict:
    """Bytes by user name. A process that ends meanwhile holds nothing."""
    held: dict = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        found = host_memory.own(read("/proc/%s/status" % pid))
        if found:
            held[found[0]] = held.get(found[0], 0) + found[1]
    return {user_name(uid): size for uid, size in held.items()}


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    # A container sees its own limit at the root of what it sees of the hierarchy; a host has none there.
    group = [read(os.path.join(CGROUP, name)) for name in ("memory.max", "memory.current", "memory.stat")]
    total, free = host_memory.available(read("/proc/meminfo"), *group)
    memory = {
        "total_mib": total // MIB,
        "available_mib": free // MIB,
        "users": {name: size // MIB for name, size in sorted(held_by_user().items())},
    }
    module.exit_json(changed=False, ansible_facts={"dsdeploy_memory": memory})


if __name__ == "__main__":
    main()
