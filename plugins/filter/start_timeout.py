# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long an engine may take to start."""

from __future__ import annotations

DOCUMENTATION = r"""
name: start_timeout
author: The dsdeploy developers
version_added: 1.0.0
short_description: How long an engine may take to start
description:
  - Seconds of doing nothing after which the start of an engine counts as hung, from the size of its model.
  - The base plus the time to read the model at 100 MB/s, as from a cold network disk.
positional: base_s
options:
  _input:
    description: Size of the model's weights, in bytes.
    type: int
    required: true
  base_s:
    description: What the engine needs for a model of no size, in seconds.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: 404 GB with llama.cpp
  ansible.builtin.debug:
    msg: "{{ 404430186272 | dsdeploy.llm.start_timeout(60) }}"
"""

RETURN = r"""
_value:
  description: Seconds.
  type: int
"""

from ansible.errors import AnsibleFilterError
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.waiting import limit
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.start_timeout import start_timeout


def _filter(model_bytes, base_s):
    try:
        return start_timeout(int(model_bytes), int(base_s))
    except (TypeError, ValueError) as error:
        raise AnsibleFilterError("start_timeout: %s" % error) from error


class FilterModule:
    def filters(self):
        return {"start_timeout": _filter, "start_limit": lambda idle_s: limit(int(idle_s))}
