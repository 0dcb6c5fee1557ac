# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole store of a host: what is there, whether it is sound, what nothing needs any more."""

from __future__ import annotations

import os
import shutil
import threading

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign, locked
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import sha256_of
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import store as model_store
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.store import MANIFEST, PARTIAL

RECORDS = places.RECORDS


def served_paths(records_dir):
    """``[(engine, model name, path of what it serves or "")]`` of the deployment records (see CONTRIBUTING.md)."""
    found = []
    try:
        names = sorted(name for name in os.listdir(records_dir) if name.endswith(".json"))
    except OSError:
        return found
    for name in names:
        try:
            record = foreign.read(os.path.join(records_dir, name))
            found.append((record.text("engine"), record.text("model", ""), record.text("model_path", "")))
        except (OSError, Failure):
            # A record that cannot be read may be of any model.
            found.append((name, "", ""))
    return found


def _below(path, directory):
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def inventory(models_dir, records_dir=RECORDS):
    """Every revision in the store, as a list of dicts.

    ``name``, ``revision``, ``directory``, ``complete`` (manifest there and every file has its size), ``damaged`` (the
    manifest is there and cannot be read, so that nothing is known of the files), ``format``,
    ``bytes`` (taken on disk), ``files`` (number), ``source``, ``problems`` (lines), ``served_by`` (engines),
    ``busy`` (a run is fetching it).
    """
    served = served_paths(records_dir)
    found = []
    for name in _directories(models_dir):
        for revision in _directories(os.path.join(models_dir, name)):
            directory = os.path.join(models_dir, name, revision)
            manifest = model_store.read_manifest(directory)
            damaged = model_store.manifest_problem(directory)
            problems = model_store.compare(directory, manifest)[0] if manifest else [damaged] if damaged else []
            found.append(
                {
                    "name": name,
                    "revision": revision,
                    "directory": directory,
                    "complete": bool(manifest) and not problems,
                    "damaged": bool(damaged),
                    "format": manifest["format"] if manifest else None,
                    "files": len(manifest["files"]) if manifest else 0,
                    "bytes": _disk_bytes(directory),
                    "source": manifest["source"] if manifest else None,
                    "problems": problems,
                    "served_by": sorted(
                        engine
                        for engine, model, path in served
                        if (_below(path, directory) if path else model in ("", name))
                    ),
                    "busy": locked.holder(directory + ".lock") is not None,
                }
            )
    return found


def _directories(path):
    try:
        return sorted(
            name for name in os.listdir(path) if not name.startswith(".") and os.path.isdir(os.path.join(path, name))
        )
    except OSError:
        return []


def _disk_bytes(directory):
    total = 0
    for base, _subdirectories, names in os.walk(directory):
        for name in names:
            total += os.lstat(os.path.join(base, name)).st_blocks * 512
    return total


# --- verify -----------------------------------------------------------------------------------------


def verify(directory, report=None, threads=2):
    """Read every file of a model again and compare its sha256; returns lines for what is wrong.

    :param report: called with the bytes read so far.
    :param threads: files that are read at the same time; hashing runs outside the interpreter lock.
    """
    manifest = model_store.read_manifest(directory)
    if manifest is None:
        damaged = model_store.manifest_problem(directory)
        return [damaged or "%s has no manifest: the model is not complete" % directory]
    problems, _touched = model_store.compare(directory, manifest)
    named = " ".join(problems)
    queue = [item for item in manifest["files"] if os.path.join(directory, item["path"]) not in named]
    lock, read = threading.Lock(), [0]

    def count(step):
        with lock:
            read[0] += step
            if report:
                report(read[0])

    def work():
        while True:
            with lock:
                if not queue:
                    return
                item = queue.pop(0)
            path = os.path.join(directory, item["path"])
            try:
                found = sha256_of(path, count)
            except OSError as error:
                found = None
                with lock:
                    problems.append("%s cannot be read: %s" % (path, error.strerror))
            if found not in (None, item["sha256"]):
                with lock:
                    problems.append("%s has sha256 %s, expected %s" % (path, found, item["sha256"]))

    workers = [threading.Thread(target=work, daemon=True) for _number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sorted(problems)


def make_invisible(directory, damaged):
    """Take a damaged model from engines, keeping note of its sound files, so that a run fetches only the others.

    :param damaged: lines of `verify`; a file counts as damaged when a line names it.
    """
    manifest = model_store.read_manifest(directory)
    if manifest is None:
        return
    for item in manifest["files"]:
        path = os.path.join(directory, item["path"])
        if not any(line.startswith(path + " ") for line in damaged):
            model_store.note_file(directory, item["path"], item["sha256"])
    model_store.drop_manifest(directory)


# --- prune ------------------------------------------------------------------------------------------


def superfluous(found, unused=False):
    """Which revisions can go, as ``[(revision, why)]``.

    - a half-downloaded one that no run is working on and nothing serves;
    - one that nothing serves, of a model of which another revision is served;
    - with ``unused``: every one that nothing serves.
    """
    served = set(item["name"] for item in found if item["served_by"])
    going = []
    for item in found:
        # Of a model whose manifest is damaged the files may be whole: the next fetch finds out and keeps them.
        if item["served_by"] or item["busy"] or item["damaged"]:
            continue
        if not item["complete"]:
            going.append((item, "not complete"))
        elif item["name"] in served:
            going.append((item, "another revision is served"))
        elif unused:
            going.append((item, "nothing serves it"))
    return going


def remove(directory):
    """Remove one revision, making it invisible first, and its model's directory when that is empty then."""
    if not os.path.isdir(os.path.join(directory, PARTIAL)) and not os.path.isfile(os.path.join(directory, MANIFEST)):
        raise ValueError("%s holds no model of this store" % directory)
    model_store.drop_manifest(directory)
    shutil.rmtree(directory)
    try:
        os.unlink(directory + ".lock")
    except FileNotFoundError:
        pass
    try:
        os.rmdir(os.path.dirname(directory))
    except OSError:
        pass  # other revisions are in it
