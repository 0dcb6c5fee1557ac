# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a user can reach a path: every directory on the way lets it pass, every link resolved."""

from __future__ import annotations

import os
import stat
from typing import Collection, NamedTuple, Optional, Set


class Barrier(NamedTuple):
    """What stops a user on its way to a path."""

    path: str  # the component, links resolved
    mode: int  # its permission bits
    missing: str  # what the user cannot do there: pass, read, write or run

    def __str__(self) -> str:
        kind = {"pass": "pass through", "read": "read", "write": "write to", "run": "run"}[self.missing]
        return "cannot %s %s (mode %04o)" % (kind, self.path, self.mode)


def hint_for(stops: Barrier) -> str:
    """What lets the user through, one line."""
    if stops.missing == "read":
        return "Let other users read it, for example: chmod o+r %s" % stops.path
    return "Let other users pass, for example: chmod o+x %s; or choose another directory." % stops.path


def _lets(state: os.stat_result, uid: Optional[int], gids: Collection[int], bit: int) -> bool:
    if uid is not None and state.st_uid == uid:
        return bool(state.st_mode >> 6 & bit)
    if state.st_gid in gids:
        return bool(state.st_mode >> 3 & bit)
    return bool(state.st_mode & bit)


def _has_acl(path: str) -> bool:
    try:
        os.getxattr(path, "system.posix_acl_access")
    except OSError:
        return False
    return True


def barrier(path: str, uid: Optional[int], gids: Collection[int] = (), wants: str = "pass") -> Optional[Barrier]:
    """The first thing that keeps a user from a path, or None. Called as root.

    Only what exists is looked at: what is made later gets its mode then. A directory with an access control list counts
    as passable, because its mode does not say who may.

    :param uid: of the user; None for one that is not made yet, which is nobody's friend.
    :param wants: what it wants of the path itself: pass, read, write or run.
    """
    if uid == 0:
        return None
    seen: Set[str] = set()
    path = os.path.abspath(path)
    parts = [part for part in path.split("/") if part]
    for number in range(len(parts) + 1):
        # Each link on the way is followed from the root: what it leads through must be passable, too.
        stops = _on_the_way(os.path.realpath("/" + "/".join(parts[:number])), uid, gids, "pass", seen)
        if stops:
            return stops
    return _on_the_way(os.path.realpath(path), uid, gids, wants, set())


def _on_the_way(real: str, uid: Optional[int], gids: Collection[int], wants: str, seen: Set[str]) -> Optional[Barrier]:
    """As `barrier`, of a path without links; what is in `seen` was passed before."""
    way = "/"
    parts = [part for part in real.split("/") if part]
    for number in range(len(parts) + 1):
        last = number == len(parts)
        if way not in seen:
            try:
                state = os.stat(way)
            except OSError:
                return None  # it and what is below it is not there yet
            needs = [("pass", 1)] if stat.S_ISDIR(state.st_mode) else []
            if last:
                needs += {"read": [("read", 4)], "write": [("write", 2)], "run": [("run", 1)]}.get(wants, [])
            for missing, bit in needs:
                if not _lets(state, uid, gids, bit) and not _has_acl(way):
                    return Barrier(way, stat.S_IMODE(state.st_mode), missing)
            seen.add(way)
        if not last:
            way = os.path.join(way, parts[number])
    return None
