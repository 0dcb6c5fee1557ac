# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of service_host.py."""

import sys
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import managers

HERE = Path(__file__).resolve()
sys.path += [str(HERE.parent), str(HERE.parents[4] / "standins")]
from service_host import Host
from standin_supervisor import StandinSupervisor


@pytest.fixture
def host(tmp_path, monkeypatch):
    return Host(tmp_path, monkeypatch)


@pytest.fixture
def supervised(host):
    """The same host without systemd: supervisor is installed, supervisord runs."""
    (host.root / "supervisor").mkdir()
    package = host.root / "opt/supervisor/lib/python3.11/site-packages/supervisor-4.3.0.dist-info"
    package.mkdir(parents=True)
    (host.root / "opt/supervisor/bin").mkdir()
    (host.root / "opt/supervisor/bin/supervisord").write_text("#!/bin/sh\n")
    (host.root / "opt/supervisor/bin/supervisord").chmod(0o755)
    with StandinSupervisor(host.root / "supervisor") as daemon:
        host.daemon = daemon
        host.monkeypatch.setattr(managers.Daemon, "require_ours", lambda self: None)
        yield host
