# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make and remove a service's system user; what was made is noted as ours (`host/owned.py`)."""

from __future__ import annotations

import grp
import os
import pwd
from typing import List, Optional, Sequence

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.desired import Desired
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.process import run
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import owned, users

TIMEOUT = 60.0  # s
NO_LOGIN = ("/usr/sbin/nologin", "/sbin/nologin")


def _do(argv: List[str]) -> None:
    done = run(argv, TIMEOUT)
    if done.rc != 0:
        said = " ".join((done.stderr or done.stdout).split()) or "no answer"
        raise Failure("%s: %s" % (" ".join(argv), said[:300]), error_kind="")


def _has_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _whose_primary(group: str) -> List[str]:
    """Users whose primary group it is; groupdel refuses such a group."""
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        return []
    return sorted(one.pw_name for one in pwd.getpwall() if one.pw_gid == gid)


def make_user(name: str, home: str) -> None:
    """A system user without login, with a group of its own name. The home is named, not made."""
    shell = next((path for path in NO_LOGIN if os.path.exists(path)), "/bin/false")
    if not _has_group(name):
        owned.note("groups", name)
        _do(["groupadd", "--system", name])
    owned.note("users", name, uid=None, home=home)
    _do(["useradd", "--system", "--gid", name, "--home-dir", home, "--no-create-home", "--shell", shell, name])
    owned.note("users", name, uid=pwd.getpwnam(name).pw_uid, home=home)


def ensure_user(desired: Desired, name: str, home: str, connection: Sequence[str]) -> Optional[users.Account]:
    """The user that a service runs as, made where there is none; None in check mode where it would be made.

    :param connection: names of the users that the run came by.
    """
    notes = owned.load()
    found = users.account(name)
    problem = users.user_problem(found, found is not None and users.is_ours(found, notes), connection)
    if problem:
        raise Failure(
            "%s: a service cannot run as this user" % problem,
            hint="Name another user for it; a user that does not exist is created, and removed with the service.",
            error_kind="usage",
        )
    if found is None:
        desired.change("make user " + name, lambda: make_user(name, home))
        return users.account(name)
    if users.is_ours(found, notes) and notes["users"][name].get("uid") is None and not desired.check_mode:
        owned.note("users", name, uid=found.uid, home=found.home)
    return found


def remove_user(name: str) -> str:
    """A user that is ours, and its group where that is ours too; what stays of it, in one line, or ""."""
    _do(["userdel", name])
    return forget_user(name)


def forget_user(name: str) -> str:
    """A user that is not there any more, or was never made: its group may be there. What stays of it, in one line."""
    owned.forget("users", name)
    left = ""
    if name in owned.load()["groups"]:
        if _has_group(name):
            others = _whose_primary(name)
            if others:
                left = "group %s: the primary group of %s" % (name, ", ".join(others))
            else:
                _do(["groupdel", name])
        owned.forget("groups", name)
    return left
