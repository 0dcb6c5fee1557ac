# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a user can reach a path: every directory on the way lets it pass, every link resolved. And whether somebody
else than root can put another file there, which root would run or write."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from typing import Collection, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.host.users import FIRST_PERSON, NOBODY

# Who is in one of them becomes root by a word.
ADMINISTRATORS = ("sudo", "wheel", "admin")


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


class Weak(NamedTuple):
    """A directory in which somebody else than root can put another file or directory in the place of one."""

    path: str  # links resolved
    who: str  # one line

    def __str__(self) -> str:
        return "%s, where %s can put others in the place of files that root runs or writes" % (self.path, self.who)


def weak_hint(weak: Weak) -> str:
    """What makes the way safe, one line."""
    return "chown root:root %s; chmod go-w %s; or choose a directory where only root can write." % (
        weak.path,
        weak.path,
    )


def weak(path: str, connection: Collection[str] = (), data: bool = False) -> Optional[Weak]:
    """The first directory on the way to a path, or the path itself, in which somebody else than root can write; None
    where only root can. Not somebody else is who may become root: an administrator, or who this run came by.

    :param connection: names of the users that this run came by.
    :param data: root runs nothing there. A directory in which everybody can write, as a rented container's volume often
        is, then counts only where a person other than root has an account.
    """
    seen: Set[str] = set()
    path = os.path.abspath(path)
    parts = [part for part in path.split("/") if part]
    for number in range(len(parts) + 1):
        for way in _directories(os.path.realpath("/" + "/".join(parts[:number]))):
            if way not in seen:
                seen.add(way)
                who = _writes(os.stat(way), connection, data)
                if who:
                    return Weak(way, who)
    return None


def weak_ways(programs: Sequence[str], data: Sequence[str], connection: Collection[str]) -> List[Tuple[str, Weak]]:
    """The paths of both kinds that have a weak way, as `weak`, and where. What is both is where programs are."""
    ways = dict.fromkeys([*programs, *data], True)
    ways.update(dict.fromkeys(programs, False))
    found = [(path, weak(path, connection, is_data)) for path, is_data in ways.items()]
    return [(path, at) for path, at in found if at]


def _directories(real: str) -> Iterator[str]:
    """The directories on the way to a path without links, and it itself, as far as they are there."""
    way = "/"
    for part in [*[part for part in real.split("/") if part], ""]:
        if not os.path.isdir(way):
            return
        yield way
        way = os.path.join(way, part)


def _writes(state: os.stat_result, connection: Collection[str], data: bool) -> str:
    """Who but root can write in a directory, "" for nobody."""
    if state.st_uid not in (os.geteuid(), NOBODY):
        try:
            owner = pwd.getpwuid(state.st_uid)
        except KeyError:
            pass  # of a disk from outside of a container, or over a network, the owner may be nobody here
        else:
            if not _is_root(owner, connection):
                return "its owner %s" % owner.pw_name
    if state.st_mode & stat.S_ISVTX:
        return ""  # as in /tmp: what is there is its owner's alone
    if state.st_mode & stat.S_IWOTH:
        return "everybody" if not data or any(_persons(connection)) else ""
    if state.st_mode & stat.S_IWGRP and state.st_gid:
        # Groups of the system's own programs, such as syslog's in /var/log, are the distribution's to judge.
        for user in _persons(connection):
            if _is_in(user, state.st_gid):
                return "%s by its group" % user.pw_name
    return ""


def _persons(connection: Collection[str]) -> Iterator[pwd.struct_passwd]:
    """Persons with an account who are not root, nor become it where they want."""
    for user in pwd.getpwall():
        if FIRST_PERSON <= user.pw_uid and user.pw_uid != NOBODY and not _is_root(user, connection):
            yield user


def _is_in(user: pwd.struct_passwd, gid: int) -> bool:
    try:
        return user.pw_gid == gid or user.pw_name in grp.getgrgid(gid).gr_mem
    except KeyError:
        return False


def _is_root(user: pwd.struct_passwd, connection: Collection[str]) -> bool:
    """Whether a user is root, or becomes it where he wants."""
    if user.pw_uid == 0 or user.pw_name in connection:
        return True
    for group in ADMINISTRATORS:
        try:
            found = grp.getgrnam(group)
        except KeyError:
            continue
        if user.pw_name in found.gr_mem or user.pw_gid == found.gr_gid:
            return True
    return False


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
