# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user that a service runs as: whose it is, whether a service may run as it, and its trees of files."""

from __future__ import annotations

import os
import pwd
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


def to_hand_over(top: str, uid: int) -> List[str]:
    """Paths of a tree that are not yet the user's and become it, the top last: a run that is cut begins again.

    What belongs to the owner of the top, to root or to nobody changes hands; what is another user's stays. Links are
    not followed and other file systems not entered. Empty where the top is the user's: then all is done.

    :raises OSError: the tree cannot be read.
    """
    state = os.lstat(top)
    if state.st_uid == uid:
        return []
    before = state.st_uid
    paths: List[str] = []

    def visit(directory: str) -> None:
        with os.scandir(directory) as entries:
            for entry in entries:
                inside = entry.stat(follow_symlinks=False)
                if inside.st_dev != state.st_dev:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    visit(entry.path)
                if inside.st_uid != uid and (inside.st_uid in (before, 0) or named(inside.st_uid) is None):
                    paths.append(entry.path)

    visit(top)
    return [*paths, top]
