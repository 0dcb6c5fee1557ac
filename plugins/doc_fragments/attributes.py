# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module says of itself. A module overrides `support` and `details` where it differs.

`dsdeploy.llm.attributes` alone: the module states its own support for each of the three.
With it `dsdeploy.llm.attributes.reads`: a module that changes nothing; `.facts`: one that also returns facts;
`.controller`: one that runs on the controller alone; `.progress`: one that shows how far it is.
"""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)) in diff mode.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that the system controlled or queried by the module has not changed in a relevant way.
"""

    READS = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This action does not modify state.
  diff_mode:
    support: N/A
    details:
      - This action does not modify state.
  idempotent:
    support: full
    details:
      - This action does not modify state.
"""

    FACTS = r"""
options: {}
attributes:
  facts:
    description: Action returns an C(ansible_facts) dictionary that will update existing host facts.
    support: full
"""

    CONTROLLER = r"""
options: {}
notes:
  - Runs on the controller and needs no connection to the host.
"""

    PROGRESS = r"""
options: {}
attributes:
  async:
    description: Supports being used with the C(async) keyword.
    support: full
  progress:
    description: Shows how far it is while it runs.
    support: full
    details:
      - A line every ten seconds; with C(DSDEPLOY_PROGRESS=json) in the controller's environment a JSON line a second.
      - Not in check mode, nor with C(async) on the task.
"""
