# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What on a host is ours: noted when it is made, in a file that root alone reads. Only that is taken away again.

The file is `{"users": {NAME: {"uid": N or null, "home": PATH}}, "groups": {NAME: {}}, "directories": {PATH: {"service":
NAME}}, "packages": {NAME: {}}, "begun": {SERVICE: NOTE}}`, the last one as `host/begun.py` has it. A user is noted
before it is made, with the uid null, so that a run that is cut leaves none that nobody knows of. Rules of the firewall
have files of their own (`host/firewall.py`).
"""

from __future__ import annotations

import json
import os
from typing import Any, Dict

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import make_directory, write_durably
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import begun

KINDS = ("users", "groups", "directories", "packages", "begun")
Notes = Dict[str, Dict[str, Dict[str, Any]]]


def parse(text: str) -> Notes:
    """The notes in a text. ValueError, one line, for what is none."""
    try:
        found = foreign.loads(text)
    except ValueError:
        raise ValueError("not JSON") from None
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    for kind in found:
        if kind not in KINDS:
            raise ValueError("'%s' is not one of %s" % (kind[:40], ", ".join(KINDS)))
        if not isinstance(found[kind], dict) or not all(isinstance(entry, dict) for entry in found[kind].values()):
            raise ValueError("'%s' is not an object of objects" % kind)
    for name, entry in found.get("users", {}).items():
        uid = entry.get("uid")
        numeric = uid is None or (isinstance(uid, int) and not isinstance(uid, bool))
        if not numeric or not isinstance(entry.get("home", ""), str):
            raise ValueError("user '%s' has no numeric uid" % name[:40])
    for service, entry in found.get("begun", {}).items():
        begun.check(service, entry)
    return {kind: found.get(kind, {}) for kind in KINDS}


def load(path: str = "") -> Notes:
    """What is ours; nothing where there is no file. Failure for a file that cannot be read as these notes."""
    path = path or places.OWNED
    try:
        return parse(foreign.read_text(path))
    except FileNotFoundError:
        return {kind: {} for kind in KINDS}
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise Failure(
            "%s, where dsdeploy notes which users and directories it has made, cannot be read: %s" % (path, reason),
            hint="Put back a copy of it, or remove it: what it named then counts as yours and is never taken away.",
        ) from None


def save(notes: Notes, path: str = "") -> None:
    """Write the notes, readable for root alone; without any there is no file."""
    path = path or places.OWNED
    if not any(notes.values()):
        if os.path.lexists(path):
            os.unlink(path)
        return
    make_directory(os.path.dirname(path))
    before = os.umask(0o077)
    try:
        write_durably(
            path, json.dumps({kind: notes[kind] for kind in KINDS if notes[kind]}, indent=1, sort_keys=True) + "\n"
        )
    finally:
        os.umask(before)


def note(kind: str, name: str, **entry: Any) -> None:
    """Note one thing as ours."""
    notes = load()
    if notes[kind].get(name) != entry:
        notes[kind][name] = entry
        save(notes)


def forget(kind: str, name: str) -> None:
    """One thing is not there any more, or not ours."""
    notes = load()
    if notes[kind].pop(name, None) is not None:
        save(notes)
