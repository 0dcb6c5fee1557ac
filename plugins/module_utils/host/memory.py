# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a host's memory can be had, from the texts of the kernel. All but `look` is pure."""

from __future__ import annotations

import os
import pwd
import re
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

CGROUP = "/sys/fs/cgroup"
# Below it: the limit, what is used of it, and what it is used for; of cgroup 2, and of what was before it.
LIMITS = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)
MIB = 1024**2

_LINE = re.compile(r"^(\w+)[:\s]\s*(\d+)( kB)?\s*$", re.MULTILINE)


def fields(text: str) -> Dict[str, int]:
    """Numbers by name, in bytes, of /proc/meminfo, /proc/PID/status (``kB`` is KiB there) or a cgroup's memory.stat."""
    return {name: int(value) * (1024 if unit else 1) for name, value, unit in _LINE.findall(text)}


def available(meminfo: str, limit: str = "", used: str = "", stat: str = "") -> Tuple[int, int]:
    """Bytes that ``(are there, a program can still be given)``: of the host, or of the container where that has less.

    :param limit: the cgroup's memory.max; ``max`` or empty for no limit. ``used``: its memory.current. ``stat``: its
        memory.stat; files in the cache are given up when memory is wanted (Linux, admin-guide/cgroup-v2.rst). Or those
        of before cgroup 2 (admin-guide/cgroup-v1/memory.rst), where no limit is a number beyond all memory.
    """
    host = fields(meminfo)
    # MemAvailable is missing under WSL 1, in containers of OpenVZ, and before Linux 3.14.
    parts = ("MemAvailable",) if "MemAvailable" in host else ("MemFree", "Buffers", "Cached")
    total, free = host["MemTotal"], sum(host.get(name, 0) for name in parts)
    if limit.strip().isdigit():
        inside = fields(stat)
        # Before cgroup 2, what groups below it hold counts only in the totals.
        cached = sum(inside.get("total_" + name, inside.get(name, 0)) for name in ("inactive_file", "active_file"))
        total = min(total, int(limit))
        # What the group uses may not be told: then no more than all of it is left.
        left = total - int(used) + cached if used.strip().isdigit() else total
        free = min(free, max(0, left))
    return total, free


def own(status: str) -> Optional[Tuple[int, int]]:
    """``(uid, bytes)`` of a process from its /proc/PID/status: what it alone holds, and gives back when it ends.

    Mapped files are not among it: they count as available already. None for a thread of the kernel.
    """
    user = re.search(r"^Uid:\s+\d+\s+(\d+)", status, re.MULTILINE)
    found = fields(status)
    return (int(user.group(1)), found["RssAnon"]) if user and "RssAnon" in found else None


def read(path: str) -> str:
    """The text of a file; empty where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except OSError:
        return ""


def container(text_of: Callable[[str], str], cgroup: str = CGROUP) -> Sequence[str]:
    """Limit, use and what it is used for of the container, for `available`; empty where nothing limits it.

    It sees its own limit at the root of what it sees of the hierarchy; a host has none there.

    :param text_of: the text of a file by its path; empty where it cannot be read.
    """
    groups = ([text_of(os.path.join(cgroup, name)) for name in names] for names in LIMITS)
    return next(filter(lambda group: group[0], groups), ())


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def free(cgroup: str = CGROUP) -> Tuple[int, int]:
    """`available` of this host now, bytes."""
    return available(read("/proc/meminfo"), *container(read, cgroup))


def look() -> Dict[str, Any]:
    """The value of `ansible_facts.dsdeploy_memory`, in the shape that module `memory_facts` documents (MiB)."""
    held: Dict[str, int] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        # A process that ends meanwhile holds nothing.
        found = own(read("/proc/%s/status" % pid))
        if found:
            user = _user_name(found[0])
            held[user] = held.get(user, 0) + found[1]
    total, left = free()
    users = {name: size // MIB for name, size in sorted(held.items())}
    return {"total_mib": total // MIB, "available_mib": left // MIB, "users": users}
