# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's devices on the PCI bus, before any driver: which generation they are, and which kernel modules drive it.

Pure functions; pci.py reads sysfs.
"""

from __future__ import annotations

from typing import Iterable, List, NamedTuple, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

VENDOR = 0x10DE
KINDS = {0x0300: "gpu", 0x0302: "gpu", 0x0680: "nvswitch"}  # PCI class: VGA, 3D controller, bridge of another kind

GENERATIONS = ("before Maxwell", "Maxwell", "Pascal", "Volta", "Turing", "Ampere", "Hopper", "Ada", "Blackwell")
# First device id of each run of ids of one generation, from pci.ids; ids above the last are newer than all of these.
_FIRST_ID = (
    (0x0000, "before Maxwell"),
    (0x1340, "Maxwell"),
    (0x15C0, "Pascal"),
    (0x1600, "Maxwell"),
    (0x1720, "Pascal"),
    (0x1730, "Maxwell"),
    (0x1B00, "Pascal"),
    (0x1D80, "Volta"),
    (0x1E00, "Turing"),
    (0x2000, "Ampere"),
    (0x2180, "Turing"),
    (0x2200, "Ampere"),
    (0x2300, "Hopper"),
    (0x2400, "Ampere"),
    (0x2600, "Ada"),
    (0x2900, "Blackwell"),
)


class Device(NamedTuple):
    """A device of NVIDIA's: `kind` is "gpu" or "nvswitch", `generation` is None for an NVSwitch, `driver` the kernel's
    that has it."""

    address: str
    kind: str
    device_id: str
    generation: Optional[str]
    driver: Optional[str] = None


def generation_of(device_id: int) -> str:
    """The generation of a GPU by its PCI device id."""
    return [name for first, name in _FIRST_ID if first <= device_id][-1]


def is_given_away(driver: Optional[str]) -> bool:
    """Whether a device's driver is one that keeps it for virtual machines: vfio-pci, its relatives, Xen's."""
    return bool(driver) and ("vfio" in driver or driver in ("pci-stub", "pciback", "xen-pciback"))


def given_away(count: int) -> str:
    """What is said of GPUs that the kernel keeps for virtual machines."""
    return "%d GPU%s bound to vfio-pci, for virtual machines" % (count, " is" if count == 1 else "s are")


def has_nvlink5(one: Device) -> bool:
    """Whether it may be a GPU with NVLink 5, whose NVSwitches are not on the PCI bus."""
    return bool(one.generation) and GENERATIONS.index(one.generation) >= GENERATIONS.index("Blackwell")


def device(address: str, vendor: str, kind: str, device_id: str, driver: Optional[str] = None) -> Optional[Device]:
    """The device that sysfs tells of, None for one that is no GPU or NVSwitch of NVIDIA's.

    :param vendor: text of the file `vendor`, such as "0x10de"; `kind` of `class` ("0x030200"), `device_id` of `device`.
    :param driver: that has it.
    :raises ValueError: these are no numbers.
    """
    if int(vendor, 16) != VENDOR:
        return None
    found = KINDS.get(int(kind, 16) >> 8)
    if found is None:
        return None
    # A bus that shows no ids still shows the GPUs.
    generation = generation_of(int(device_id, 16)) if found == "gpu" and device_id else None
    return Device(address, found, device_id.strip(), generation, driver)


def kernel_modules(generations: Iterable[str], wanted: str, available: List[str]) -> str:
    """Which kernel modules to install, "open" or "proprietary".

    NVIDIA, "Open Linux kernel modules": Turing and later can be open, Blackwell and later must be, what is before
    Turing cannot; open is what NVIDIA recommends where both can be.

    :param wanted: "auto", "open" or "proprietary".
    :param available: what the source has, from the preferred one on.
    :raises Failure: the GPUs, the source and what is wanted do not go together.
    """
    ranks = {name: GENERATIONS.index(name) for name in generations}
    only_proprietary = sorted(name for name, rank in ranks.items() if rank < GENERATIONS.index("Turing"))
    only_open = sorted(name for name, rank in ranks.items() if rank >= GENERATIONS.index("Blackwell"))
    if only_proprietary and only_open:
        raise Failure(
            "no driver serves both %s and %s GPUs" % (only_proprietary[0], only_open[0]),
            "Remove one kind from the host.",
        )
    for names, needed in ((only_proprietary, "proprietary"), (only_open, "open")):
        if names and wanted not in ("auto", needed):
            raise Failure(
                "%s GPUs need %s kernel modules, not %s ones" % (names[0], needed, wanted),
                "Set nvidia_driver_kernel_modules to %s or auto." % needed,
            )
        if names and needed not in available:
            raise Failure(
                "%s GPUs need %s kernel modules, which this source does not have" % (names[0], needed),
                "Set nvidia_driver_install_method to nvidia.",
            )
    if wanted != "auto":
        if wanted not in available:
            raise Failure("this source has no %s kernel modules" % wanted, "Set nvidia_driver_kernel_modules to auto.")
        return wanted
    return "proprietary" if only_proprietary else "open" if only_open else available[0]
