# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# The work is done on the controller, by the action plugin of the same name.
"""Which engine a name means."""

from __future__ import annotations

DOCUMENTATION = r"""
module: engine_resolve
short_description: Which engine a name means
version_added: 1.0.0
description:
  - Finds an engine in the table of engines, and says which one was probably meant when there is none of that name.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.reads
  - dsdeploy.llm.attributes.controller
options:
  name:
    description: Name of the engine. Case, hyphens, dots and underscores do not matter.
    type: str
    required: true
  engines:
    description: The table, C(dsdeploy_engines) of role C(dsdeploy.llm._common).
    type: dict
    required: true
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: Resolve the engine
  dsdeploy.llm.engine_resolve:
    name: llama-cpp
    engines: "{{ dsdeploy_engines }}"
  register: resolved
"""

RETURN = r"""
engine:
  description: The entry of the table, with its C(name).
  returned: success
  type: dict
hint:
  description: What to do next.
  returned: failure
  type: str
error_kind:
  description: V(usage).
  returned: failure
  type: str
"""
