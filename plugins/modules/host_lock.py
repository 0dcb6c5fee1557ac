# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# An action plugin of the same name says who the run is, and whether the one that holds the lock still lives.
"""One run at a time on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_lock
short_description: One run at a time on a host
version_added: 1.0.0
description:
  - Takes a lock on the host for the run of C(ansible-playbook) that the task belongs to, or gives it back.
  - Fails when another run holds it. The lock goes with its run, also when that is killed. Only where the machine that
    it was started from is gone as well does O(force) have to take it.
  - The lock is gone when the host starts anew.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
attributes:
  check_mode:
    support: full
    details:
      - Check mode changes nothing and needs no lock.
  diff_mode:
    support: N/A
  idempotent:
    support: full
    details:
      - A lock is no state of the host that lasts; it is never reported as a change.
options:
  state:
    description: V(held) takes the lock, V(released) gives it back.
    type: str
    choices: [held, released]
    default: held
  path:
    description: File of the lock.
    type: path
    default: /run/dsdeploy.lock
  force:
    description: Take the lock from whoever holds it.
    type: bool
    default: false
  facts:
    description:
      - Also read what M(dsdeploy.llm.host_facts) returns, in the same process on the host; not for O(state=released).
      - The facts come also where no lock is needed, in check mode, but not where another run holds the lock.
    type: bool
    default: false
  holder:
    description: The run. The action plugin fills it in.
    type: dict
  dead:
    description: A run that is known to have ended. The action plugin fills it in.
    type: dict
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: Lock the host
  dsdeploy.llm.host_lock:

- name: Lock the host, and read what the roles need to know of it
  dsdeploy.llm.host_lock:
    facts: true

- name: Unlock the host
  dsdeploy.llm.host_lock:
    state: released
"""

RETURN = r"""
holder:
  description: The run that holds the lock now.
  returned: for O(state=held), outside check mode
  type: dict
  contains:
    who:
      description: User and machine that started it.
      type: str
    pid:
      description: Its process there.
      type: int
    since:
      description: When it took the lock, UTC, ISO 8601.
      type: str
hint:
  description: What to do next.
  returned: failure
  type: str
error_kind:
  description: V(preflight).
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import lock as host_lock


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            state=dict(type="str", choices=["held", "released"], default="held"),
            path=dict(type="path", default=host_lock.PATH),
            force=dict(type="bool", default=False),
            facts=dict(type="bool", default=False),
            holder=dict(type="dict"),
            dead=dict(type="dict"),
        ),
        supports_check_mode=True,
    )
    p = module.params
    if module.check_mode:
        module.exit_json(changed=False)
    try:
        if p["state"] == "released":
            host_lock.release(p["path"], p["holder"])
            module.exit_json(changed=False)
        found = host_lock.take(p["path"], p["holder"], p["dead"], p["force"])
    except Failure as failure:
        module.fail_json(**failure.fields())
    except OSError as error:
        module.fail_json(msg="%s: %s" % (p["path"], error.strerror), error_kind="preflight")
    module.exit_json(changed=False, holder=found)


if __name__ == "__main__":
    main()
