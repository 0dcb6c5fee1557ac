# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine that is a Python package requires of its host and its lock, and what it warns of."""

from __future__ import annotations

DOCUMENTATION = r"""
name: python_engine_checks
author: The dsdeploy developers
version_added: 1.0.0
short_description: What an engine requires of its host and its lock, and what it warns of
description:
  - GPUs that can be used, a lock that holds the version, no known vulnerabilities, a driver that serves its CUDA.
  - Internal, for the roles of engines that are Python packages.
options:
  _input:
    description: What the role knows of its engine and of the host, see C(plugin_utils/python_engines.py).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: What vLLM requires of this host
  ansible.builtin.debug:
    msg: "{{ (_vllm_venv_about | dsdeploy.llm.python_engine_checks).require }}"
"""

RETURN = r"""
_value:
  description: C(require) and C(warn), the options of M(dsdeploy.llm.preflight) of these names.
  type: dict
"""

from ansible_collections.dsdeploy.llm.plugins.plugin_utils import python_engines


def _filter(about):
    return {"require": python_engines.requirements(about), "warn": python_engines.warnings(about)}


class FilterModule:
    def filters(self):
        return {"python_engine_checks": _filter}
