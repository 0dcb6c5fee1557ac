# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The model store on disk: ``<models dir>/<model>/<revision>/`` with a manifest that is written last.

A directory without a sound manifest does not exist for an engine. The manifest holds, for each
file, its path below the directory, bytes, sha256 and mtime_ns, so that a later run knows from
``stat`` alone whether a file is still the one that was verified.
"""

from __future__ import annotations

import json
import os

from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import (
    fsync_directory,
    make_directory,
    reading,
    write_durably,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.catalog import FORMATS, is_safe_path
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.parts import SHARD
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.impostor import impostor

MANIFEST = ".dsdeploy-manifest.json"
PARTIAL = ".dsdeploy-partial"
MERGING = ".dsdeploy-merging"  # there while shards are merged and removed: the manifest is still that of the shards


# --- manifest -------------------------------------------------------------------------------------


def read_manifest(directory):
    """The manifest of a model directory, or ``None`` when there is none that can be trusted."""
    try:
        return _manifest(directory)
    except (OSError, Failure):
        return None


def manifest_problem(directory):
    """One line when there is a manifest, and it cannot be read or trusted; else ``None``."""
    path = os.path.join(directory, MANIFEST)
    try:
        _manifest(directory)
    except FileNotFoundError:
        return "%s is a broken link" % path if os.path.islink(path) else None
    except OSError as error:
        return "%s cannot be read: %s" % (path, error.strerror)
    except Failure as error:
        return str(error)
    return None


def _manifest(directory):
    """The manifest; raises OSError where there is none, `Failure` for one that is none."""
    found = foreign.read(os.path.join(directory, MANIFEST))
    if found.count("version") != 1:
        found.wrong("version 1 expected", found.value["version"])
    found.text("format", pattern="|".join(FORMATS))
    found.text("name")
    found.mapping("source")
    found.texts("include", ())
    found.texts("exclude", ())
    items = list(found.items("files"))
    if not items:
        found.wrong("files expected", [])
    for item in items + list(found.items("merged", ())):
        if not is_safe_path(item.text("path")):
            item.wrong("a path below the directory expected", item.value["path"])
        item.count("bytes")
        item.text("sha256", pattern="[0-9a-f]{64}")
        item.number("mtime_ns")
    return found.value


def make_manifest(directory, about, files):
    """Manifest of files that were just verified.

    :param about: what else it says: ``name``, ``format``, ``source`` (where the files came from), ``include`` and
        ``exclude`` (the patterns that chose them), ``merged`` (items of files that became part of another); or a
        whole manifest, for one of other files.
    :param files: list of ``{path, sha256}``.
    """
    listed = []
    for item in sorted(files, key=lambda item: item["path"]):
        stat = os.stat(os.path.join(directory, item["path"]))
        listed.append(dict(path=item["path"], bytes=stat.st_size, sha256=item["sha256"], mtime_ns=stat.st_mtime_ns))
    return dict(about, version=1, files=listed)


def write_manifest(directory, manifest):
    write_durably(os.path.join(directory, MANIFEST), json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def drop_manifest(directory):
    """Make a directory invisible before anything in it changes."""
    try:
        os.unlink(os.path.join(directory, MANIFEST))
    except FileNotFoundError:
        return
    fsync_directory(directory)


def note_file(directory, name, sha256):
    """Note that a file was verified, so that the next run need not read it.

    :param sha256: ``None`` for one that is the store's, but says nothing.
    """
    stat = os.stat(os.path.join(directory, name))
    path = os.path.join(directory, PARTIAL, name + ".done")
    make_directory(os.path.dirname(path))
    write_durably(path, json.dumps({"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": sha256}))


def noted_sha256(directory, name):
    """sha256 noted for a file that has not changed since, or ``None``."""
    try:
        stat = os.stat(os.path.join(directory, name))
        note = foreign.read(os.path.join(directory, PARTIAL, name + ".done"))
        same = note.count("bytes") == stat.st_size and note.number("mtime_ns") == stat.st_mtime_ns
        return note.text("sha256", None, pattern="[0-9a-f]{64}") if same else None
    except (OSError, Failure):
        return None  # the file is hashed, or fetched, again


def noted_files(directory):
    """Paths below ``directory`` of all files that have a note, changed since or not."""
    partial = os.path.join(directory, PARTIAL)
    found = []
    for base, _directories, names in os.walk(partial):
        for name in names:
            path = os.path.relpath(os.path.join(base, name), partial)
            if path.endswith(".done") and os.path.isfile(os.path.join(directory, path[: -len(".done")])):
                found.append(path[: -len(".done")])
    return found


def find_manifest(path, levels=3):
    """``(directory, manifest)`` of the model directory that ``path`` lies in, at most ``levels`` below; else Nones."""
    directory = os.path.realpath(path)
    for _level in range(levels):
        directory = os.path.dirname(directory)
        manifest = read_manifest(directory)
        if manifest:
            return directory, manifest
    return None, None


def is_merging(directory):
    return os.path.exists(os.path.join(directory, MERGING))


def begin_merge(directory):
    """Note that files of the manifest are about to go, because they become one file."""
    write_durably(os.path.join(directory, MERGING), "")


def cancel_merge(directory):
    """Nothing of the manifest is gone."""
    os.unlink(os.path.join(directory, MERGING))
    fsync_directory(directory)


def end_merge(directory, manifest, merged, sha256):
    """Put the file ``merged`` into the manifest in place of the files that are gone."""
    name = os.path.relpath(merged, directory)
    there, gone = [], list(manifest.get("merged", []))
    for item in manifest["files"]:
        if item["path"] != name:
            (there if os.path.exists(os.path.join(directory, item["path"])) else gone).append(item)
    there.append({"path": name, "sha256": sha256})
    write_manifest(directory, make_manifest(directory, dict(manifest, merged=gone), there))
    cancel_merge(directory)


def compare(directory, manifest):
    """Compare the files with their manifest without reading them.

    Returns ``(problems, touched)``: lines for files that are missing or have another size, and the
    items whose size is right but whose mtime is not, which only a hash can tell.
    """
    problems, touched = [], []
    for item in manifest["files"]:
        path = os.path.join(directory, item["path"])
        try:
            stat = os.stat(path)
        except OSError:
            problems.append("%s is missing (expected %d bytes)" % (path, item["bytes"]))
            continue
        if stat.st_size != item["bytes"]:
            problems.append("%s has %d bytes, expected %d" % (path, stat.st_size, item["bytes"]))
        elif stat.st_mtime_ns != item["mtime_ns"]:
            touched.append(item)
    return problems, touched


# --- what a file is -------------------------------------------------------------------------------


def is_weights(name):
    return name.endswith((".gguf", ".safetensors"))


def wrong_weights(path):
    """One line when a weight file is not what its name says or not whole, else ``None``; reads headers only."""
    if not is_weights(path):
        return None
    size = os.path.getsize(path)
    with reading(path) as handle:
        head = handle.read(64)
    what = impostor(head)
    if what:
        return "%s is %s (%d bytes)" % (path, what, size)
    if path.endswith(".gguf"):
        return None if head[:4] == b"GGUF" else "%s is not a GGUF file (it starts with %r)" % (path, head[:4])
    try:
        model_shape.read_safetensors_header(path)
    except ValueError as error:
        return str(error)
    return None


def weights_format(names):
    """``gguf``, ``safetensors`` or ``None`` for the file names of a model directory."""
    if any(name.endswith(".safetensors") for name in names):
        return "safetensors"
    if any(name.endswith(".gguf") for name in names):
        return "gguf"
    return None


def gguf_order(name):
    """GGUF files in their order, behind them what sees pictures for the model (llama.cpp calls it mmproj)."""
    return "mmproj" in name.lower(), name


def gguf_models(names):
    """Of the names of GGUF files those that can be served, each by itself: whole ones, and the first of a set's."""
    found = {}
    for name in sorted(names):
        directory, base = os.path.split(name)
        shard = SHARD.match(base)
        if name.endswith(".gguf") and "mmproj" not in name.lower():
            found.setdefault((directory, shard.group("stem", "count") if shard else base), name)
    return list(found.values())


def record_of(name, directory, model_format, files, serve=None):
    """What engines are told of a model (see CONTRIBUTING.md); ``files`` is a list of ``{path, bytes}``.

    ``path`` is the directory for safetensors, the (first) GGUF file for GGUF.
    """
    names = [item["path"] for item in files]
    path = directory
    if model_format == "gguf" and names:
        path = os.path.join(directory, serve or min((item for item in names if item.endswith(".gguf")), key=gguf_order))
    return {
        "name": name,
        "format": model_format,
        "path": path,
        "files": [os.path.join(directory, item) for item in names],
        "bytes": sum(item.get("bytes") or 0 for item in files),
    }
