# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ollama's store on the disk, as the stand-in writes it."""

import hashlib
import json
import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[3] / "standins")]
import run_module
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import ollama_store
from standin_ollama import models
from standin_ollama.store import Name, Store
from test_ollama_model import write_model


@pytest.fixture
def store(tmp_path):
    """Two models of one file, of which `mine` is noted as ours; and another one of somebody else."""
    found = Store(str(tmp_path / "store"))
    found.open(prune=True)
    for number, name in enumerate(("mine", "yours", "Other")):
        with open(write_model(tmp_path / f"{number}.gguf", b"y" if name == "Other" else b"x"), "rb") as handle:
            digest = found.receive([handle.read()])[0]
        request = {"files": {"a.gguf": digest}, "parameters": {"seed": number}}
        models.create(found, request, Name.parse(name), lambda _status: None)
    found.note = {"digest": found.read(Name.parse("mine")).digest, "weights": digest, "request": {}, "of": "deepseek"}
    found.notes = tmp_path / "notes.json"
    found.notes.write_text(json.dumps({"files": {}, "models": {"http://127.0.0.1:1 mine:latest": found.note}}))
    return found


def call(store, check=False, **more):
    arguments = {"directory": store.directory, "state_file": str(store.notes), **more}
    return run_module.run("ollama_store", arguments, check)


def names(store):
    return sorted(manifest.name.model for manifest in store.all())


def blobs(store):
    return {path.name: path.stat().st_size for path in Path(store.blobs).iterdir()}


def test_what_there_is(store):
    found = call(store)
    assert (found["changed"], found["removed"], found["msg"]) == (False, [], "")
    kept = {one["name"]: (one["ours"], one["bytes"] > 1 << 20) for one in found["kept"]}
    # The weights of two of them are the same file.
    assert kept == {"mine:latest": (True, False), "yours:latest": (False, False), "Other:latest": (False, True)}


@pytest.mark.parametrize("how", [{"remove_ours": True}, {"remove": ["deepseek"]}, {"remove": ["MINE"]}])
def test_ours_are_removed_and_nothing_else(store, how):
    Path(store.blobs, "sha256-123").write_bytes(b"x" * 1000)
    before = sum(blobs(store).values())
    assert call(store, check=True, **how)["removed"] == ["mine:latest"]
    assert names(store) == ["Other", "mine", "yours"]
    done = call(store, **how)
    assert (done["changed"], done["removed"]) == (True, ["mine:latest"])
    assert before - sum(blobs(store).values()) == done["freed_bytes"] > 0
    assert ("sha256-123" in blobs(store)) == ("remove" in how)
    assert names(store) == ["Other", "yours"]
    # What stays is whole.
    for manifest in store.all():
        assert all(Path(store.blob(layer["digest"])).exists() for layer in manifest.all_layers())
    if "remove_ours" in how:
        assert "keeps models that dsdeploy has not made: Other:latest (1.0 MiB), yours:latest (1.0 MiB)" in done["msg"]
    assert json.loads(store.notes.read_text())["models"] == {}
    assert call(store, **how)["changed"] is False


def test_one_that_was_made_anew_by_somebody_else_is_not_ours(store):
    store.notes.write_text(json.dumps({"models": {"u mine:latest": dict(store.note, digest="0" * 64)}}))
    assert call(store, remove_ours=True)["removed"] == []
    assert names(store) == ["Other", "mine", "yours"]


def test_a_file_that_is_written_is_no_leftover(store):
    left = Path(store.blobs, "sha256-1234567890")
    with open(left, "wb"):
        assert call(store)["leftovers"] == []
    assert call(store)["leftovers"] == [str(left)]


@pytest.mark.parametrize("broken", ["", "[]", "5", "null", "{", '{"layers": 5}', '{"layers": [5], "config": {}}'])
def test_a_broken_manifest_costs_nobody_its_blobs(store, broken):
    Path(store.path(Name.parse("yours"))).write_text(broken)
    before = blobs(store)
    assert call(store)["changed"] is False
    refused = call(store, remove_ours=True)
    assert "manifests/registry.ollama.ai/library/yours/latest is not a manifest" in refused["msg"]
    assert refused["failed"]
    assert blobs(store) == before


def test_the_disk_plan_names_what_is_there_and_counts_leftovers_as_free(store):
    Path(store.blobs, "sha256-123").write_bytes(b"x" * 1000)
    wanted = {"path": store.directory, "bytes": 5000, "for": "Ollama's own store", "ollama": True}
    plan = ollama_store.planned(wanted)
    assert plan["bytes"] == 4000
    assert plan["for"].startswith("Ollama's own store (which holds Other:latest 1.0 MiB, mine:latest ")
    assert ollama_store.planned(dict(wanted, ollama=False)) == dict(wanted, ollama=False)
    assert ollama_store.planned(dict(wanted, path="/nonexistent")) == dict(wanted, path="/nonexistent")


def test_no_store(store, tmp_path):
    nothing = call(store, directory=str(tmp_path / "nowhere"), remove_ours=True)
    assert (nothing["changed"], nothing["kept"], nothing["leftovers"]) == (False, [], [])


def test_the_last_model_leaves_no_directory(store):
    for name in ("yours", "Other"):
        store.remove(store.read(Name.parse(name)))
    call(store, remove_ours=True)
    assert (blobs(store), list(Path(store.manifests).iterdir())) == ({}, [])
    assert hashlib.sha256(b"").hexdigest() not in blobs(store)
