# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said before an engine is installed all the same."""

from __future__ import annotations

DOCUMENTATION = r"""
name: python_engine_warnings
author: The dsdeploy developers
version_added: 1.0.0
short_description: What is said before an engine is installed all the same
description:
  - A CPU beside GPUs, known holes that are allowed, what several hosts tell each other in clear.
  - Internal, for the roles of engines that are Python packages.
options:
  _input:
    description: What the role knows of its engine and of the host, see C(plugin_utils/python_engines.py).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: What is said before an engine is installed all the same
  ansible.builtin.debug:
    msg: "{{ _vllm_venv_about | dsdeploy.llm.python_engine_warnings }}"
"""

RETURN = r"""
_value:
  description: Lines, for the option O(dsdeploy.llm.preflight#module:warn) of module M(dsdeploy.llm.preflight).
  type: list
  elements: str
"""

from ansible_collections.dsdeploy.llm.plugins.plugin_utils import python_engines


class FilterModule:
    def filters(self):
        return {"python_engine_warnings": python_engines.warnings}
