# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time on a host: who holds its lock, and whether that run still lives.

A holder is `{machine, pid, started, who, since}`: `machine` names the kernel and the PID namespace in which `pid` is
the run's process and `started` its start time (clock ticks since boot, field 22 of /proc/PID/stat, proc(5)), so that a
process id that was given away anew is not taken for the run; `who` and `since` are for people. With `lease_s` the
holder touches the file while it lives: one that has not done so for that long is gone with its machine. `starter` is
`[pid, started]` of the process that started the run, such as the command.
"""

from __future__ import annotations

import json
import os
import platform
import time
from typing import Any, Dict, List, Optional, TextIO

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.locked import hold, open_lock

PATH = places.LOCK
LIMIT = 10.0  # s; it is held for as long as it takes to read and write a line
MOST_BYTES = 4096  # of a holder
MOST_PID = 2**22  # Linux's PID_MAX_LIMIT
_IDENTITY = ("machine", "pid", "started")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except OSError:
        return ""


def started(pid: int) -> str:
    """Start time of a process; "" when there is none, or no /proc."""
    # The name of the command, in parentheses, may hold anything.
    return (_read("/proc/%d/stat" % pid).rpartition(")")[2].split() + [""] * 20)[19]


def machine() -> str:
    """Name of this kernel's run and PID namespace; of the machine where there is no /proc."""
    try:
        return _read("/proc/sys/kernel/random/boot_id").strip() + " " + os.readlink("/proc/self/ns/pid")
    except OSError:
        return platform.node()


def place() -> str:
    """Name of where others reach this host: one host under two names has one, two namespaces of a network have two."""
    try:
        return machine() + " " + os.readlink("/proc/self/ns/net")
    except OSError:
        return machine()


def holder_of(pid: int, who: str, since: str) -> Dict[str, Any]:
    """The holder that the process `pid` of this machine is."""
    return {"machine": machine(), "pid": pid, "started": started(pid), "who": who, "since": since}


def same(one: Optional[Dict[str, Any]], other: Optional[Dict[str, Any]]) -> bool:
    """Whether two holders are the same run."""
    return one is not None and other is not None and all(one.get(key) == other.get(key) for key in _IDENTITY)


def runs(holder: Dict[str, Any]) -> bool:
    """Whether the run, which is of this machine, still lives. A zombie does not."""
    stat = _read("/proc/%d/stat" % holder["pid"]).rpartition(")")[2].split()
    return len(stat) > 19 and stat[0] not in "ZX" and stat[19] == holder["started"]


def is_dead(holder: Dict[str, Any]) -> bool:
    """Whether the run is known to have ended; one of another machine never is."""
    if holder.get("machine") != machine() or not foreign.is_whole(holder.get("pid")):
        return False
    if not 0 < holder["pid"] <= MOST_PID:
        return True
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    # Nobody may have asked for the end of one whose parent is gone: a container's first process does not always.
    stat = _read("/proc/%d/stat" % holder["pid"]).rpartition(")")[2].split()
    return started(holder["pid"]) != holder.get("started") or stat[:1] in (["Z"], ["X"])


def parent_of(pid: int) -> List[Any]:
    """`[pid, started]` of a process's parent; [] where that cannot be known."""
    stat = _read("/proc/%d/stat" % pid).rpartition(")")[2].split()
    return [int(stat[1]), started(int(stat[1]))] if len(stat) > 1 else []


def is_ending(holder: Dict[str, Any]) -> bool:
    """Whether the run is of this machine and lives, and who started it is gone: then it ends by itself, soon."""
    starter = holder.get("starter")
    if holder.get("machine") != machine() or not isinstance(starter, list) or len(starter) != 2:
        return False
    return foreign.is_whole(starter[0]) and 0 < starter[0] <= MOST_PID and started(starter[0]) != starter[1]


def is_abandoned(holder: Dict[str, Any], age: float) -> bool:
    """Whether a holder that was to touch the file has not done so for `age` s, longer than it promised."""
    lease = holder.get("lease_s")
    return foreign.is_whole(lease) and 0 < lease < age


def _open(path: str) -> TextIO:
    """The file of the lock, ours alone until it is closed. Who gives the lock back removes it: what was opened before
    that is no longer the one of that name."""
    while True:
        descriptor = open_lock(path)
        handle = open(descriptor, "r+", encoding="utf-8", errors="replace")
        try:
            hold(descriptor, path, LIMIT)
            if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                return handle
        except FileNotFoundError:
            pass
        except BaseException:
            handle.close()
            raise
        handle.close()


def _holder(handle: TextIO) -> Optional[Dict[str, Any]]:
    try:
        found = foreign.parse(handle.read(MOST_BYTES), "the lock")
        found.text("machine")
        found.text("started")
        found.count("pid", most=MOST_PID)
    except Failure:
        return None  # empty, or no holder that anybody could wait for: free
    return found.value


def seen() -> str:
    """What the lock says now, to be compared with what it says later; empty where nobody holds it."""
    return _read(places.LOCK)


def take(
    path: str, holder: Dict[str, Any], dead: Optional[Dict[str, Any]] = None, force: bool = False
) -> Dict[str, Any]:
    """Take the lock unless another run holds it, and return who holds it then.

    :param dead: a holder that is known to be dead, from which it may be taken.
    :param force: take it from whoever holds it.
    """
    with _open(path) as handle:
        found = _holder(handle)
        free = found is None or force or same(found, holder) or same(found, dead)
        if not free and not is_abandoned(found or {}, time.time() - os.fstat(handle.fileno()).st_mtime):
            return found or {}
        handle.seek(0)
        handle.truncate()
        handle.write(json.dumps(holder))
    return holder


def release(path: str, holder: Dict[str, Any]) -> None:
    """Give the lock back where `holder` has it; what is no lock at all goes, too."""
    with _open(path) as handle:
        found = _holder(handle)
        if found is None or same(found, holder):
            os.unlink(path)
