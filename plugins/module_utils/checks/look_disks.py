# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts of disks: sections `disks`, `nvme` and `smart` of look.py."""

from __future__ import annotations

import ctypes
import fcntl
import glob
import os
import re
import struct
from typing import Any, Dict, Iterable, List, Optional, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.checks import look_engine, reading
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.reading import TIMEOUT, Place, text
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import is_whole, one_line, parse
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.process import aside

_NVME_ADMIN = 0xC0484E41  # NVME_IOCTL_ADMIN_CMD of linux/nvme_ioctl.h
_HEALTH_PAGE = 512  # bytes of log page 02h, SMART / health information (NVM Express Base Specification)
# Attributes of ATA disks that count sectors which cannot be read.
_BAD_SECTORS = {197: "pending", 198: "uncorrectable"}


def mounts(procfs: str) -> List[Tuple[str, str, str]]:
    """(mount point, kind, options), in the order of the kernel."""
    found = []
    for line in text(os.path.join(procfs, "self/mounts")).splitlines():
        words = [re.sub(r"\\([0-7]{3})", lambda code: chr(int(code.group(1), 8)), word) for word in line.split(" ")]
        if len(words) >= 4:
            found.append((words[1], words[2], words[3]))
    return found


def _state_of(paths: List[str]) -> Dict[str, Any]:
    """statvfs(3) of each path, or its nearest parent."""
    found = {}
    for path in paths:
        here = os.path.realpath(path)
        while not os.path.exists(here) and here != "/":
            here = os.path.dirname(here)
        state = os.statvfs(here)
        sizes = [state.f_frsize * state.f_blocks, state.f_frsize * state.f_bavail, state.f_files, state.f_favail]
        found[path] = [here, *sizes, bool(state.f_flag & os.ST_RDONLY)]
    return found


def disks(place: Place) -> List[Dict[str, Any]]:
    """The file systems of the directories that matter. `what`: system, data, programs or shm; `large`: what is there
    takes long to fetch again."""
    wanted = [("system", "/", False), ("shm", "/dev/shm", False)] + [("data", path, True) for path in place.paths]
    wanted += look_engine.directories(place.records)
    table = mounts(place.procfs) or mounts("/proc")
    looked = _statvfs([path for _what, path, _large in wanted])
    found = []
    for what, path, large in wanted:
        if path not in looked or (what == "shm" and not os.path.isdir(path)):
            continue
        here, size, free, inodes, inodes_free, read_only = looked[path]
        mount, fstype = _mount_of(here, table)
        found.append(
            {"what": what, "path": path, "large": large, "mount": mount, "fstype": fstype, "bytes": size, "free": free,
             "inodes": inodes, "inodes_free": inodes_free, "read_only": read_only}
        )  # fmt: skip
    return found


def _statvfs(paths: Iterable[str]) -> Dict[str, List[Any]]:
    """What is known of each path. A network disk whose server is gone waits for ever: aside, then one by one."""
    every = list(dict.fromkeys(paths))
    try:
        return dict(aside(lambda: _state_of(every), TIMEOUT / 2))
    except TimeoutError:
        if len(every) == 1:
            raise OSError("the disk of %s does not answer" % every[0]) from None
    found: Dict[str, List[Any]] = {}
    for path in every:
        found.update(_statvfs([path]))
    return found


def _mount_of(path: str, table: List[Tuple[str, str, str]]) -> Tuple[str, str]:
    """The longest mount point above a path; of several mounts on one another the last counts."""
    best = ("/", "unknown")
    for mount, fstype, _options in table:
        if (path == mount or path.startswith(mount.rstrip("/") + "/")) and len(mount) >= len(best[0]):
            best = (mount, fstype)
    return best


def nvme(place: Place) -> List[Dict[str, Any]]:
    paths = sorted(glob.glob(place.at("/sys/class/nvme/") + "*"))
    return [{"name": os.path.basename(path), "state": text(os.path.join(path, "state"))} for path in paths]


