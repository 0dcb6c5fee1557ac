# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every fixed path on a host, once.

What is fixed is how one run finds what another has left. Directories for the engines, the models, the data and the logs
are variables; what a later run needs to know of them stands in a record below RECORDS or in HOST.
"""

from __future__ import annotations

CONFIG = "/etc/dsdeploy"
RECORDS = CONFIG + "/deployments"  # <engine>.json: what is deployed
BEFORE = CONFIG + "/before"  # by the service's name, 0600: what it was when it last answered
KEYS = CONFIG + "/keys"  # API keys by the service's name, 0600
FIREWALL = CONFIG + "/firewall"  # <service>.json: rules of the firewall that are ours
OWNED = CONFIG + "/owned.json"  # users, groups and directories that are ours, 0600
GATEWAY = CONFIG + "/gateway"  # configuration, certificate, maps and the hashes of its keys
HOST = CONFIG + "/host.json"  # where this host's supervisor is
SALT = CONFIG + "/salt"  # of the revisions of services, 0600

SUPERVISOR_CONFIG = CONFIG + "/supervisor/supervisord.conf"
SUPERVISOR_PROGRAMS = CONFIG + "/supervisor/conf.d"
# Not in a directory of their own: who starts a container starts supervisord, where /run is empty.
SUPERVISOR_SOCKET = "/run/dsdeploy-supervisor.sock"
SUPERVISOR_PIDFILE = "/run/dsdeploy-supervisord.pid"

UNITS = "/etc/systemd/system"
RUN = "/run/dsdeploy"  # what services note at their start, readable and writable for root alone
LOCK = "/run/dsdeploy.lock"  # one run at a time
BENCH_LOCK = "/run/dsdeploy-bench.lock"  # one measurement at a time
KEYS_LOCK = "/run/dsdeploy-keys.lock"  # of the gateway's keys, which are changed while a run holds LOCK, too
