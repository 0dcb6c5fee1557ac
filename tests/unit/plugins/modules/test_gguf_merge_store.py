# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A merge that consumes shards of the model store leaves a store that knows it, at whatever moment it is stopped."""

import hashlib
import json
import os
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "module_utils" / "gguf")]
import gguf_files
import run_module
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import store as model_store

ENTRY = {
    "name": "r1",
    "format": "gguf",
    "revision": "main",
    "sources": [{"kind": "url", "base": "http://127.0.0.1:1"}],
}


@pytest.fixture
def store(tmp_path):
    directory = tmp_path / "r1" / "main"
    (directory / "q4").mkdir(parents=True)
    model = gguf_files.model(seed=3, shards=3)
    paths = gguf_files.write_set(directory / "q4", model.shards())
    files = [
        {"path": os.path.relpath(path, directory), "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest()}
        for path in paths
    ]
    model_store.write_manifest(
        str(directory),
        model_store.make_manifest(
            str(directory), {"name": "r1", "format": "gguf", "source": ENTRY["sources"][0]}, files
        ),
    )
    ENTRY["files"] = [{"path": item["path"], "bytes": (directory / item["path"]).stat().st_size} for item in files]
    return directory, [Path(path) for path in paths], directory / "q4" / "m.gguf", model.merged()


def merge(paths, dest):
    return run_module.run("gguf_merge", {"src": str(paths[0]), "dest": str(dest), "consume": True})


def fetched(directory):
    """What `up` is told of the model; fetching is impossible."""
    arguments = {"model": ENTRY, "models_dir": str(directory.parents[1]), "retries": 0}
    return run_module.run("model_fetch", arguments)


def manifest_of(directory):
    return json.loads((directory / model_store.MANIFEST).read_text(encoding="utf-8"))


def test_the_merged_file_takes_the_shards_place(store):
    directory, paths, dest, merged = store
    assert merge(paths, dest)["removed"] == 3
    assert dest.read_bytes() == merged
    (only,) = manifest_of(directory)["files"]
    assert (only["path"], only["sha256"]) == ("q4/m.gguf", hashlib.sha256(merged).hexdigest())
    found = fetched(directory)
    assert (found["changed"], found["model_files"]["path"]) == (False, str(dest))
    assert not model_store.is_merging(str(directory))


def test_killed_after_some_shards_were_removed(store):
    directory, paths, dest, merged = store
    whole = manifest_of(directory)
    merge(paths, dest)
    # As it was when the last shard had gone and nothing more was done.
    model_store.write_manifest(str(directory), whole)
    model_store.begin_merge(str(directory))
    found = fetched(directory)
    assert (found["changed"], found["model_files"]["path"]) == (False, str(paths[0]))
    assert merge(paths, dest)["changed"] is False
    assert fetched(directory)["model_files"]["path"] == str(dest)
    assert manifest_of(directory)["files"][0]["sha256"] == hashlib.sha256(merged).hexdigest()


def test_a_merge_that_does_not_begin_leaves_the_store_as_it_was(store):
    directory, paths, dest, _merged = store
    dest.write_bytes(b"something else")
    assert merge(paths, dest)["failed"]
    assert not model_store.is_merging(str(directory))
    assert fetched(directory)["model_files"]["path"] == str(paths[0])


def test_shards_elsewhere_have_no_manifest(store):
    directory, paths, dest, merged = store
    (directory / model_store.MANIFEST).unlink()
    assert merge(paths, dest)["changed"]
    assert not (directory / model_store.MANIFEST).exists()


@pytest.mark.parametrize("check_mode", [False, True])
def test_shards_of_the_store_are_not_merged_out_of_it(store, tmp_path, check_mode):
    directory, paths, _dest, _merged = store
    (tmp_path / "elsewhere").mkdir()
    arguments = {"src": str(paths[0]), "dest": str(tmp_path / "elsewhere/m.gguf"), "consume": True}
    result = run_module.run("gguf_merge", arguments, check_mode)
    assert f"the shards are files of the model store, {directory}" in result["msg"]
    assert all(path.exists() for path in paths)
    assert run_module.run("gguf_merge", dict(arguments, consume=False))["changed"]
