# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# The work is done on the controller, by the action plugin of the same name.
"""Fail as the modules of this collection do."""

from __future__ import annotations

DOCUMENTATION = r"""
module: failure
short_description: Fail with a message, the next thing to do, and the kind of the failure
version_added: 1.0.0
description:
  - What M(ansible.builtin.fail) does, with what the command line tells its user and chooses its exit code by.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: N/A
  idempotent:
    support: N/A
options:
  msg:
    description: What is wrong, in one line.
    type: str
    required: true
  hint:
    description: What to do next, in one line.
    type: str
    default: ""
  error_kind:
    description: Kind of the failure.
    type: str
    choices: [usage, preflight, service, verify, reboot]
    required: true
  log_tail:
    description: Last lines of a log that shows it.
    type: list
    elements: str
    default: []
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: Say that the upgrade was taken back
  dsdeploy.llm.failure:
    msg: vLLM 0.32.0 did not answer; 0.31.0 runs again
    hint: Its log says why.
    error_kind: verify
"""

RETURN = r"""
hint:
  description: The hint.
  returned: always
  type: str
error_kind:
  description: The kind.
  returned: always
  type: str
log_tail:
  description: The lines.
  returned: always
  type: list
  elements: str
"""