def smart(place: Place) -> List[Dict[str, Any]]:
    """What disks say of their own health: `{name, failing, worn, problem}`. `failing`: why it is to be replaced now,
    empty for a good one; `worn`: percent of its life that are used, None for not told; `problem`: why it was not asked.

    By smartctl where it is installed; NVMe also without it. Virtual disks have none, and are left out.
    """
    found = []
    for path in sorted(glob.glob(place.at("/sys/class/nvme/") + "*")):
        found.append(_asked(os.path.basename(path), True))
    for path in sorted(glob.glob(place.at("/sys/block/") + "sd*")):
        if text(os.path.join(path, "removable")) != "1":
            found.append(_asked(os.path.basename(path), False))
    return [one for one in found if one is not None]


def _asked(name: str, is_nvme: bool) -> Optional[Dict[str, Any]]:
    device = "/dev/" + name
    answer = reading.says("smartctl", "--json", "--health", "--attributes", device)
    try:
        if answer is not None:
            return read_smartctl(name, answer.stdout)
        if is_nvme:
            return read_health_page(name, _health_page(device))
        problem = "smartctl is not installed (package smartmontools)"
    except (OSError, Failure) as error:
        problem = one_line(getattr(error, "strerror", None) or error, 100)
    return {"name": name, "failing": "", "worn": None, "problem": problem}


def read_smartctl(name: str, output: str) -> Optional[Dict[str, Any]]:
    """Of the JSON of smartctl 7. None for a disk that has no such thing. Raises Failure."""
    report = parse(output.encode(), "smartctl").mapping("").value
    messages = [str(one.get("string")) for one in (report.get("smartctl") or {}).get("messages") or []]
    status = report.get("smart_status")
    if not isinstance(status, dict) or not isinstance(status.get("passed"), bool):
        said = "; ".join(messages)
        if re.search(r"denied|not permitted|open device.* failed", said, re.I):
            return {"name": name, "failing": "", "worn": None, "problem": said}
        return None
    reasons = [] if status["passed"] else ["its own verdict is FAILED"]
    health = report.get("nvme_smart_health_information_log") or {}
    reasons += _warnings(health.get("critical_warning"))
    for one in (report.get("ata_smart_attributes") or {}).get("table") or []:
        count = (one.get("raw") or {}).get("value")
        if one.get("id") in _BAD_SECTORS and is_whole(count) and count > 0:
            reasons.append("%d sectors %s" % (count, _BAD_SECTORS[one["id"]]))
    worn = health.get("percentage_used")
    return {
        "name": name,
        "failing": ", ".join(dict.fromkeys(reasons)),
        "worn": worn if is_whole(worn) else None,
        "problem": "",
    }


def read_health_page(name: str, page: bytes) -> Dict[str, Any]:
    """Of an NVMe disk's SMART / health information log."""
    return {"name": name, "failing": ", ".join(_warnings(page[0])), "worn": page[5], "problem": ""}


def _warnings(bits: Any) -> List[str]:
    """The critical warnings of an NVMe disk."""
    told = (
        (0x01, "its spare blocks are used up"),
        (0x02, "it is too hot or too cold"),
        (0x04, "it is unreliable after errors"),
        (0x08, "it can only be read"),
        (0x10, "its backup of memory failed"),
        (0x20, "its persistent memory can only be read"),
    )
    return [said for bit, said in told if is_whole(bits) and bits & bit]


def _health_page(device: str) -> bytes:
    """The kernel asks the controller for the log page; nothing is written. Raises OSError."""
    page = ctypes.create_string_buffer(_HEALTH_PAGE)
    opcode, every_namespace, pieces = 0x02, 0xFFFFFFFF, _HEALTH_PAGE // 4 - 1
    command = struct.pack(
        "=BBHIIIQQIIIIIIIIII",
        *(opcode, 0, 0, every_namespace, 0, 0, 0, ctypes.addressof(page), 0, _HEALTH_PAGE),
        *(pieces << 16 | 0x02, 0, 0, 0, 0, 0, 5000, 0),
    )
    handle = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = fcntl.ioctl(handle, _NVME_ADMIN, bytearray(command))
    finally:
        os.close(handle)
    if status:
        raise OSError("the disk refuses to tell its health (status %#x)" % status)
    return page.raw
