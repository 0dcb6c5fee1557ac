# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What NVIDIA's driver writes into the kernel's log: Xid (a GPU) and SXid (an NVSwitch). Pure.

Sources: NVIDIA, "Xid Errors" (docs.nvidia.com/deploy/xid-errors), its catalogue as gpud has it (2025-10-29).
"""

from __future__ import annotations

import re
from typing import Dict, List, NamedTuple, Optional, Sequence

RESET, RESTART, NVLINK, CABLE, FIRMWARE, VENDOR, APPLICATION, IGNORE, NVLINK_WENT_ON = range(9)
_KINDS: Dict[int, Sequence[int]] = {
    RESET: (46, 48, 62, 64, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158),
    RESTART: (79,),
    NVLINK: (74, *range(144, 151)),
    CABLE: (54,),
    FIRMWARE: (78,),
    VENDOR: (142,),
    IGNORE: (37, 38, 44, 63, 92, 93, 106, 107, 121, 137, 152, 153),
}
# What Xid 154 says that the driver now asks for.
_RECOVERY = (("None", IGNORE), ("Node Reboot", RESTART))
KIND = {number: kind for kind, numbers in _KINDS.items() for number in numbers}
WHAT = {
    RESET: "the GPU needs a reset",
    RESTART: "the GPU fell off the bus, the machine needs a restart",
    NVLINK: "NVLink failed",
    NVLINK_WENT_ON: "NVLink met errors and went on",
    CABLE: "the GPU's power cable is not connected",
    FIRMWARE: "the GPU's firmware failed",
    VENDOR: "a case for the vendor",
    APPLICATION: "a program's own fault, most of the time",
}
FIX = {
    RESET: "nvidia-smi -i {gpu} --gpu-reset, after `dsdeploy down`",
    RESTART: "reboot; if it comes back: power, cooling and seating of the GPU",
    NVLINK: "systemctl restart nvidia-fabricmanager, then nvidia-smi nvlink --errorcounters; then its NVLink bridges",
    NVLINK_WENT_ON: "nvidia-smi nvlink --errorcounters; where they grow: its cables and bridges",
    CABLE: "power off, connect the GPU's power cable",
    FIRMWARE: "reboot; then the vendor's firmware update",
    VENDOR: "nvidia-bug-report.sh, for the vendor of the machine",
    APPLICATION: "dsdeploy logs",
}

# "NVRM: Xid (PCI:0000:b3:00): 79, pid=1234, name=python, GPU has fallen off the bus."; of a GPU that MIG divides
# "NVRM: Xid (PCI:0000:b3:00 GPU-I:05 GPU-CI:00): 43, …".
_XID = re.compile(
    r"NVRM: Xid \((?:PCI:)?(?P<pci>[0-9A-Fa-f:.]+)(?: GPU-C?I:\d{1,4})*\): (?P<number>\d{1,4}),? ?(?P<said>.{0,200})"
)
# "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 12028, Fatal, Link 44 egress non-posted PRIV error"
_SXID = re.compile(r"SXid \((?:PCI:)?(?P<pci>[0-9A-Fa-f:.]+)\): (?P<number>\d{1,5}),? ?(?P<said>.{0,200})")


class Event(NamedTuple):
    """`number` of a device at `pci`, and what the driver said with it."""

    number: int
    pci: str
    said: str


def xids(lines: Sequence[str]) -> List[Event]:
    return [Event(int(found["number"]), found["pci"], found["said"]) for found in map(_XID.search, lines) if found]


def sxids(lines: Sequence[str]) -> List[Event]:
    return [Event(int(found["number"]), found["pci"], found["said"]) for found in map(_SXID.search, lines) if found]


def kind(event: Event) -> int:
    """What an Xid asks for; one that is not in the table is taken for a program's."""
    if event.number == 154:  # "GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)"
        return next((kind for words, kind in _RECOVERY if re.search(r" to \w+ \(%s" % words, event.said)), RESET)
    found = KIND.get(event.number, APPLICATION)
    # NVLink of Blackwell tells of what it could mend, too (144 to 150, "RLW_REMAP Nonfatal XC0 i0 Link 00").
    return NVLINK_WENT_ON if found == NVLINK and re.search(r"\bNonfatal\b", event.said) else found


def worst(events: Sequence[Event]) -> Optional[int]:
    """The kind to look at first; None where all can be ignored."""
    order = (RESTART, CABLE, RESET, NVLINK, FIRMWARE, VENDOR, NVLINK_WENT_ON, APPLICATION)
    kinds = {kind(event) for event in events}
    return next((one for one in order if one in kinds), None)


def is_fatal(event: Event) -> bool:
    """Whether an NVSwitch's error is one (its text says so; "Non-fatal" is the other)."""
    return bool(re.match(r"\s*Fatal", event.said))
