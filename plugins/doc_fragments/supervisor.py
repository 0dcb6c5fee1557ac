# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a module finds the supervisor that runs services on hosts without systemd."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  supervisor_config:
    description: Configuration file of supervisord, which names the socket that it is asked over.
    type: path
    default: /etc/dsdeploy/supervisor/supervisord.conf
"""
