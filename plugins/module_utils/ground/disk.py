# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Free space by mount point."""

from __future__ import annotations

import os

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.sizes import mib


def mount_point(path):
    """The mount point that ``path`` lies (or will lie) on."""
    path = os.path.realpath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path


def disk_plan(wants):
    """Needed and free bytes by mount point.

    :param wants: list of ``(path, bytes, what for)``.
    :returns: list of ``{mount, need, free, fits, for}``, bytes; ``free`` is what a user without
        privileges may use.
    """
    plan = {}
    for path, need, purpose in wants:
        mount = mount_point(path)
        item = plan.setdefault(mount, {"mount": mount, "need": 0, "for": []})
        item["need"] += need
        item["for"].append(purpose)
    for item in plan.values():
        stat = os.statvfs(item["mount"])
        item["free"] = stat.f_bavail * stat.f_frsize
        item["fits"] = item["need"] <= item["free"]
    return [plan[mount] for mount in sorted(plan)]


def disk_problems(plan):
    """One line for each mount point that is too small."""
    return [
        "%s has %s free (%d bytes), %s needed (%d bytes) for %s"
        % (item["mount"], mib(item["free"]), item["free"], mib(item["need"]), item["need"], ", ".join(item["for"]))
        for item in plan
        if not item["fits"]
    ]


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
