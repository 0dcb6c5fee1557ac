# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Free space by mount point: one look, one rule and one message for all that takes disk."""

from __future__ import annotations

import os
from typing import Any, Dict, Iterable, List, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.sizes import mib


def space(path: str) -> Tuple[str, int]:
    """``(mount point, free bytes)`` of a path, or of its nearest parent that exists.

    Free is what a user without privileges may use.
    """
    here = os.path.realpath(path)
    while not os.path.exists(here):
        here = os.path.dirname(here)
    state = os.statvfs(here)
    while not os.path.ismount(here):
        here = os.path.dirname(here)
    return here, state.f_bavail * state.f_frsize


def disk_plan(wants: Iterable[Tuple[str, int, str]]) -> List[Dict[str, Any]]:
    """Needed and free bytes by mount point: two directories on one file system share its space.

    :param wants: ``(path, bytes, what for)``.
    :returns: ``{mount, need, free, fits, for, paths}``; ``for``: lines such as ``model r1 376.7 GiB``.
    """
    plan: Dict[str, Dict[str, Any]] = {}
    for path, need, purpose in wants:
        mount, free = space(path)
        item = plan.setdefault(mount, {"mount": mount, "need": 0, "free": free, "for": [], "paths": []})
        item["need"] += need
        item["free"] = min(item["free"], free)
        item["for"] += ["%s %s" % (purpose, mib(need))] if need else []
        item["paths"] += [path] if path not in item["paths"] else []
    for item in plan.values():
        item["fits"] = item["need"] <= item["free"]
    return [plan[mount] for mount in sorted(plan)]


def shortage(mount: str, need: int, free: int, purposes: Iterable[str]) -> str:
    """What is wrong with a file system that is too small, in one line."""
    return "not enough disk space on %s: %s needed (%s), %s free, %s too few" % (
        mount,
        mib(need),
        ", ".join(purposes),
        mib(free),
        mib(need - free),
    )


def disk_problems(plan: Iterable[Dict[str, Any]]) -> List[str]:
    """One line for each mount point that is too small."""
    return [shortage(item["mount"], item["need"], item["free"], item["for"]) for item in plan if not item["fits"]]


def disk_bytes(size, merged=False, consume=False, largest_shard=0, ollama=False):
    """Bytes of disk that a model takes at its worst moment, by purpose.

    :param merged: shards are merged into one file (only Ollama needs it); ``consume``: each shard's space is given
        back while merging, so that only one shard is there twice.
    :param ollama: Ollama copies the file into its own store.
    """
    needs = {"download": size}
    if merged:
        needs["merge"] = largest_shard if consume else size
    if ollama:
        needs["ollama"] = size
    return needs
