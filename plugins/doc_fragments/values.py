# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of variables that an action checks: `value_rules.VALUES`. The module says whether they are required."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  values:
    description: Values of variables to check besides, as by M(dsdeploy.llm.value_check).
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the variable, for the message.
        type: str
        required: true
      value:
        description: Its value.
        type: raw
        required: true
      kind:
        description:
          - What it is. V(port) is 1 to 65535, V(connections) 1 to 16, V(share) a fraction up to 1, V(rate) any that is
            not negative.
          - V(count), V(tokens) and V(seconds) are at least 1, V(count_or_zero) and V(seconds_or_zero) may be 0.
          - V(list) is a list, and not a string that Ansible would take for one.
          - V(version) is a version as of a package, V(cuda_version) two numbers.
          - Without it only O(values[].words) are good.
        type: str
        choices: [port, connections, count, count_or_zero, tokens, seconds, seconds_or_zero, rate, share, version,
          cuda_version, list]
      words:
        description: Words that are good, too. An empty one stands for an empty value.
        type: list
        elements: str
        default: []
"""
