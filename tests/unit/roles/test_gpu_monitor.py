# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role gpu_monitor: how systemd confines the exporter."""

import sys
from pathlib import Path

import yaml
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import confinement

sys.path.insert(0, str(Path(__file__).parent))
from resolve import ROLES


def test_the_exporter_sees_the_gpus_that_it_tells_of():
    """A unit without devices of NVIDIA's exports nothing: NVML does not start in it."""
    (task,) = yaml.safe_load((ROLES / "gpu_monitor/tasks/service.yml").read_text(encoding="utf-8"))
    given = task["vars"]["service_definition"]
    plain = {"hardening": True, "needs": [], "record": {}, "state_dir": "/var/lib/dsdeploy/x", "write_paths": []}
    found = {**plain, **{key: given[key] for key in plain if key in given}}
    lines = confinement.settings(found, ["/bin/true"], 252)
    assert "DeviceAllow=char-nvidia* rwm" in lines
    assert "PrivateDevices=yes" not in lines
    # It listens on loopback, and needs nobody else.
    assert "IPAddressDeny=any" in lines
