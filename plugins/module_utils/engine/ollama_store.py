# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ollama's own store on the disk (OLLAMA_MODELS): what it holds, and what of it can go, also while no server runs.

Its form is that of manifest/manifest.go and manifest/paths.go of Ollama 0.24: blobs/sha256-DIGEST, and
manifests/HOST/NAMESPACE/MODEL/TAG, JSON that names the blobs of a model.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.ollama import qualified
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.sizes import mib

# A file of an upload that is not done: os.CreateTemp(blobs, "sha256-"). The server removes one only at a start that is
# an hour later.
_UPLOAD = re.compile(r"sha256-[0-9]{1,10}\Z")
_DIGEST = "sha256[:-][0-9a-f]{64}"
_WEIGHTS = "application/vnd.ollama.image.model"


class Stored(NamedTuple):
    """A model. `bytes`: of its blobs; `alone`: of those that no other model has; `digest`: as /api/tags tells it."""

    name: str
    path: str
    digest: str
    weights: Optional[str]
    blobs: Dict[str, int]
    bytes: int
    alone: int


def _blob(directory: str, digest: str) -> str:
    return os.path.join(directory, "blobs", digest.replace(":", "-"))


def _name(parts: List[str]) -> str:
    host, namespace, model, tag = parts
    if host != "registry.ollama.ai":
        return "%s/%s/%s:%s" % (host, namespace, model, tag)
    return "%s%s:%s" % ("" if namespace == "library" else namespace + "/", model, tag)


def _manifests(directory: str) -> Tuple[List[Tuple[List[str], str, bytes]], List[str]]:
    """(parts of the name, path and text of each manifest; paths that cannot be read)"""
    found, broken = [], []
    top = os.path.join(directory, "manifests")
    for base, _directories, files in os.walk(top):
        for file in sorted(files):
            path = os.path.join(base, file)
            parts = os.path.relpath(path, top).split(os.sep)
            try:
                text = foreign.read_bytes(path)
                if len(parts) != 4:
                    raise ValueError("not where a manifest stands")
                _layers(text)
            except (OSError, ValueError):
                broken.append(path)
            else:
                found.append((parts, path, text))
    return found, broken


def _layers(text: bytes) -> List[Dict[str, Any]]:
    """The layers of a manifest, its configuration among them. Raises ValueError."""
    try:
        manifest = foreign.parse(text, "the manifest")
        found = [*manifest.items("layers"), manifest.mapping("config")]
        for layer in found:
            layer.text("digest", pattern=_DIGEST)  # the name of a file, which is removed one day
    except Failure as error:
        raise ValueError("not a manifest") from error
    return [layer.value for layer in found]


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def models(directory: str) -> List[Stored]:
    """What the store holds, by name; nothing where there is no store."""
    found = []
    read = _manifests(directory)[0]
    users: Dict[str, int] = {}
    for _parts, _path, text in read:
        for digest in {layer["digest"] for layer in _layers(text)}:
            users[digest] = users.get(digest, 0) + 1
    for parts, path, text in read:
        layers = _layers(text)
        blobs = {layer["digest"]: _size(_blob(directory, layer["digest"])) for layer in layers}
        weights = next((layer["digest"] for layer in layers if layer.get("mediaType") == _WEIGHTS), None)
        alone = sum(size for digest, size in blobs.items() if users[digest] == 1)
        digest = hashlib.sha256(text).hexdigest()
        found.append(Stored(_name(parts), path, digest, weights, blobs, sum(blobs.values()), alone))
    return sorted(found)


def find(directory: str, name: str) -> Optional[Stored]:
    """The model of this name; case does not matter."""
    wanted = qualified(name).lower()
    return next((one for one in models(directory) if one.name.lower() == wanted), None)


def ours(stored: List[Stored], made: Dict[str, Dict[str, Any]]) -> Dict[str, Optional[str]]:
    """{name: name in the catalog} of those models that are still the very ones that dsdeploy made.

    :param made: as `Notes.made` gives it.
    """
    found = {}
    for one in stored:
        note = made.get(one.name.lower())
        if note and note.get("digest") == one.digest:
            found[one.name] = note.get("of")
    return found


