# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stamp of a virtual environment: what it was made from, written once it is whole."""

from __future__ import annotations

import glob
import json
import os
import stat
from typing import Any, Dict, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import write_durably

STAMP = ".dsdeploy-venv.json"


def read_stamp(path: str) -> Optional[Dict[str, Any]]:
    """What the environment at `path` was made from; None where none stands there that is whole."""
    try:
        stamp = foreign.read(os.path.join(path, STAMP))
        stamp.texts("requirements", ())
        found: Dict[str, Any] = stamp.mapping("").value
    except (OSError, Failure):
        return None
    return found if os.access(os.path.join(path, "bin", "python"), os.X_OK) else None


def write_stamp(path: str, stamp: Dict[str, Any]) -> None:
    write_durably(os.path.join(path, STAMP), json.dumps(stamp))


def closed_to_others(path: str) -> bool:
    """Whether a quick look shows that other users cannot use the environment: one made under a strict umask."""
    looked_at = [path, os.path.join(path, "bin"), os.path.join(path, STAMP)]
    looked_at += glob.glob(os.path.join(glob.escape(path), "lib", "python*", "site-packages"))
    return any(_missing(os.stat(name).st_mode) for name in looked_at)


def open_to_all(path: str) -> None:
    """Let every user read the environment, and run what its owner can run. Links are left alone."""
    for directory, _directories, files in os.walk(path):
        for name in [directory] + [os.path.join(directory, name) for name in files]:
            mode = os.lstat(name).st_mode
            if not stat.S_ISLNK(mode) and _missing(mode):
                os.chmod(name, stat.S_IMODE(mode) | _missing(mode))


def _missing(mode: int) -> int:
    """The bits that group and others lack of what the owner may."""
    wanted = 0o055 if mode & 0o100 else 0o044
    return wanted & ~mode
