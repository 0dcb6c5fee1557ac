# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# The work is done on the controller, by the action plugin of the same name.
"""Variables that nothing reads, such as misspelt ones."""

from __future__ import annotations

DOCUMENTATION = r"""
module: variable_check
short_description: Variables that nothing reads, such as misspelt ones
version_added: 1.0.0
description:
  - Looks for variables that begin with the name of a role of this collection and that no role of it documents.
  - What the command line sets (C(-e)) is refused. What stands in an inventory or a play is warned of, in one line,
    because users keep variables of their own there.
  - Names that begin with an underscore are not looked at.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.reads
  - dsdeploy.llm.attributes.controller
  - dsdeploy.llm.values
options:
  inventory:
    description: Whether to look at the variables of the inventory and the play, too.
    type: bool
    default: true
  values:
    default: []
  engine:
    description: Name of an engine that must be one of O(engines).
    type: str
  engines:
    description: The table of engines, C(dsdeploy_engines).
    type: dict
    default: {}
  stages:
    description:
      - The playbook's stages, which are its tags, in their order. To leave one out that others need (C(--skip-tags)) is
        refused, as Ansible would leave out those before it, too.
    type: list
    elements: str
    default: []
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: Look for misspelt variables
  dsdeploy.llm.variable_check:
"""

RETURN = r"""
engine:
  description: The entry of O(engine), with its C(name); empty where none is named.
  returned: success
  type: dict
unknown:
  description: Variables of the inventory or the play that nothing reads.
  returned: success
  type: list
  elements: str
hint:
  description: What to do next.
  returned: failure
  type: str
error_kind:
  description: V(usage).
  returned: failure
  type: str
"""
