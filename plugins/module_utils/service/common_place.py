# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployments on one host have places of their own."""

from __future__ import annotations

import os
from typing import Any, Dict, Optional, Sequence, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.host.begun import Note
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.preflight import Problem


def common_place(
    places_: Sequence[str], service: str, records: Sequence[Dict[str, Any]]
) -> Optional[Tuple[str, str, Dict[str, Any]]]:
    """A place of a deployment that is another one's too, is in one or holds one: `(place, the other's, its record)`.

    What is written there, given to the service's user or removed with it would be the other's. A model is the other's
    as far as it is in the place; that two serve one model is as it should be.

    :param places_: paths of the deployment whose service is `service`.
    """
    for record in records:
        if record["service"]["name"] == service:
            continue
        theirs = [record.get(key) for key in ("environment_file", "state_dir", "api_key_file")]
        theirs += [*record.get("dirs", []), *record.get("write_paths", [])]
        held = [(path, True) for path in theirs if path] + [(record.get("model_path") or "/-", False)]
        for mine in places_:
            for path, either in held:
                one, other = (os.path.realpath(found).rstrip("/") + "/" for found in (mine, path))
                if other.startswith(one) or (either and one.startswith(other)):
                    return mine, path, record
    return None


def shared_place(note: Note, service: str, records: Sequence[Dict[str, Any]]) -> Optional[Problem]:
    """What is wrong with the places of a deployment, where another one on the host has one of them.

    :param note: what the deployment is going to make (`host/begun.py`).
    """
    own = [note["environment_file"], note["state_dir"], *note["dirs"], *note["write_paths"]]
    found = common_place(own, service, records)
    if not found:
        return None
    place, theirs, record = found
    return Problem(
        "%s cannot be %s's: %s is %s's on this host" % (place, note["engine"], theirs, record["engine"]),
        "Choose another place: what a deployment has is given to its user, and goes with it.",
        "usage",
    )
