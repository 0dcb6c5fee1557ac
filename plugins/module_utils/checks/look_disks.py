# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts of disks: sections `disks` and `nvme` of look.py."""

from __future__ import annotations

import glob
import os
import re
from typing import Any, Dict, Iterable, List, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.checks import look_engine
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.reading import TIMEOUT, Place, text
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.process import aside


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
