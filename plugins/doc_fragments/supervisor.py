# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a module finds the supervisor that role `service` installs on hosts without systemd."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  supervisor_config:
    description: Configuration file of supervisord, for services under supervisor.
    type: path
    default: /etc/dsdeploy/supervisor/supervisord.conf
  supervisorctl:
    description: The C(supervisorctl) to call, for services under supervisor.
    type: path
    default: /opt/dsdeploy/supervisor/bin/supervisorctl
"""
