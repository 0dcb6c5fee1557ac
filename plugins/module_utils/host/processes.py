# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the processes of this host have done, from /proc (proc(5))."""

from __future__ import annotations

import os
import re
import time
from typing import Dict, List, NamedTuple, Optional

_STAT = re.compile(r"\d+ \(.*\) (.*)", re.S)


class Work(NamedTuple):
    """Of a process and all that it has started: processor time in s, bytes read from disks and sockets."""

    cpu_s: float
    read_bytes: int


def _stats(proc: str) -> Dict[int, List[str]]:
    """The fields of /proc/<pid>/stat from the state on, by process id."""
    found = {}
    for name in os.listdir(proc):
        if not name.isdigit():
            continue
        try:
            with open(os.path.join(proc, name, "stat"), encoding="utf-8", errors="replace") as handle:
                match = _STAT.match(handle.read())
        except OSError:
            continue  # it has ended
        if match:
            found[int(name)] = match.group(1).split()
    return found


def _read_bytes(proc: str, pid: int) -> int:
    """Bytes that a process read by system calls and by mapped files; 0 where that is not told."""
    try:
        with open(os.path.join(proc, str(pid), "io"), encoding="ascii") as handle:
            values = dict(line.split(": ") for line in handle.read().splitlines())
        return int(values["rchar"]) + int(values["read_bytes"])
    except (OSError, ValueError, KeyError):
        return 0


def work_of(pid: int, proc: str = "/proc") -> Optional[Work]:
    """What a process and its descendants have done; None where it is gone."""
    stats = _stats(proc)
    if pid not in stats:
        return None
    children: Dict[int, List[int]] = {}
    for other, fields in stats.items():
        children.setdefault(int(fields[1]), []).append(other)
    left, ticks, read = [pid], 0, 0
    while left:
        one = left.pop()
        left += children.get(one, [])
        # utime, stime, and those of children that have ended and were waited for.
        ticks += sum(int(value) for value in stats[one][11:15])
        read += _read_bytes(proc, one)
    return Work(ticks / os.sysconf("SC_CLK_TCK"), read)


def age_of(pid: int, proc: str = "/proc") -> Optional[float]:
    """Seconds since a process was started, whatever became of the clock; None where it is gone."""
    try:
        with open(os.path.join(proc, str(pid), "stat"), encoding="utf-8", errors="replace") as handle:
            match = _STAT.match(handle.read())
    except OSError:
        return None
    fields = match.group(1).split() if match else []
    if len(fields) < 20:
        return None
    # starttime is in ticks since the host was started; /proc/uptime may be that of a container.
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def uid_of(pid: int, proc: str = "/proc") -> Optional[int]:
    """The effective user of a process; None where it is gone."""
    try:
        with open(os.path.join(proc, str(pid), "status"), encoding="utf-8", errors="replace") as handle:
            found = re.search(r"^Uid:\s+\d+\s+(\d+)", handle.read(), re.M)
    except OSError:
        return None
    return int(found.group(1)) if found else None
