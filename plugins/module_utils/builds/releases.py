# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases of an engine beside each other: `current` and `previous` are links to two of the directories below a root.

A release that has answered holds SERVED, how it was served then; one without it is nothing to go back to.
"""

from __future__ import annotations

import os
from typing import Callable, List, NamedTuple, Optional, Sequence, TypeVar

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign, removing
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import fsync_directory, make_directory

CURRENT, PREVIOUS = "current", "previous"
SERVED = ".dsdeploy-service.json"

T = TypeVar("T")


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def _has_answered(root: str, link: str) -> bool:
    return os.path.exists(os.path.join(root, link, SERVED))


def _served(root: str, link: str, of: Callable[[foreign.Foreign], T], nothing: T) -> T:
    """What `of` takes from the deployment's record of when a release last answered; `nothing` where no file of ours
    says so."""
    try:
        record = foreign.read(os.path.join(root, link, SERVED)).mapping("record", None)
        return of(record) if record else nothing
    except (OSError, Failure):
        return nothing


def _gang(root: str, link: str) -> List[str]:
    """The hosts that served a release together when it last answered, by rank; [] for one host."""

    def hosts(record: foreign.Foreign) -> List[str]:
        found = record.mapping("gang", None)
        return found.texts("hosts", []) if found else []

    return _served(root, link, hosts, [])


def _model(root: str, link: str) -> str:
    """The path of the model that a release served when it last answered; "" for not known."""
    return _served(root, link, lambda record: record.text("model_path", ""), "")


def model_before(root: str) -> str:
    """The path of the model that the release before served when it last answered, which going back to it needs; ""
    where there is nothing to go back to, and where no file of ours says so."""
    previous = _target(os.path.join(root, PREVIOUS))
    return _model(root, PREVIOUS) if previous and previous != _target(os.path.join(root, CURRENT)) else ""


class Found(NamedTuple):
    """What there is below a root: names of the two releases ("" for none), whether each has answered, which hosts
    served the one before together, by rank ([] for one host), and the path of its model where that is gone."""

    root: str
    current: str
    previous: str
    has_answered: bool
    answered_before: bool
    previous_gang: List[str]
    gone_model: str = ""


def look(root: str) -> Found:
    current, previous = (_target(os.path.join(root, link)) for link in (CURRENT, PREVIOUS))
    answered_before = bool(previous) and _has_answered(root, PREVIOUS)
    model = _model(root, PREVIOUS) if answered_before else ""
    return Found(
        root=root,
        current=current,
        previous=previous,
        has_answered=bool(current) and _has_answered(root, CURRENT),
        answered_before=answered_before,
        previous_gang=_gang(root, PREVIOUS) if answered_before else [],
        gone_model=model if model and not os.path.exists(model) else "",
    )


def back_problem(found: Found, gang: Sequence[str]) -> Optional[Failure]:
    """Why the release before cannot be gone back to, or None.

    One that other hosts served together starts with all of them, or not at all, and who would belong to it is known of
    what runs now alone. What one host served by itself starts anywhere.

    :param gang: hosts that serve the current release together, by rank; [] for one host.
    """
    engine = os.path.basename(found.root)
    if not found.answered_before or found.previous == found.current:
        return Failure(
            "%s: there is no release before %s that has answered" % (engine, found.current),
            hint="A release is kept when a newer one is installed over it.",
            error_kind="usage",
        )
    if found.previous_gang and found.previous_gang != list(gang):
        return Failure(
            "%s: %s was served by %s together, and %s is not: nothing was changed"
            % (engine, found.previous, ", ".join(found.previous_gang), found.current),
            hint="Deploy it anew, by its version and the variables of that gang (docs/several-hosts.md).",
            error_kind="usage",
        )
    if found.gone_model:
        return Failure(
            "%s: %s served %s, which is not there any more: nothing was changed"
            % (engine, found.previous, found.gone_model),
            hint="Deploy it anew, by its version and its model: that is fetched again.",
            error_kind="usage",
        )
    return None


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
    if before.current == release:
        return False
    if not check:
        make_directory(root)
        if before.has_answered:
            _link(root, PREVIOUS, before.current)
        _link(root, CURRENT, release)
    return True


def superfluous(root: str) -> List[str]:
    """Paths below the root that belong to neither of the two releases. Hidden ones are not releases'."""
    found = look(root)
    kept = {CURRENT, PREVIOUS}
    for release in filter(None, (found.current, found.previous)):
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
