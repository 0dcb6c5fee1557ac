# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user that a service runs as: whose it is, whether a service may run as it, and its trees of files."""

from __future__ import annotations

import os
import pwd
import stat
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from ansible_collections.dsdeploy.llm.plugins.module_utils.host.owned import Notes

FIRST_PERSON = 1000  # UID_MIN of login.defs(5) on Debian and the RHEL family
NOBODY = 65534
NO_LOGIN = ("nologin", "false", "sync", "shutdown", "halt")


class Account(NamedTuple):
    """What passwd(5) says of a user."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str


def account(name: str) -> Optional[Account]:
    """The user of that name, or None."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(found.pw_name, found.pw_uid, found.pw_gid, found.pw_dir, found.pw_shell)


def is_ours(found: Account, notes: Notes) -> bool:
    """Whether dsdeploy has made this user. A note of a run that was cut before it knew the uid counts by the home."""
    noted: Optional[Dict[str, Any]] = notes["users"].get(found.name)
    if noted is None:
        return False
    return noted["uid"] == found.uid if noted.get("uid") is not None else noted.get("home") == found.home


def user_problem(found: Optional[Account], ours: bool, connection: Sequence[str] = ()) -> Optional[str]:
    """Why no service of ours may run as this user, in one line, or None.

    One that is not there is made; one that is ours, or a system user without a login, is used as it is.

    :param connection: names of the users that this run came by.
    """
    if found is None or ours:
        return None
    if found.uid == 0:
        return "the user %s is root" % found.name
    if found.name in connection:
        return "the user %s is the one that this run connects as" % found.name
    if FIRST_PERSON <= found.uid and found.uid != NOBODY:
        return "the user %s exists and is a person's account (uid %d)" % (found.name, found.uid)
    if os.path.basename(found.shell) not in NO_LOGIN:
        return "the user %s exists and can log in (shell %s)" % (found.name, found.shell or "/bin/sh")
    return None


def named(uid: int) -> Optional[str]:
    """The name of a uid, or None where nobody has it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def came_by() -> List[str]:
    """Names of the users that this run came by, and became root."""
    return [os.environ[name] for name in ("SUDO_USER", "DOAS_USER") if os.environ.get(name)]


class Handed(NamedTuple):
    """`count`: files and directories that become the user's. `linked`: files with another name elsewhere, which stay
    whose they are: root's own file may be behind it."""

    count: int
    linked: List[str]


_TREE = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def hand_over(top: str, uid: int, gid: int, give: bool = True) -> Handed:
    """Give a tree to a user, the top last: a run that is cut begins again.

    What belongs to the owner of the top, to root or to nobody changes hands; what is another user's stays, and so does
    a device. Links are not followed and other file systems not entered. Nothing is done where the top is the user's.
    Each file is opened and looked at before it is given away: who may write to a directory of the tree could put
    another file in its place meanwhile, by a link to it or by a link in the place of the directory.

    :param give: False: only what would be done.
    :raises OSError: the tree cannot be read, or changes under our hands.
    """
    before = os.lstat(top)
    if before.st_uid == uid:
        return Handed(0, [])
    linked: List[str] = []

    def becomes(state: os.stat_result) -> bool:
        if stat.S_ISCHR(state.st_mode) or stat.S_ISBLK(state.st_mode):
            return False
        return state.st_uid != uid and (state.st_uid in (before.st_uid, 0) or named(state.st_uid) is None)

    def visit(directory: int, path: str) -> int:
        count = 0
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            try:
                seen = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if seen.st_dev != before.st_dev:
                    continue
                flags = _TREE if stat.S_ISDIR(seen.st_mode) else os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
                found = os.open(name, flags, dir_fd=directory)
            except FileNotFoundError:
                continue  # it has gone meanwhile
            try:
                state = os.fstat(found)
                if stat.S_ISDIR(state.st_mode):
                    # What was mounted on it meanwhile is not entered.
                    count += visit(found, os.path.join(path, name)) if state.st_dev == before.st_dev else 0
                elif stat.S_ISREG(state.st_mode) and state.st_nlink > 1 and uid != 0 and becomes(state):
                    linked.append(os.path.join(path, name))
                    continue
                if state.st_dev == before.st_dev and becomes(state):
                    count += 1
                    if give:
                        # By the descriptor: of the very file that was looked at.
                        os.chown("/proc/self/fd/%d" % found, uid, gid)
            finally:
                os.close(found)
        return count

    descriptor = os.open(top, _TREE)
    try:
        count = visit(descriptor, top)
        if give:
            os.fchown(descriptor, uid, gid)
    finally:
        os.close(descriptor)
    return Handed(count + 1, linked)
