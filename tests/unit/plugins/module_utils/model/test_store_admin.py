# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import fcntl
import json
import os
import sys
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import sha256_of
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import admin as store_admin
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import store as model_store

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "modules"))
import run_module  # noqa: E402


def add(store, name, revision, complete=True):
    directory = store / name / revision
    directory.mkdir(parents=True)
    (directory / "a.gguf").write_bytes(b"GGUF" + bytes(5000))
    (directory / "b.gguf").write_bytes(b"GGUF" + bytes(7000))
    if complete:
        files = [{"path": name, "sha256": sha256_of(str(directory / name))} for name in ("a.gguf", "b.gguf")]
        manifest = model_store.make_manifest(
            str(directory), {"name": name, "format": "gguf", "source": {"kind": "path"}}, files
        )
        model_store.write_manifest(str(directory), manifest)
    else:
        (directory / model_store.PARTIAL).mkdir()
    return str(directory)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "models"


def record(tmp_path, text):
    (tmp_path / "records").mkdir(exist_ok=True)
    (tmp_path / "records" / "llama_cpp.json").write_text(text)
    return str(tmp_path / "records")


def test_inventory_and_who_serves_it(store, tmp_path):
    old, new = add(store, "m", "1"), add(store, "m", "2")
    half = add(store, "half", "main", complete=False)
    add(store, "other", "main")
    records = record(tmp_path, json.dumps({"engine": "llama_cpp", "model": "my name", "model_path": f"{new}/a.gguf"}))
    found = store_admin.inventory(str(store), records)
    assert [(item["name"], item["revision"], item["complete"], item["served_by"]) for item in found] == [
        ("half", "main", False, []), ("m", "1", True, []), ("m", "2", True, ["llama_cpp"]), ("other", "main", True, []),
    ]  # fmt: skip
    assert [item["directory"] for item, _why in store_admin.superfluous(found)] == [half, old]
    assert [item["name"] for item, _why in store_admin.superfluous(found, unused=True)] == ["half", "m", "other"]


def test_a_record_without_path_or_unreadable_keeps_what_it_may_serve(store, tmp_path):
    add(store, "m", "1"), add(store, "m", "2"), add(store, "n", "1")
    found = store_admin.inventory(str(store), record(tmp_path, '{"engine": "vllm", "model": "m"}'))
    assert [item["served_by"] for item in found] == [["vllm"], ["vllm"], []]
    found = store_admin.inventory(str(store), record(tmp_path, "{"))
    assert store_admin.superfluous(found, unused=True) == []


def release(root, name, model_path):
    directory = root / name
    directory.mkdir(parents=True)
    (directory / ".dsdeploy-service.json").write_text(json.dumps({"record": {"model_path": model_path}}))


def test_what_the_release_before_served_stays_for_a_rollback(store, tmp_path):
    old, new = add(store, "m", "1"), add(store, "m", "2")
    other, idle = add(store, "other", "main"), add(store, "idle", "main")
    root = tmp_path / "vllm"
    release(root, "0.31.0", old)
    release(root, "0.32.0", new)
    (root / "current").symlink_to("0.32.0")
    (root / "previous").symlink_to("0.31.0")
    served = {"engine": "vllm", "model": "m", "model_path": new, "releases": str(root)}
    records = record(tmp_path, json.dumps(served))
    found = store_admin.inventory(str(store), records)
    assert {item["directory"]: item["needed_by"] for item in found} == {old: ["vllm"], new: [], other: [], idle: []}
    assert store_admin.superfluous(found) == []
    assert [item["directory"] for item, _why in store_admin.superfluous(found, unused=True)] == [idle, other]
    # Nothing to go back to any more: it is a revision like others.
    (root / "previous").unlink()
    (root / "previous").symlink_to("0.32.0")
    found = store_admin.inventory(str(store), records)
    assert [item["directory"] for item, _why in store_admin.superfluous(found)] == [old]


def test_a_model_that_a_rollback_needs_is_removed_with_a_word(store, tmp_path, run_prune):
    old, new = add(store, "old", "main"), add(store, "new", "main")
    release(tmp_path / "vllm", "0.31.0", old)
    release(tmp_path / "vllm", "0.32.0", new)
    (tmp_path / "vllm/current").symlink_to("0.32.0")
    (tmp_path / "vllm/previous").symlink_to("0.31.0")
    served = {"engine": "vllm", "model": "new", "model_path": new, "releases": str(tmp_path / "vllm")}
    records = record(tmp_path, json.dumps(served))
    found = run_prune(models_dir=str(store), records_dir=records, name="old")
    # A text, or newer ansible-core's own form of one.
    assert "model old: the release of vllm before the one that runs served it" in json.dumps(found["warnings"])
    assert found["changed"] and not os.path.exists(old)


