# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a host's memory can be had, from the texts of the kernel. Pure: module `memory_facts` reads them."""

from __future__ import annotations

import re
from typing import Dict, Optional, Tuple

_LINE = re.compile(r"^(\w+)[:\s]\s*(\d+)( kB)?\s*$", re.MULTILINE)


def fields(text: str) -> Dict[str, int]:
    """Numbers by name, in bytes, of /proc/meminfo, /proc/PID/status (``kB`` is KiB there) or a cgroup's memory.stat."""
    return {name: int(value) * (1024 if unit else 1) for name, value, unit in _LINE.findall(text)}


def available(meminfo: str, limit: str = "", used: str = "", stat: str = "") -> Tuple[int, int]:
    """Bytes that ``(are there, a program can still be given)``: of the host, or of the container where that has less.

    :param limit: the cgroup's memory.max; ``max`` or empty for no limit. ``used``: its memory.current. ``stat``: its
        memory.stat; files in the cache are given up when memory is wanted (Linux, admin-guide/cgroup-v2.rst).
    """
    host = fields(meminfo)
    total, free = host["MemTotal"], host["MemAvailable"]
    if limit.strip().isdigit():
        inside = fields(stat)
        cached = inside.get("inactive_file", 0) + inside.get("active_file", 0)
        total = min(total, int(limit))
        free = min(free, max(0, total - int(used) + cached))
    return total, free


def own(status: str) -> Optional[Tuple[int, int]]:
    """``(uid, bytes)`` of a process from its /proc/PID/status: what it alone holds, and gives back when it ends.

    Mapped files are not among it: they count as available already. None for a thread of the kernel.
    """
    user = re.search(r"^Uid:\s+\d+\s+(\d+)", status, re.MULTILINE)
    found = fields(status)
    return (int(user.group(1)), found["RssAnon"]) if user and "RssAnon" in found else None
