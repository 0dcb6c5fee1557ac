# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# The work is done on the controller, by the action plugin of the same name.
"""Refuse wrong values of variables."""

from __future__ import annotations

DOCUMENTATION = r"""
module: value_check
short_description: Refuse wrong values of variables
version_added: 1.0.0
description:
  - What a role's argument specification cannot say, a range for a number or a number with a few words besides it.
  - Fails with all the values that are wrong in one message.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.reads
  - dsdeploy.llm.attributes.controller
  - dsdeploy.llm.values
options:
  values:
    description: The values to check.
    required: true
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: Check the values
  dsdeploy.llm.value_check:
    values:
      - {name: llama_cpp_port, value: "{{ llama_cpp_port }}", kind: port}
      - {name: llama_cpp_gpu_layers, value: "{{ llama_cpp_gpu_layers }}", kind: count_or_zero, words: [all, auto]}
"""

RETURN = r"""
error_kind:
  description: V(usage).
  returned: failure
  type: str
"""
