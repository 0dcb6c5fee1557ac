# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a service was before it was changed: its files as they were when it last answered, to go back to.

One file a service, root's alone: the environment and the API key are in it.
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any, Dict, List

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.desired import Desired
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

MOST_BYTES = 4 * 1024 * 1024  # of all files of a service


def path_of(name: str) -> str:
    return "%s/%s.json" % (places.BEFORE, name)


def read(paths: List[str]) -> Dict[str, Any]:
    """Files as they are now; what is not there is noted as that."""
    kept: Dict[str, Any] = {}
    for path in paths:
        try:
            data = foreign.read_bytes(path, MOST_BYTES)
            kept[path] = {"mode": os.stat(path).st_mode & 0o777, "data": base64.b64encode(data).decode("ascii")}
        except FileNotFoundError:
            kept[path] = None
    return kept


def keep(desired: Desired, name: str, kept: Dict[str, Any]) -> None:
    """Keep what was read, for `put_back`."""
    desired.directory(places.BEFORE, 0o700)
    text = json.dumps(kept, sort_keys=True) + "\n"
    desired.file(path_of(name), text, 0o600, secret=True, what="how %s is served now" % name)


def keep_or_forget(desired: Desired, name: str, kept: Dict[str, Any]) -> None:
    """Keep what was read; on a disk that takes nothing more, keep nothing rather than what an earlier run has kept."""
    try:
        keep(desired, name, kept)
    except (Failure, OSError):
        desired.absent(path_of(name))


def put_back(desired: Desired, name: str, allowed: List[str]) -> bool:
    """Whether there was something to go back to. Only files that the service has are written.

    :param allowed: their paths.
    """
    path = path_of(name)
    try:
        kept = foreign.loads(foreign.read_text(path, MOST_BYTES))
        files = {
            file: None if one is None else (base64.b64decode(one["data"], validate=True).decode("utf-8"), one["mode"])
            for file, one in kept.items()
        }
    except FileNotFoundError:
        return False
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Failure("%s is not what dsdeploy has written" % path, hint="Remove it.") from None
    for file, one in files.items():
        if file not in allowed:
            raise Failure("%s names %s, which is no file of the service" % (path, file), hint="Remove it.")
        if one is None:
            desired.absent(file)
        else:
            desired.file(file, one[0], one[1], secret=True)
    return True
