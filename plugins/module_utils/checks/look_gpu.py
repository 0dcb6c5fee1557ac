# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts of GPUs, the PCI bus and the driver: sections `gpus`, `pci`, `driver` and `cuda` of look.py."""

from __future__ import annotations

import ctypes
import glob
import os
import re
import stat
from typing import Any, Dict, Iterable, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.checks import reading
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.reading import Place, text, whole
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import one_line
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.process import aside
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia import devices as nvidia_devices
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia import driver_gather
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.gather import gather
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.pci import driver_of
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import launcher

_EXTENDED_ACS = 0x000D  # PCI Express Base Specification, Access Control Services


def gpus(place: Place) -> Dict[str, Any]:
    return gather(None, max(1, int(place.timeout)), os.path.join(place.sysfs, "bus/pci/devices"))


def pci(place: Place) -> Dict[str, Any]:
    """GPUs, NVSwitches and bridges on the bus, what the kernel's driver has, and the IOMMUs."""
    root = os.path.join(place.sysfs, "bus/pci/devices")
    found: List[Dict[str, Any]] = []
    vfio: List[str] = []
    for address in sorted(os.listdir(root)) if os.path.isdir(root) else []:
        kind = _kind(os.path.join(root, address))
        if kind == "gpu" and nvidia_devices.is_given_away(driver_of(os.path.join(root, address))):
            vfio.append(address)
        elif kind:
            found.append(_device(os.path.join(root, address), address, kind))
    known = glob.glob(place.at("/proc/driver/nvidia/gpus/*"))
    loaded = os.path.exists(place.at("/proc/driver/nvidia/version"))
    types = [text(path) for path in glob.glob(place.at("/sys/kernel/iommu_groups/") + "*/type")]
    groups = {one["address"]: one for one in found if one["kind"] == "gpu"}
    return {
        "devices": found,
        "gpus": sorted(groups),
        "vfio": vfio,
        "driver_gpus": len(known) if loaded and known else None,
        "iommus": [os.path.basename(path) for path in glob.glob(place.at("/sys/class/iommu/") + "*")],
        "iommu_types": types,
        "nodes": len(glob.glob(place.at("/sys/devices/system/node/") + "node[0-9]*")),
        "expected_gpus": place.expected_gpus,
    }


def _kind(path: str) -> Optional[str]:
    vendor, kind = whole(os.path.join(path, "vendor")), whole(os.path.join(path, "class"))
    if vendor is None or kind is None:
        return None
    if vendor == nvidia_devices.VENDOR:
        return nvidia_devices.KINDS.get(kind >> 8)
    return "bridge" if kind >> 8 == 0x0604 else None


def _device(path: str, address: str, kind: str) -> Dict[str, Any]:
    counts = [
        int(number)
        for name in ("aer_dev_fatal", "aer_dev_nonfatal")
        for number in re.findall(r"^TOTAL_\w+ (\d+)$", text(os.path.join(path, name)), re.M)
    ]
    return {
        "address": address,
        "kind": kind,
        "numa_node": whole(os.path.join(path, "numa_node")),
        "errors": sum(counts) if counts else None,
        "acs": _acs(os.path.join(path, "config")) if kind == "bridge" else None,
    }


def _acs(config: str) -> Optional[int]:
    """The bits of a bridge's ACS control; None where it has none, or its configuration is not shown whole."""
    try:
        with open(config, "rb") as handle:
            space = handle.read(4096)
    except OSError:
        return None
    offset = 0x100
    for _step in range(64):
        if offset < 0x100 or offset + 8 > len(space):
            return None
        header = int.from_bytes(space[offset : offset + 4], "little")
        if header & 0xFFFF == _EXTENDED_ACS:
            return int.from_bytes(space[offset + 6 : offset + 8], "little")
        offset = header >> 20
    return None


def driver(place: Place) -> Dict[str, Any]:
    """As module `nvidia_driver_facts`, with the state of the fabric manager's service and nvidia-peermem."""
    found = driver_gather.gather(place.sysfs, place.procfs)
    active = None
    if found["wants_fabric_manager"] and found["fabric_manager_version"] and os.path.isdir("/run/systemd/system"):
        answer = reading.says("systemctl", "is-active", "nvidia-fabricmanager")
        active = one_line(answer.stdout, 20) if answer and not answer.timed_out and answer.stdout.strip() else None
    peermem = os.path.isdir(place.at("/sys/module/nvidia_peermem"))
    return dict(found, fabric_manager_active=active, peermem=peermem)


def _start_cuda() -> Dict[str, Any]:
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return {"missing": True, "code": 0, "count": 0}
    count = ctypes.c_int(0)
    code = library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count))
    return {"missing": False, "code": code, "count": count.value}


def _modes(paths: Iterable[str]) -> Dict[str, int]:
    """The modes of those that are device files, by their names."""
    found = {}
    for path in paths:
        try:
            state = os.stat(path)
        except OSError:
            continue
        if stat.S_ISCHR(state.st_mode):
            found[os.path.basename(path)] = stat.S_IMODE(state.st_mode)
    return found


def mig(procfs: str, dev: str = "/dev") -> Dict[str, Any]:
    """`instances`: what MIG has made of GPUs, each `{gpu, paths, modes}`: the number of its GPU, the driver's two files
    of it, and by name the modes of the device files of those, None where there is none; `whole`: GPUs without, None
    where that is not told."""
    instances: List[Dict[str, Any]] = []
    for gpu, paths in launcher.mig_instances(procfs):
        devices = [device for device in (launcher.cap_device(path, dev) for path in paths) if device]
        modes = _modes(devices)
        named = {os.path.basename(device): modes.get(os.path.basename(device)) for device in devices}
        instances.append({"gpu": gpu, "paths": paths, "modes": named})
    known = launcher.gpu_minors(procfs)
    divided = {one["gpu"] for one in instances}
    return {"instances": instances, "whole": len(known - divided) if known else None}


def cuda(place: Place) -> Dict[str, Any]:
    # Aside: a driver that hangs, or a library that crashes, must not take this process along.
    started = aside(_start_cuda, reading.TIMEOUT)
    return dict(started, devices=_modes(glob.glob("/dev/nvidia*")), mig=mig(place.procfs))
