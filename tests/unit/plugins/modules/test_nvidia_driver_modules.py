# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nvidia_driver_facts over a stand-in's sysfs and procfs, and nvidia_driver_check over its facts."""

import subprocess
import sys
from pathlib import Path

import pytest
from run_module import run

STANDIN = Path(__file__).resolve().parents[4] / "tests/standins/nvidia_host.py"
SMI = {"status": "ok", "reason": "", "hint": "", "gpus": [], "fabric": {"ready": None, "state": None, "status": None}}


@pytest.fixture
def facts(tmp_path):
    def gather(*arguments):
        subprocess.run([sys.executable, STANDIN, tmp_path, *arguments], check=True)
        result = run("nvidia_driver_facts", {"sysfs": str(tmp_path / "sys"), "procfs": str(tmp_path / "proc")})
        assert result["changed"] is False
        return result["ansible_facts"]["nvidia_driver"]

    return gather


def test_a_bare_machine(facts):
    found = facts("--gpu=0x2324", "--gpu=0x2324", "--nvswitches=4", "--module=nouveau")
    assert [gpu["generation"] for gpu in found["gpus"]] == ["Hopper", "Hopper"]
    assert found["gpus"][0] == {"address": "0000:10:00.0", "device_id": "0x2324", "generation": "Hopper"}
    assert found["nvswitches"] == 4
    assert found["kernel"]["release"] == "6.1.0-standin"
    assert (found["kernel"]["compiler"], found["kernel"]["has_headers"]) == ("gcc-12", False)
    assert found["nouveau_loaded"] and found["may_load_modules"]
    assert found["secure_boot"] is None
    assert (found["loaded_version"], found["problems"], found["reboot_reasons"]) == (None, [], [])


def test_a_container_with_the_machine_s_driver(facts):
    found = facts("--gpu=0x2330", "--driver=550.90.12", "--no-module-rights", "--nvswitches=4")
    assert (found["loaded_version"], found["loaded_open"]) == ("550.90.12", False)
    assert not found["may_load_modules"]
    assert found["problems"] == []


def test_secure_boot(facts, tmp_path):
    facts("--gpu=0x2330")
    variables = tmp_path / "sys/firmware/efi/efivars"
    variables.mkdir(parents=True)
    (variables / "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c").write_bytes(b"\x06\x00\x00\x00\x01")
    result = run("nvidia_driver_facts", {"sysfs": str(tmp_path / "sys"), "procfs": str(tmp_path / "proc")})
    assert result["ansible_facts"]["nvidia_driver"]["secure_boot"] is True


def test_this_machine():
    assert run("nvidia_driver_facts", {})["ansible_facts"]["nvidia_driver"]["kernel"]["release"]


def test_check_install(facts):
    result = run("nvidia_driver_check", {"stage": "install", "driver": facts("--gpu=0x2324")})
    assert result["kernel_modules"] == "open"
    arguments = {"stage": "install", "driver": facts("--gpu=0x1db4", "--no-module-rights", "--kernel=4.19.0-26-amd64")}
    result = run("nvidia_driver_check", dict(arguments, kernel_modules="open"))
    assert result["failed"]
    assert result["error_kind"] == "preflight"
    assert [problem["name"] for problem in result["problems"]] == ["container", "old_kernel", "kernel_modules"]
    assert "preinstalled" in result["hint"]


def test_check_use(facts):
    driver = facts("--gpu=0x2324", "--gpu=0x2324", "--driver=550.90.12")
    assert not run(
        "nvidia_driver_check", {"stage": "use", "driver": driver, "nvidia_smi": dict(SMI, gpus=[{}, {}])}
    ).get("failed")
    result = run("nvidia_driver_check", {"stage": "use", "driver": driver, "nvidia_smi": dict(SMI, gpus=[{}])})
    assert result["error_kind"] == "verify"
    assert result["msg"] == "gpu_missing: nvidia-smi shows 1 GPUs, the PCI bus holds 2"


