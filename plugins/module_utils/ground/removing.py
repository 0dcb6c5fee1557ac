# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Take away what is ours, and nothing that others have mounted in it."""

from __future__ import annotations

import os
import re
import shutil
from typing import Iterable, List

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

MOUNTS = "/proc/self/mountinfo"


def mount_points() -> List[str]:
    """All that is mounted here; the fifth word of each line (proc(5)), with spaces and the like as ``\\040``."""
    try:
        with open(MOUNTS, "rb") as handle:
            words = [line.split(b" ") for line in handle.read().splitlines()]
    except OSError:
        return []
    octal = re.compile(rb"\\([0-7]{3})")
    return [os.fsdecode(octal.sub(lambda found: bytes([int(found[1], 8)]), line[4])) for line in words if len(line) > 4]


def mounted_below(path: str) -> List[str]:
    """What is mounted inside of a directory; not the directory itself, which may be a disk of its own."""
    inside = os.path.realpath(path).rstrip("/") + "/"
    return sorted({point for point in mount_points() if point.startswith(inside)})


def require_nothing_mounted(paths: Iterable[str]) -> None:
    """Failure where something is mounted in a directory that is to be removed: somebody's share would be emptied."""
    trees = [path for path in paths if os.path.isdir(path) and not os.path.islink(path)]
    found = sorted({point for path in trees for point in mounted_below(path)})
    if found:
        raise Failure(
            "%s: mounted inside of what is to be removed, and not dsdeploy's" % ", ".join(found),
            hint="Unmount it first (umount %s), and run this again." % " ".join(found),
        )


def is_empty_mount(path: str) -> bool:
    """Whether a directory is a disk of its own, with nothing of ours left on it."""
    if not os.path.isdir(path) or os.path.islink(path) or os.path.realpath(path) not in mount_points():
        return False
    return not set(os.listdir(path)) - {"lost+found"}


def remove(path: str) -> None:
    """A file, link or tree, if it is there. Of a directory that is a disk of its own the content: the mount point
    stays.

    :raises Failure: something is mounted inside.
    """
    if os.path.islink(path) or not os.path.isdir(path):
        if os.path.lexists(path):
            os.unlink(path)
        return
    require_nothing_mounted([path])
    if os.path.realpath(path) not in mount_points():
        shutil.rmtree(path)
        return
    for name in set(os.listdir(path)) - {"lost+found"}:
        remove(os.path.join(path, name))
