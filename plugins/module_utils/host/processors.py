# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many processors a program may keep busy here. All but `count` is pure."""

from __future__ import annotations

import os

from ansible_collections.dsdeploy.llm.plugins.module_utils.host.memory import CGROUP, read


def usable(allowed: int, cpu_max: str = "", quota: str = "", period: str = "") -> int:
    """Of the processors that a process may be put on, as many as its container is given the time of; at least one.

    A container with 4 of 128 processors may mostly run on all of them, each for a while: with 128 threads it stands
    still for most of each period.

    :param cpu_max: the cgroup's cpu.max, "400000 100000"; the first word is ``max`` for no limit.
    :param quota: the same before cgroup 2, cpu.cfs_quota_us, -1 for no limit. ``period``: its cpu.cfs_period_us.
    """
    words = cpu_max.split() or [quota.strip(), period.strip()]
    if len(words) != 2 or not all(word.isdigit() and int(word) for word in words):
        return allowed
    return max(1, min(allowed, -(-int(words[0]) // int(words[1]))))


def count(cgroup: str = CGROUP) -> int:
    """`usable` of this process."""
    names = ("cpu.max", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")
    return usable(len(os.sched_getaffinity(0)), *(read(os.path.join(cgroup, name)) for name in names))
