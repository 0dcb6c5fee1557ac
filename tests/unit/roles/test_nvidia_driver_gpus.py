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
    facts = {"nvidia_driver": {"gpus": [{}] * on_pci, "vfio_gpus": []}, "nvidia_smi": {"status": status, "gpus": []}}
    found = resolve("nvidia_driver", "Debian 12", NAME, facts, nvidia_driver_expected_gpus=expected)
    assert found["that"] is holds
    said = "this host has no NVIDIA GPU; 8 are expected (nvidia_driver_expected_gpus)"
    assert (found["msg"], bool(found["hint"])) == (("", False) if holds else (said, True))


def test_the_preflight_asks_it_first():
    tasks = yaml.safe_load((ROLES / "nvidia_driver/tasks/preflight.yml").read_text(encoding="utf-8"))
    (look,) = [task["dsdeploy.llm.preflight"] for task in tasks if "dsdeploy.llm.preflight" in task]
    assert look["require"][0] == "{{ %s }}" % NAME  # noqa: UP031


def test_gpus_that_virtual_machines_have_are_told_apart_from_missing_ones():
    facts = {
        "nvidia_driver": {"gpus": [], "vfio_gpus": ["0000:18:00.0"] * 8},
        "nvidia_smi": {"status": "not_installed"},
    }
    found = resolve("nvidia_driver", "Debian 12", NAME, facts, nvidia_driver_expected_gpus=8)
    assert found["msg"].startswith(
        "this host has no NVIDIA GPU, and 8 GPUs are bound to vfio-pci, for virtual machines; 8"
    )
    assert "Give them back" in found["hint"]


HOPPER = {"nvswitches": 4, "switch_bridges": 0, "wants_fabric_manager": True}
B200 = {"nvswitches": 0, "switch_bridges": 4, "wants_fabric_manager": True}
UNKNOWN = {"nvswitches": 0, "switch_bridges": None, "wants_fabric_manager": None}
NONE = {"nvswitches": 0, "switch_bridges": 0, "wants_fabric_manager": False}


@pytest.mark.parametrize("where", ["Debian 12", "Ubuntu 22.04", "Rocky 9"])
@pytest.mark.parametrize(
    ("driver", "asked", "manager", "subnet"),
    [
        (HOPPER, "auto", True, False),
        (B200, "auto", True, True),
        (B200, "false", False, False),
        (UNKNOWN, "auto", False, False),
        (UNKNOWN, "true", True, False),
        (NONE, "auto", False, False),
    ],
)
def test_nvswitches_behind_network_cards_get_their_subnet_manager_too(where, driver, asked, manager, subnet):
    facts = {"nvidia_driver": {"gpus": [{}] * 8, **driver}, "nvidia_smi": {"status": "not_installed"}}
    given = {"nvidia_driver_install_method": "nvidia", "nvidia_driver_fabric_manager": asked,
             "_nvidia_driver_method": "nvidia"}  # fmt: skip
    assert resolve("nvidia_driver", where, "_nvidia_driver_wants_fabric_manager", facts, **given) is manager
    assert ("nvlsm" in resolve("nvidia_driver", where, "_nvidia_driver_other_packages", facts, **given)) is subnet
    modules = resolve("nvidia_driver", where, "_nvidia_driver_fabric_modules", facts, **given)
    assert ("modprobe@ib_umad.service" in modules) is subnet
    assert modules[0] == "modprobe@nvidia.service"
