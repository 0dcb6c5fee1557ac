# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# The work is done on the controller, by the action plugin of the same name.
"""Refuse values of variables that cannot be meant."""

from __future__ import annotations

DOCUMENTATION = r"""
module: value_check
short_description: Refuse values of variables that cannot be meant
version_added: 1.0.0
description:
  - What a role's argument specification cannot say, a range for a number or a number with a few words besides it.
  - Fails with all the values that are wrong in one message.
  - Runs on the controller and needs no connection to the host.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: N/A
  idempotent:
    support: full
options:
  values:
    description: The values to check.
    type: list
    elements: dict
    required: true
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
          - V(version) is a version as of a package, V(cuda_version) two numbers.
          - Without it only O(values[].words) are good.
        type: str
        choices: [port, connections, count, count_or_zero, tokens, seconds, seconds_or_zero, rate, share, version,
          cuda_version]
      words:
        description: Words that are good, too. An empty one stands for an empty value.
        type: list
        elements: str
        default: []
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
