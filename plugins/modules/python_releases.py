# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases of an engine that is a Python package: the current one, the one before, and what nothing needs any more."""

from __future__ import annotations

DOCUMENTATION = r"""
module: python_releases
short_description: Which release of an engine is current, which was before, and what is not needed any more
version_added: 1.0.0
description:
  - Looks at the links C(current) and C(previous) below a directory of releases, and at which of the two have answered.
  - With O(release) makes it the current one; a release before that has answered is remembered as the previous one.
  - With O(served) notes how the current release was served when it answered, and removes what belongs to neither of the
    two.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Not of what O(served) holds.
  idempotent:
    support: full
options:
  root:
    description: Directory of the releases.
    type: path
    required: true
  release:
    description: Name of the release to switch to.
    type: str
  served:
    description:
      - How the current release is served, as a JSON text.
      - The user's own environment variables are among it, so that root alone can read it.
    type: str
  gang:
    description: The hosts that serve the current release together, by rank. Empty for one host.
    type: list
    elements: str
    default: []
  of_gang:
    description:
      - Whether the engine is served by several hosts together. Then nothing is done on any of them unless the first has
        answered, as M(dsdeploy.llm.gang) says with O(dsdeploy.llm.gang#module:state=answered).
    type: bool
    default: false
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: Switch to a release
  dsdeploy.llm.python_releases:
    root: /opt/dsdeploy/vllm
    release: 0.32.0-cpu-1b2c3d4e
"""

RETURN = r"""
root:
  description: The directory of the releases.
  type: str
  returned: always
current:
  description: Name of the current release; empty where there is none.
  type: str
  returned: always
previous:
  description: Name of the one before; empty where there is none.
  type: str
  returned: always
has_answered:
  description: Whether the current release has ever answered.
  type: bool
  returned: always
can_go_back:
  description: Whether there is another one before it that has answered, alone or with the hosts of O(gang).
  type: bool
  returned: always
why_not_back:
  description: Why it cannot be gone back to, and what to do about it; V(null) where it can.
  type: dict
  returned: always
  contains:
    msg:
      description: What stands in the way.
      type: str
    hint:
      description: What to do about it.
      type: str
removed:
  description: Paths that were removed.
  type: list
  elements: str
  returned: always
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.builds import releases
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.desired import Desired
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "release": {"type": "str"},
            "served": {"type": "str", "no_log": True},
            "gang": {"type": "list", "elements": "str", "default": []},
            "of_gang": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    root, release, served = (module.params[name] for name in ("root", "release", "served"))
    check = module.check_mode
    before = releases.look(root)
    changed, diff, removed = False, [], []
    try:
        if release:
            changed = releases.switch(root, release, check)
        after = before._replace(current=release) if release and check else releases.look(root)
        if changed:
            header = os.path.join(root, releases.CURRENT)
            diff.append(
                {
                    "before_header": header,
                    "after_header": header,
                    "before": before.current + "\n",
                    "after": after.current + "\n",
                }
            )
        # In check mode on a bare host there is no release to note it in.
        if served is not None and os.path.isdir(os.path.join(root, releases.CURRENT)):
            path = os.path.join(root, releases.CURRENT, releases.SERVED)
            desired = Desired(check)
            noted = desired.file(path, served, 0o600, os.geteuid(), os.getegid(), secret=True)
            removed = releases.superfluous(root)
            if not check:
                releases.remove(removed)
                after = releases.look(root)
            changed = changed or noted or bool(removed)
            diff += desired.diffs
    except Failure as failure:
        module.fail_json(**failure.fields())
    except OSError as error:
        hint = "Is its file system full, or read-only?"
        module.fail_json(msg="%s: %s" % (error.filename or root, error.strerror), hint=hint)
    problem = releases.back_problem(after, module.params["gang"])
    module.exit_json(
        changed=changed,
        removed=removed,
        diff=diff,
        root=root,
        current=after.current,
        previous=after.previous,
        has_answered=after.has_answered,
        can_go_back=problem is None,
        why_not_back={"msg": str(problem), "hint": problem.hint} if problem else None,
    )


if __name__ == "__main__":
    main()
