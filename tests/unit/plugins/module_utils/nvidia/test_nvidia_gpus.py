# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is on the PCI bus, and which kernel modules drive it."""

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia import devices as nvidia_gpus
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.devices import Device

BOTH = ["open", "proprietary"]


@pytest.mark.parametrize(
    ("device_id", "generation"),
    [  # from pci.ids
        (0x1024, "before Maxwell"),  # Tesla K40c
        (0x13F2, "Maxwell"),  # Tesla M60
        (0x17FD, "Maxwell"),  # Tesla M40
        (0x15F8, "Pascal"),  # Tesla P100
        (0x15C2, "Pascal"),
        (0x1617, "Maxwell"),  # GeForce GTX 980M
        (0x1725, "Pascal"),
        (0x172E, "Pascal"),
        (0x172F, "Pascal"),
        (0x174D, "Maxwell"),  # GeForce MX130
        (0x1B38, "Pascal"),  # Tesla P40
        (0x1DB4, "Volta"),  # Tesla V100 PCIe
        (0x1DF6, "Volta"),  # Tesla V100S
        (0x1EB8, "Turing"),  # Tesla T4
        (0x2182, "Turing"),  # GeForce GTX 1660 Ti
        (0x20B2, "Ampere"),  # A100 SXM4 80GB
        (0x20F3, "Ampere"),  # A800 SXM4 80GB
        (0x2204, "Ampere"),  # GeForce RTX 3090
        (0x25B6, "Ampere"),  # A2
        (0x2324, "Hopper"),  # H800
        (0x2330, "Hopper"),  # H100 SXM5
        (0x2335, "Hopper"),  # H200 SXM
        (0x2329, "Hopper"),  # H20
        (0x2684, "Ada"),  # GeForce RTX 4090
        (0x27B8, "Ada"),  # L4
        (0x2901, "Blackwell"),  # B200
        (0x2BB5, "Blackwell"),  # RTX PRO 6000 Blackwell Server
        (0x3182, "Blackwell"),
    ],
)
def test_generation(device_id, generation):
    assert nvidia_gpus.generation_of(device_id) == generation


def test_gpus_and_nvswitches_are_told_from_all_else():
    gpu = Device("0000:18:00.0", "gpu", "0x2324", "Hopper")
    assert nvidia_gpus.device("0000:18:00.0", "0x10de\n", "0x030200\n", "0x2324\n") == gpu
    assert nvidia_gpus.device("0000:01:00.0", "0x10de", "0x030000", "0x2684").generation == "Ada"
    assert nvidia_gpus.device("0000:07:00.0", "0x10de", "0x068000", "0x22a3").kind == "nvswitch"
    assert nvidia_gpus.device("0000:01:00.1", "0x10de", "0x040300", "0x22ba") is None  # its audio
    assert nvidia_gpus.device("0000:00:02.0", "0x8086", "0x030000", "0x4680") is None
    assert nvidia_gpus.device("0000:00:1f.0", "0x8086", "0x068000", "0x7a04") is None


@pytest.mark.parametrize(
    ("generations", "wanted", "available", "chosen"),
    [
        (["Hopper"], "auto", BOTH, "open"),
        (["Turing", "Ada"], "auto", BOTH, "open"),
        (["Hopper"], "auto", ["proprietary", "open"], "proprietary"),
        (["Hopper"], "proprietary", BOTH, "proprietary"),
        (["Hopper"], "open", ["proprietary", "open"], "open"),
        (["Blackwell"], "auto", ["proprietary", "open"], "open"),
        (["Volta"], "auto", BOTH, "proprietary"),
        (["Volta", "Hopper"], "auto", BOTH, "proprietary"),
    ],
)
def test_kernel_modules(generations, wanted, available, chosen):
    assert nvidia_gpus.kernel_modules(generations, wanted, available) == chosen


@pytest.mark.parametrize(
    ("generations", "wanted", "available", "message", "hint"),
    [
        (["Volta"], "open", BOTH, "Volta GPUs need proprietary kernel modules, not open ones", "proprietary or auto"),
        (
            ["Blackwell"],
            "proprietary",
            BOTH,
            "Blackwell GPUs need open kernel modules, not proprietary",
            "open or auto",
        ),
        (["Blackwell"], "auto", ["proprietary"], "Blackwell GPUs need open kernel modules, which", "to nvidia"),
        (["Hopper"], "open", ["proprietary"], "this source has no open kernel modules", "auto"),
        (["Pascal", "Blackwell"], "auto", BOTH, "no driver serves both Pascal and Blackwell GPUs", "Remove one kind"),
    ],
)
def test_kernel_modules_that_cannot_be(generations, wanted, available, message, hint):
    with pytest.raises(Failure) as error:
        nvidia_gpus.kernel_modules(generations, wanted, available)
    assert message in str(error.value)
    assert hint in error.value.hint
