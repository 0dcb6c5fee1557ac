# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host's driver and compiler go with versions of CUDA."""

from __future__ import annotations

DOCUMENTATION = r"""
name: cuda_compatibility
author: The dsdeploy developers
version_added: 1.0.0
short_description: Whether a host's driver and compiler go with versions of CUDA
description:
  - Compares a driver and a host compiler with the table of what each CUDA goes with.
options:
  _input:
    description: The table, by version of CUDA, with C(driver), C(oldest_driver) and C(gcc).
    type: dict
    required: true
  versions:
    description: Versions of CUDA, such as V(12.4).
    type: list
    elements: str
    required: true
  driver:
    description: Version of the driver. Empty when there is none.
    type: str
    default: ""
  compiler:
    description: Command of the host compiler.
    type: str
    default: g++
  gcc:
    description: Its version. Empty when it is not to be checked.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: A driver that is too old
  ansible.builtin.debug:
    msg: "{{ cuda_toolkit_compatibility | dsdeploy.llm.cuda_compatibility(['12.4'], driver='470.82.01') }}"
"""

RETURN = r"""
_value:
  description: What stands in the way (C(problems), each with C(that), C(msg) and C(hint)) and C(warnings).
  type: dict
"""

from ansible.errors import AnsibleFilterError
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia import cuda


def _filter(table, versions, driver="", compiler="g++", gcc=""):
    try:
        problems, warnings = cuda.compatibility(table, versions, driver, compiler, gcc)
    except (KeyError, TypeError, ValueError) as error:
        raise AnsibleFilterError(
            "cuda_compatibility: each version needs driver, oldest_driver and gcc: %s" % error
        ) from error
    return {"problems": [dict(problem, that=False) for problem in problems], "warnings": warnings}


class FilterModule:
    def filters(self):
        return {"cuda_compatibility": _filter}
