# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole store of a host: what is there, whether it is sound, what nothing needs any more."""

from __future__ import annotations

import os
import threading

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.builds import releases
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf import journal
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign, locked, removing
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import is_in, sha256_of
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import store as model_store
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.store import MANIFEST, PARTIAL

RECORDS = places.RECORDS


def _records(records_dir, of):
    """What `of` takes from each deployment record: ``[(file, that)]``; None for one that cannot be read."""
    try:
        names = sorted(name for name in os.listdir(records_dir) if name.endswith(".json"))
    except OSError:
        return []
    found = []
    for name in names:
        try:
            found.append((name, of(foreign.read(os.path.join(records_dir, name)))))
        except (OSError, Failure):
            found.append((name, None))
    return found


def served_paths(records_dir):
    """``[(engine, model name, path of what it serves or "")]`` of the deployment records (see CONTRIBUTING.md)."""
    found = _records(
        records_dir,
        lambda record: (record.text("engine"), record.text("model", ""), record.text("model_path", "")),
    )
    # A record that cannot be read may be of any model.
    return [one or (name, "", "") for name, one in found]


def needed_paths(records_dir):
    """``[(engine, path of the model that its release before served)]``: `rollback` serves it again."""
    found = _records(records_dir, lambda record: (record.text("engine"), record.text("releases", None)))
    # Of one that cannot be read every model counts as served.
    engines = [one for _name, one in found if one and one[1]]
    before = [(engine, releases.model_before(root)) for engine, root in engines]
    return [(engine, path) for engine, path in before if path]


def inventory(models_dir, records_dir=RECORDS):
    """Every revision in the store, as a list of dicts.

    ``name``, ``revision``, ``directory``, ``complete`` (manifest there and every file has its size), ``damaged`` (the
    manifest is there and cannot be read, so that nothing is known of the files), ``format``,
    ``bytes`` (taken on disk), ``files`` (number), ``source``, ``problems`` (lines), ``served_by`` (engines),
    ``needed_by`` (engines whose release before served it), ``busy`` (a run is fetching it).
    """
    served, needed = served_paths(records_dir), needed_paths(records_dir)
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
                        if (is_in(path, directory) if path else model in ("", name, manifest and manifest["name"]))
                    ),
                    "needed_by": sorted({engine for engine, path in needed if is_in(path, directory)}),
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

    What an engine's release before served stays: `rollback` serves it again.
    """
    served = set(item["name"] for item in found if item["served_by"])
    going = []
    for item in found:
        # Of a model whose manifest is damaged the files may be whole: the next fetch finds out and keeps them.
        if item["served_by"] or item["needed_by"] or item["busy"] or item["damaged"]:
            continue
        if not item["complete"]:
            going.append((item, "not complete"))
        elif item["name"] in served:
            going.append((item, "another revision is served"))
        elif unused:
            going.append((item, "nothing serves it"))
    return going


def _ours(directory):
    """Paths below a revision's directory that the store has made, or ``None`` where nothing says which they are."""
    manifest = model_store.read_manifest(directory)
    if manifest is None and os.path.lexists(os.path.join(directory, MANIFEST)):
        return None
    listed = manifest["files"] + manifest.get("merged", []) if manifest else []
    found = {item["path"] for item in listed} | set(model_store.noted_files(directory))
    for name in [name for name in found if name.endswith(".gguf")]:
        found |= {journal.part_path(name), journal.journal_path(name)}
    return found | {MANIFEST, MANIFEST + ".new", model_store.MERGING, PARTIAL}


def remove(directory):
    """Remove one revision, making it invisible first, and its model's directory when that is empty then.

    :returns: paths of files in it that are not the model's, which stay.
    :raises Failure: something is mounted in it. `ValueError`: it is no model's directory.
    """
    if not os.path.isdir(os.path.join(directory, PARTIAL)) and not os.path.isfile(os.path.join(directory, MANIFEST)):
        raise ValueError("%s holds no model of this store" % directory)
    removing.require_nothing_mounted([os.path.realpath(directory)])
    ours = _ours(directory)
    model_store.drop_manifest(directory)
    if ours is None:
        ours = set(os.listdir(directory))
    for name in sorted(ours):
        removing.remove(os.path.join(directory, name))
    left = []
    for base, subdirectories, names in os.walk(directory, topdown=False):
        left += [os.path.join(base, name) for name in names]
        left += [os.path.join(base, name) for name in subdirectories if os.path.islink(os.path.join(base, name))]
        if base != directory and not os.listdir(base):
            os.rmdir(base)
    try:
        os.unlink(directory + ".lock")
    except FileNotFoundError:
        pass
    if left:
        return sorted(left)
    if os.path.islink(directory):
        os.unlink(directory)  # whoever made it also made what it leads to
    elif not removing.is_empty_mount(directory):
        os.rmdir(directory)
    try:
        os.rmdir(os.path.dirname(directory))
    except OSError:
        pass  # other revisions are in it
    return []


def remove_all(models_dir, name, check_mode=False):
    """Remove all revisions of a model; ``(directories, files in them that stay)``.

    :raises Failure, ValueError: as `remove`, before anything is removed.
    """
    parent = os.path.join(models_dir, name)
    try:
        directories = [os.path.join(parent, one) for one in sorted(os.listdir(parent)) if not one.endswith(".lock")]
    except (FileNotFoundError, NotADirectoryError):
        return [], []
    strange = [
        one for one in directories if not any(os.path.lexists(os.path.join(one, own)) for own in (PARTIAL, MANIFEST))
    ]
    if strange:
        raise ValueError("%s: no model of this store" % ", ".join(strange))
    removing.require_nothing_mounted(map(os.path.realpath, directories))
    left = []
    if not check_mode:
        for one in directories:
            left += remove(one)
        if os.path.isdir(parent):
            for lock in [one for one in os.listdir(parent) if one.endswith(".lock")]:
                os.unlink(os.path.join(parent, lock))
            if not os.listdir(parent) and not removing.is_empty_mount(parent):
                os.rmdir(parent)
    return directories or [parent], left