def test_gpus_of_virtual_machines_are_not_the_host_s(facts, tmp_path):
    found = facts(*["--gpu=0x2330"] * 8, "--vfio=2")
    assert (len(found["gpus"]), found["vfio_gpus"]) == (6, ["0000:16:00.0", "0000:17:00.0"])
    told = run("nvidia_smi_facts", {"path": "/none", "pci_devices": str(tmp_path / "sys/bus/pci/devices")})
    told = told["ansible_facts"]["nvidia_smi"]
    assert (told["pci_gpu_count"], told["vfio_gpu_count"]) == (6, 2)
    usable = {"stage": "use", "driver": found, "nvidia_smi": dict(SMI, gpus=[{}] * 6)}
    assert not run("nvidia_driver_check", usable).get("failed")
    result = run("nvidia_driver_check", dict(usable, expected_gpus=8))
    assert result["msg"] == (
        "gpu_missing: nvidia-smi shows 6 GPUs, expected are 8; 2 GPUs are bound to vfio-pci, for virtual machines"
    )
    assert result["hint"].startswith("Give them back to this host")
    # One that is missing besides is missing.
    less = run("nvidia_driver_check", dict(usable, nvidia_smi=dict(SMI, gpus=[{}] * 5)))
    assert less["msg"] == "gpu_missing: nvidia-smi shows 5 GPUs, the PCI bus holds 6"
    # All of them: there is no GPU to install a driver for.
    assert facts("--gpu=0x2330", "--vfio=1")["gpus"] == []


B200, H100, GB200 = "--gpu=0x2901", "--gpu=0x2330", "--gpu=0x2941"


@pytest.mark.parametrize(
    ("machine", "bridges", "wants", "switches"),
    [
        ([B200, "--bridges=4", "--cards=8"], 4, True, "NVSwitches of NVLink 5, behind 4 functions of network cards"),
        # A rack's compute node, or a card with PCIe: network cards, and none of them leads to a switch.
        ([GB200, "--cards=4"], 0, False, ""),
        ([B200], 0, False, ""),
        ([B200, "--bridges=4", "--closed-vpd"], None, None, ""),
        # Before Blackwell the switches are on the bus, and no card is asked.
        ([H100, "--nvswitches=4", "--cards=8", "--closed-vpd"], 0, True, "4 NVSwitches"),
        ([H100, "--cards=8"], 0, False, ""),
        # What virtual machines have is theirs to manage.
        ([B200, "--vfio=1", "--bridges=4"], 0, False, ""),
    ],
)
def test_whether_nvswitches_need_a_fabric_manager_here(facts, tmp_path, machine, bridges, wants, switches):
    found = facts(*machine, "--driver=580.95.05")
    assert (found["switch_bridges"], found["wants_fabric_manager"], found["switches"]) == (bridges, wants, switches)
    if wants:
        loaded = dict(found, fabric_manager_version=None)
        result = run("nvidia_driver_check", {"stage": "use", "driver": loaded, "nvidia_smi": dict(SMI, gpus=[{}])})
        assert result["msg"].startswith(f"fabric_manager_missing: the host has {switches} and no fabric manager")
    told = run("nvidia_smi_facts", {"path": "/none", "pci_devices": str(tmp_path / "sys/bus/pci/devices")})
    assert told["ansible_facts"]["nvidia_smi"]["nvswitch"]["present"] is wants


def test_a_fabric_manager_without_the_subnet_manager_that_it_starts(facts):
    found = dict(facts(B200, "--bridges=4", "--driver=580.95.05"), fabric_manager_version="580.95.05")
    found["library_version"] = "580.95.05"
    arguments = {"stage": "use", "driver": found, "nvidia_smi": dict(SMI, gpus=[{}])}
    result = run("nvidia_driver_check", arguments)
    assert [problem["name"] for problem in result["problems"]] == ["subnet_manager_missing"] and "nvlsm" in result[
        "hint"
    ]
    assert not run("nvidia_driver_check", dict(arguments, driver=dict(found, subnet_manager=True))).get("failed")
