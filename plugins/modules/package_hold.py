#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: package_hold
short_description: Keep packages at the version they have
version_added: 1.0.0
author:
  - The dsdeploy developers (@dsdeploy)
description:
  - Puts packages on hold with C(apt-mark), or locks their version with C(dnf versionlock), a plugin of dnf.
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
  names:
    description: Names of the packages, all of them at once.
    type: list
    elements: str
    required: true
  state:
    description: Whether they are held, or free to be upgraded.
    type: str
    choices: [held, free]
    default: held
"""

EXAMPLES = r"""
- name: Keep the driver as it is
  dsdeploy.llm.package_hold:
    names: [nvidia-headless-550-server, nvidia-fabricmanager-550]
"""

RETURN = r"""
held:
  description: Those of O(names) that are held afterwards.
  type: list
  elements: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.packages import parse_apt_holds, parse_versionlocks

COMMANDS = {
    "apt": {"list": ["apt-mark", "showhold"], "held": ["apt-mark", "hold"], "free": ["apt-mark", "unhold"]},
    "dnf": {
        "list": ["dnf", "--quiet", "versionlock", "list"],
        "held": ["dnf", "--quiet", "versionlock", "add"],
        "free": ["dnf", "--quiet", "versionlock", "delete"],
    },
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": ["held", "free"], "default": "held"},
        },
        supports_check_mode=True,
    )
    names, state = module.params["names"], module.params["state"]
    manager = "apt" if module.get_bin_path("apt-mark") else "dnf"

    def run(what: str, *more: str) -> str:
        command = COMMANDS[manager][what] + list(more)
        rc, out, err = module.run_command(command, environ_update={"LC_ALL": "C"})
        if rc:
            module.fail_json(msg="%s: %s" % (" ".join(command[:3]), (err or out).strip()))
        return out

    said = run("list")
    locked = parse_apt_holds(said) if manager == "apt" else parse_versionlocks(said, names)
    before = sorted(set(names) & set(locked))
    after = sorted(set(names)) if state == "held" else []
    change = sorted(set(before) ^ set(after))
    if change and not module.check_mode:
        run(state, *change)
    lines = ["".join("%s\n" % name for name in names) for names in (before, after)]
    module.exit_json(changed=bool(change), held=after, diff={"before": lines[0], "after": lines[1]})


if __name__ == "__main__":
    main()
