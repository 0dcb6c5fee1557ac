# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role nvidia_driver: what it refuses before a driver is there."""

import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from resolve import ROLES, resolve

NAME = "_nvidia_driver_wants_gpus"


@pytest.mark.parametrize(
    ("on_pci", "status", "expected", "holds"),
    [
        (0, "not_installed", 0, True),
        (0, "not_installed", 8, False),
        (0, "not_installed", "8", False),
        # How many are seen is asked once the driver is there.
        (7, "not_installed", 8, True),
        # A container whose PCI bus shows none.
        (0, "ok", 8, True),
    ],
)
def test_a_host_without_gpus_where_some_are_expected_is_refused(on_pci, status, expected, holds):
    facts = {"nvidia_driver": {"gpus": [{}] * on_pci}, "nvidia_smi": {"status": status, "gpus": []}}
    found = resolve("nvidia_driver", "Debian 12", NAME, facts, nvidia_driver_expected_gpus=expected)
    assert found["that"] is holds
    said = "this host has no NVIDIA GPU; 8 are expected (nvidia_driver_expected_gpus)"
    assert (found["msg"], bool(found["hint"])) == (("", False) if holds else (said, True))


def test_the_preflight_asks_it_first():
    tasks = yaml.safe_load((ROLES / "nvidia_driver/tasks/preflight.yml").read_text(encoding="utf-8"))
    (look,) = [task["dsdeploy.llm.preflight"] for task in tasks if "dsdeploy.llm.preflight" in task]
    assert look["require"][0] == "{{ %s }}" % NAME  # noqa: UP031
