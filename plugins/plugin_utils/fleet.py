# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of a play that fetch one model together: who they are, and the secret by which they know each other."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import tempfile
from typing import Any, Dict, List, Sequence


def wanted(entry: Dict[str, Any]) -> str:
    """What hosts must have in common to fetch a model together: the catalog's entry, but for what is said of it."""
    kept = {key: entry.get(key) for key in ("name", "format", "sources", "files", "hashes", "include", "exclude")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode("utf-8")).hexdigest()


def members(here: str, play: Sequence[str], looked: Dict[str, Dict[str, Any]], forks: int) -> List[Dict[str, Any]]:
    """The hosts that fetch the same model as `here`, `here` among them, in the play's order; [] where there is nothing
    to share: no other fetches it, or all have it.

    :param looked: by host that came as far, what it has registered: ``{wanted, complete, address, port}``.
    :param forks: hosts that Ansible works on at a time: more would wait for each other for ever.
    """
    same = [host for host in play if host in looked and looked[host]["wanted"] == looked[here]["wanted"]]
    if forks > 0:
        # Those that Ansible works on together: it takes the play's hosts in order, as many as it may.
        step = next(start for start in range(0, len(play), forks) if here in play[start : start + forks])
        same = [host for host in same if host in play[step : step + forks]]
    if len(same) < 2 or all(looked[host]["complete"] for host in same):
        return []
    return [
        {
            "name": host,
            "address": looked[host]["address"],
            "port": looked[host]["port"],
            "seed": bool(looked[host]["complete"]),
        }
        for host in same
    ]


def token_of_run(directory: str) -> str:
    """The secret of this run, made by whichever of its processes asks first.

    :param directory: of the run, which nobody else can read; it goes with it.
    """
    path = os.path.join(directory, "dsdeploy-peers")
    if not os.path.exists(path):
        with tempfile.NamedTemporaryFile("w", dir=directory) as handle:
            handle.write(secrets.token_hex(32))
            handle.flush()
            with contextlib.suppress(FileExistsError):
                os.link(handle.name, path)
    with open(path, encoding="ascii") as found:
        return found.read()
