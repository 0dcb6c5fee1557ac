# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stamp of a virtual environment: what it was made from, written once it is whole."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import write_durably

STAMP = ".dsdeploy-venv.json"


def read_stamp(path: str) -> Optional[Dict[str, Any]]:
    """What the environment at `path` was made from; None where none stands there that is whole."""
    try:
        with open(os.path.join(path, STAMP), encoding="utf-8") as handle:
            found = json.load(handle)
    except (OSError, ValueError):
        return None
    return found if os.access(os.path.join(path, "bin", "python"), os.X_OK) else None


def write_stamp(path: str, stamp: Dict[str, Any]) -> None:
    write_durably(os.path.join(path, STAMP), json.dumps(stamp))
