# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's devices on the PCI bus of this host, read from sysfs; devices.py knows what they are."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia import devices

_MELLANOX = "0x15b3"
# In the vital product data of a network card's function behind which NVSwitches are; NVIDIA's own
# nvidia-fabricmanager-start.sh looks for it.
_SWITCH_MANAGEMENT = b"SW_MNG"
_MOST_BYTES = 4096  # of the vital product data, which has a few hundred


def _text(*names: str) -> str:
    try:
        with open(os.path.join(*names), encoding="utf-8", errors="replace") as handle:
            return handle.read().strip()
    except OSError:
        return ""


def driver_of(directory: str) -> Optional[str]:
    """The kernel's driver that has a device; None for one that none has."""
    try:
        return os.path.basename(os.readlink(os.path.join(directory, "driver")))
    except OSError:
        return None


def scan(directory: str) -> Optional[List[devices.Device]]:
    """GPUs and NVSwitches in this directory of sysfs, in the order of the bus; None where it cannot be read."""
    try:
        addresses = sorted(os.listdir(directory))
    except OSError:
        return None
    found = []
    for address in addresses:
        vendor, kind, device_id = (_text(directory, address, name) for name in ("vendor", "class", "device"))
        try:
            one = devices.device(address, vendor, kind, device_id, driver_of(os.path.join(directory, address)))
        except ValueError:
            continue  # gone by now, or none of the bus's
        if one:
            found.append(one)
    return found


def switch_bridges(directory: str, found: List[devices.Device]) -> Optional[int]:
    """Functions of network cards through which this host manages NVSwitches: those of NVLink 5 (HGX B200, B300) are not
    on the bus themselves. None where it cannot be told.

    :param found: the host's own GPUs; before Blackwell there is no such card, and none is asked.
    """
    if not any(devices.has_nvlink5(one) for one in found):
        return 0
    count, unread = 0, False
    for address in sorted(os.listdir(directory)):
        path = os.path.join(directory, address)
        if _text(path, "vendor").lower() != _MELLANOX or devices.is_given_away(driver_of(path)):
            continue
        try:
            with open(os.path.join(path, "vpd"), "rb") as handle:
                count += _SWITCH_MANAGEMENT in handle.read(_MOST_BYTES)
        except FileNotFoundError:
            continue  # it has none
        except OSError:
            unread = True  # root alone reads it
    return count or (None if unread else 0)


def on_bus(directory: str) -> Optional[Dict[str, Any]]:
    """`{gpus, nvswitches}` that are this host's own, `vfio`: GPUs that virtual machines have, `bridges`: as
    `switch_bridges`. None where the bus cannot be read."""
    found = scan(directory)
    if found is None:
        return None
    own = [one for one in found if not devices.is_given_away(one.driver)]
    kinds = [one.kind for one in own]
    return {
        "gpus": kinds.count("gpu"),
        "nvswitches": kinds.count("nvswitch"),
        "vfio": sum(one.kind == "gpu" for one in found) - kinds.count("gpu"),
        "bridges": switch_bridges(directory, own),
    }
