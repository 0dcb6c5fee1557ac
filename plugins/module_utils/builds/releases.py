# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases of an engine beside each other: `current` and `previous` are links to two of the directories below a root.

A release that has answered holds SERVED, how it was served then; one without it is nothing to go back to.
"""

from __future__ import annotations

import os
from typing import Any, Dict, List

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign, removing
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import fsync_directory, make_directory

CURRENT, PREVIOUS = "current", "previous"
SERVED = ".dsdeploy-service.json"


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def _has_answered(root: str, link: str) -> bool:
    return os.path.exists(os.path.join(root, link, SERVED))


def _gang(root: str, link: str) -> List[str]:
    """The hosts that served a release together when it last answered, by rank; [] for one host, and where no file of
    ours says so."""
    try:
        record = foreign.read(os.path.join(root, link, SERVED)).mapping("record", None)
        found = record and record.mapping("gang", None)
        return found.texts("hosts", []) if found else []
    except (OSError, Failure):
        return []


def look(root: str) -> Dict[str, Any]:
    """What there is: names of the two releases ("" for none), whether each has answered, whether the one before can
    be gone back to, and the hosts that served that one together."""
    current, previous = (_target(os.path.join(root, link)) for link in (CURRENT, PREVIOUS))
    answered_before = bool(previous) and _has_answered(root, PREVIOUS)
    return {
        "root": root,
        "current": current,
        "previous": previous,
        "has_answered": bool(current) and _has_answered(root, CURRENT),
        "can_go_back": answered_before and previous != current,
        "previous_gang": _gang(root, PREVIOUS) if answered_before else [],
    }


def _link(root: str, link: str, release: str) -> None:
    """By a rename: there is no moment without one."""
    path, temporary = os.path.join(root, link), os.path.join(root, "." + link + ".new")
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(release, temporary)
    os.replace(temporary, path)
    fsync_directory(root)


def switch(root: str, release: str, check: bool = False) -> bool:
    """Make a release the current one; whether that is a change.

    The one before is remembered where it has answered; else the one before that stays remembered.
    """
    before = look(root)
    if before["current"] == release:
        return False
    if not check:
        make_directory(root)
        if before["has_answered"]:
            _link(root, PREVIOUS, before["current"])
        _link(root, CURRENT, release)
    return True


def superfluous(root: str) -> List[str]:
    """Paths below the root that belong to neither of the two releases. Hidden ones are not releases'."""
    found = look(root)
    kept = {CURRENT, PREVIOUS}
    for release in filter(None, (found["current"], found["previous"])):
        kept |= {release, release + ".lock"}
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return []
    return [os.path.join(root, name) for name in names if name not in kept and not name.startswith(".")]


def remove(paths: List[str]) -> None:
    removing.require_nothing_mounted(paths)
    for path in paths:
        removing.remove(path)
