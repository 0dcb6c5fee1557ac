# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that make virtual environments have in common."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  path:
    description: Directory of the environment. What stands there is replaced when it does not match.
    type: path
    required: true
notes:
  - An environment counts as made only once its stamp is written, last of all. One that was interrupted half-way, or
    made from something else or for another Python, is made anew.
  - It is made in its place, where the one before is removed first. One that a service runs from needs a path of its own
    for each content.
"""