@pytest.fixture
def run_prune():
    """Module model_prune in a process of its own, as Ansible runs it."""

    def run(**arguments):
        return json.loads(run_module.done("model_prune", arguments, False)["stdout"])

    return run


def test_a_running_download_stays(store):
    directory = add(store, "half", "main", complete=False)
    with open(directory + ".lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert store_admin.superfluous(store_admin.inventory(str(store), "/nowhere")) == []
    assert len(store_admin.superfluous(store_admin.inventory(str(store), "/nowhere"))) == 1


def test_verify_names_the_damaged_file_and_makes_it_invisible(store):
    directory = add(store, "m", "1")
    read = []
    assert store_admin.verify(directory, read.append) == []
    assert read[-1] == 5004 + 7004
    stat = os.stat(directory + "/b.gguf")
    with open(directory + "/b.gguf", "r+b") as handle:
        handle.seek(100)
        handle.write(b"!")
    os.utime(directory + "/b.gguf", ns=(stat.st_mtime_ns, stat.st_mtime_ns))  # as bit rot: nothing else tells
    problems = store_admin.verify(directory)
    assert len(problems) == 1 and problems[0].startswith(f"{directory}/b.gguf has sha256")
    store_admin.make_invisible(directory, problems)
    assert model_store.read_manifest(directory) is None
    assert model_store.noted_sha256(directory, "a.gguf") is not None
    assert model_store.noted_sha256(directory, "b.gguf") is None
    assert store_admin.verify(directory) == [f"{directory} has no manifest: the model is not complete"]


def test_remove_only_what_is_a_model(store, tmp_path):
    directory = add(store, "m", "1")
    store_admin.remove(directory)
    assert not (store / "m").exists()
    (tmp_path / "precious").mkdir()
    with pytest.raises(ValueError, match="holds no model of this store"):
        store_admin.remove(str(tmp_path / "precious"))


def test_what_the_user_put_beside_a_model_stays_and_is_named(store):
    directory = add(store, "m", "1")
    own = os.path.join(directory, "adapters")
    os.makedirs(own)
    for path in (f"{own}/lora.gguf", f"{directory}/notes.txt"):
        with open(path, "w") as handle:
            handle.write("precious")
    assert store_admin.remove(directory) == [f"{own}/lora.gguf", f"{directory}/notes.txt"]
    assert sorted(os.listdir(directory)) == ["adapters", "notes.txt"] and os.listdir(own) == ["lora.gguf"]
    with pytest.raises(ValueError, match="no model"):  # nothing of ours any more
        store_admin.remove(directory)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_model_behind_a_link_goes_with_the_link(store, tmp_path, damaged):
    directory = add(store, "m", "1")
    os.rename(directory, tmp_path / "disk")
    os.symlink(tmp_path / "disk", directory)
    if damaged:
        (tmp_path / "disk" / model_store.MANIFEST).write_text("{")
    assert store_admin.remove(directory) == []
    assert os.listdir(tmp_path / "disk") == [] and not os.path.lexists(store / "m")


def test_a_half_downloaded_model_goes_whole(store):
    directory = add(store, "m", "1", complete=False)
    for name in ("a.gguf", "b.gguf"):
        model_store.note_file(directory, name, None)
    assert store_admin.remove(directory) == [] and not os.path.lexists(store / "m")


def test_a_named_model_goes_in_all_its_revisions_and_a_user_s_directory_does_not(store):
    add(store, "m", "1"), add(store, "m", "2", complete=False)
    for name in ("a.gguf", "b.gguf"):
        model_store.note_file(str(store / "m/2"), name, None)
    (store / "m" / "1.lock").touch()
    (store / "m" / "3.lock").touch()
    (store / "mine/weights").mkdir(parents=True)
    assert store_admin.remove_all(str(store), "m", check_mode=True)[0] == [str(store / "m/1"), str(store / "m/2")]
    assert store_admin.remove_all(str(store), "m") == ([str(store / "m/1"), str(store / "m/2")], [])
    assert store_admin.remove_all(str(store), "m") == ([], [])
    with pytest.raises(ValueError, match="mine/weights: no model of this store"):
        store_admin.remove_all(str(store), "mine")
    assert os.listdir(store) == ["mine"]