def going(
    stored: List[Stored], our_own: Dict[str, Optional[str]], wanted: Sequence[str], all_of_ours: bool
) -> List[Stored]:
    """The models that are to be removed: of those that dsdeploy made, which are `wanted`, or all. What somebody else
    has made stays, whatever its name.

    :param our_own: as `ours` gives it. `wanted`: names in Ollama, or in the catalog.
    """
    names = {qualified(name).lower() for name in wanted}
    return [
        one
        for one in stored
        if one.name in our_own
        and (all_of_ours or {one.name.lower(), qualified(our_own[one.name] or "").lower()} & names)
    ]


def told(removed: List[str], kept: List[Dict[str, Any]], directory: str) -> str:
    """What was removed and what stays (`{name, bytes}`, of somebody else), in one line; empty for neither."""
    parts = ["removed from Ollama's store: %s" % ", ".join(removed)] if removed else []
    if kept:
        names = ", ".join("%s (%s)" % (one["name"], mib(one["bytes"])) for one in kept)
        parts.append("%s keeps models that dsdeploy has not made: %s" % (directory, names))
    return "; ".join(parts)


def remove(directory: str, model: Stored) -> int:
    """Remove a model as the server does, its blobs where no other model has them; returns the bytes that got free.

    Raises Failure where a manifest cannot be read: what that one needs is not known.
    """
    broken = _manifests(directory)[1]
    if broken:
        raise Failure(
            "%s is not a manifest of Ollama: which blobs it needs is not known" % broken[0],
            "Remove that file, or the whole of %s, and run this again." % directory,
        )
    os.unlink(model.path)
    used = {digest for other in models(directory) for digest in other.blobs}
    freed = sum(remove_file(_blob(directory, digest)) for digest in model.blobs if digest not in used)
    top = os.path.join(directory, "manifests")
    at = os.path.dirname(model.path)
    while at != top and at.startswith(top) and not os.listdir(at):
        os.rmdir(at)
        at = os.path.dirname(at)
    return freed


def remove_blob(directory: str, digest: str) -> int:
    """Remove a blob that no model has; returns the bytes that got free."""
    read, broken = _manifests(directory)
    used = {layer["digest"] for _parts, _path, text in read for layer in _layers(text)}
    return 0 if broken or digest in used else remove_file(_blob(directory, digest))


def remove_file(path: str) -> int:
    size = _size(path)
    try:
        os.unlink(path)
    except FileNotFoundError:
        return 0
    return size


def leftovers(directory: str) -> List[str]:
    """Files of uploads that nobody writes any more: a killed server leaves them, up to a whole model in size."""
    blobs = os.path.join(directory, "blobs")
    try:
        found = [os.path.join(blobs, name) for name in os.listdir(blobs) if _UPLOAD.match(name)]
    except OSError:
        return []
    written = _open_files() if found else set()
    return sorted(path for path in found if os.path.realpath(path) not in written)


def planned(item: Dict[str, Any]) -> Dict[str, Any]:
    """An item of a disk plan, `{path, bytes, for, ollama}`: without what leftovers will give back, where it is Ollama's
    store, and with the names of what that store holds already."""
    if not item.get("ollama"):
        return item
    spare = sum(_size(path) for path in leftovers(item["path"]))
    held = ", ".join("%s %s" % (one.name, mib(one.alone)) for one in models(item["path"]))
    named = "%s%s" % (item["for"], " (which holds %s)" % held if held else "")
    return dict(item, bytes=max(0, item["bytes"] - spare), **{"for": named})


def _open_files() -> Set[str]:
    """Every file that a process holds open, as far as this one may see."""
    found = set()
    for pid in (name for name in os.listdir("/proc") if name.isdigit()):
        try:
            for number in os.listdir("/proc/%s/fd" % pid):
                found.add(os.readlink("/proc/%s/fd/%s" % (pid, number)))
        except OSError:
            continue
    return found
