# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a process of this machine still does anything, for tests that end some."""

from __future__ import annotations

import time
from pathlib import Path


def lives(pid: int | str) -> bool:
    """False also for one that has ended and waits for its parent, or for the first process of the machine, to ask how:
    that may take as long as they like."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid: int | str, wait: float = 60.0) -> bool:
    """Whether it ends within so many s."""
    deadline = time.monotonic() + wait
    while lives(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not lives(pid)
