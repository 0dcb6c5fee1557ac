# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment is going to make, noted before the first of it is made, among what is ours (`host/owned.py`).

Its record is written last, once the service manager has accepted the service. A run that ends before leaves this note
alone, by which `down --purge` finds a release, a user, a unit. The record takes its place.

A note is `{"engine", "user", "manager": systemd or supervisor, "install_dirs": [PATH], "log_dir", "state_dir",
"environment_file", "dirs": [PATH], "write_paths": [PATH], "made": [PATH], "releases": PATH or null, "model": PATH or
null}`, by the name of the service. `made` are directories that were missing; `model` is where the model's files go,
which stay.
"""

from __future__ import annotations

import os
import re
from typing import Any, Dict, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import is_in

Note = Dict[str, Any]

_ONE = ("log_dir", "state_dir", "environment_file")
_PERHAPS = ("releases", "model")
_SEVERAL = ("install_dirs", "dirs", "write_paths", "made")


def is_removable(path: Any) -> bool:
    """Whether it is an absolute path that may be removed one day: neither the root nor a way out of what it names."""
    if not isinstance(path, str) or not path.startswith("/"):
        return False
    return os.path.normpath(path).strip("/") != "" and ".." not in path.split("/")


def check(service: str, note: Note) -> None:
    """ValueError, one line, for what is no such note."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", service):
        raise ValueError("'%s' is not the name of a service" % service[:40])
    for key in ("engine", "user"):
        if not isinstance(note.get(key), str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.$-]*", note[key]):
            raise ValueError("'%s' of what was begun of %s is not a name" % (key, service))
    if note.get("manager") not in ("systemd", "supervisor"):
        raise ValueError("'manager' of what was begun of %s is not one" % service)
    paths = [(key, note.get(key)) for key in _ONE]
    paths += [(key, note[key]) for key in _PERHAPS if note.get(key) is not None]
    for key in _SEVERAL:
        if not isinstance(note.get(key), list):
            raise ValueError("'%s' of what was begun of %s is not a list" % (key, service))
        paths += [(key, path) for path in note[key]]
    for key, path in paths:
        if not is_removable(path):
            raise ValueError("'%s' of what was begun of %s is not an absolute path" % (key, service))


def model_place(models_dir: str, entry: Dict[str, Any], path: str) -> str:
    """The directory that the store makes for a model; "" where it makes none: the model is the host's own.

    :param entry: the resolved entry of the catalog; {} where there is no model. `path`: what is served, where that is
        known already.
    """
    if not models_dir or not entry.get("name") or entry.get("path") or (path and not is_in(path, models_dir)):
        return ""
    return "%s/%s" % (models_dir.rstrip("/"), entry.get("place") or entry["name"])


def make(wanted: Dict[str, Any], user: str, made: List[str]) -> Note:
    """The note of a deployment.

    :param wanted: option `deployment` of module `preflight`, with `model` as of `model_place`.
    :param made: directories that are missing.
    """
    service = wanted["service"]
    note = {
        "engine": wanted["engine"],
        "user": user or service,
        "manager": wanted["manager"],
        "install_dirs": [wanted["install_dir"].rstrip("/")],
        "log_dir": wanted["log_dir"].rstrip("/"),
        "state_dir": "%s/%s" % (wanted["data_dir"].rstrip("/"), service),
        "environment_file": wanted["environment_file"] or "%s/%s.env" % (places.CONFIG, service),
        "dirs": wanted["dirs"],
        "write_paths": wanted["write_paths"],
        "releases": wanted["releases"] or None,
        "model": wanted["model"] or None,
        "made": made,
    }
    check(service, note)
    return note


def _will_be_made(note: Note) -> bool:
    """Whether one of the directories that are missing is the way to something that the next run makes.

    The directory of models is not, where the model is the host's own: the note then names none.
    """
    wanted = [note[key] for key in (*_ONE, *_PERHAPS) if note[key]]
    wanted += [path for key in ("install_dirs", "dirs", "write_paths") for path in note[key]]
    return any(is_in(path, missing) for missing in note["made"] for path in wanted)


def is_recorded(note: Note, record: Optional[Dict[str, Any]]) -> bool:
    """Whether all that the note names stands in the deployment's record already."""
    if not record or record["service"]["manager"] != note["manager"] or _will_be_made(note):
        return False
    # Another one is fetched first, of which a run that is cut leaves a part.
    if note["model"] and not is_in(record.get("model_path") or "/", note["model"]):
        return False
    same = all(record.get(key) == note[key] for key in ("user", "state_dir", "environment_file"))
    if note["manager"] == "supervisor":
        same = same and os.path.dirname(record["service"]["log"] or "") == note["log_dir"]
    return same and all(set(note[key]) <= set(record.get(key) or []) for key in ("dirs", "write_paths"))


def joined(before: Optional[Note], note: Note) -> Note:
    """One note of two runs that both did not come to the record: what the first one made may be elsewhere."""
    if not before:
        return note
    own = (note["state_dir"], note["environment_file"])
    dirs = [*note["dirs"], *before["dirs"], before["state_dir"], before["environment_file"]]
    result = dict(note, dirs=[path for path in dict.fromkeys(dirs) if path not in own])
    for key in ("install_dirs", "write_paths", "made"):
        result[key] = list(dict.fromkeys([*note[key], *before[key]]))
    return result


def is_noted(note: Note, before: Optional[Note]) -> bool:
    """Whether the note of a run before, that did not come to the record, says all of this one."""
    return bool(before and joined(before, note) == before)
