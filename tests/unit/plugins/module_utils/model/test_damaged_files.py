# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that earlier runs have left, damaged in every way: healed, or one line; nothing is lost."""

import json
import os
import random

import mutations
import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.builds import prefix, venv_stamp
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import ollama_notes
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import sha256_of
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import firewall
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import admin
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import store as model_store
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import deployments
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.chunk_journal import CHUNK, HEADER, PartFile

NOISE = random.Random(7).randbytes(300)
DAMAGE = {
    "empty": b"", "list": b"[]", "number": b"5", "null": b"null", "text": b'"x"', "mapping": b"{}", "random": NOISE,
    "deep": b"[" * 100000, "nul": b"\0" * 4096, "half": None, "directory": None, "link": None, "broken-link": None,
}  # fmt: skip


def damage(path, how):
    """Damage the file; returns what must not be touched by it."""
    whole = path.read_bytes()
    path.unlink()
    precious = path.parent / "precious"
    precious.write_bytes(b"somebody else's")
    if how == "half":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "directory":
        path.mkdir()
    elif how in ("link", "broken-link"):
        path.symlink_to(precious if how == "link" else path.parent / "gone")
    else:
        path.write_bytes(DAMAGE[how])
    return precious


@pytest.fixture
def model(tmp_path):
    directory = tmp_path / "models" / "m" / "main"
    directory.mkdir(parents=True)
    (directory / "a.gguf").write_bytes(b"GGUF" + bytes(100))
    item = {"path": "a.gguf", "sha256": sha256_of(str(directory / "a.gguf"))}
    about = {"name": "m", "format": "gguf", "source": {"kind": "url"}}
    model_store.write_manifest(str(directory), model_store.make_manifest(str(directory), about, [item]))
    return directory


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_manifest_is_none_and_the_files_stay(how, model, tmp_path):
    assert model_store.manifest_problem(str(model)) is None
    precious = damage(model / model_store.MANIFEST, how)
    assert model_store.read_manifest(str(model)) is None
    problem = model_store.manifest_problem(str(model))
    assert problem.startswith(str(model / model_store.MANIFEST))
    mutations.assert_one_line(problem)
    found = admin.inventory(str(tmp_path / "models"), str(tmp_path))[0]
    assert (found["complete"], found["damaged"], found["problems"]) == (False, True, [problem])
    # Its files may be whole: pruning leaves them, and a run finds out.
    assert admin.superfluous([found], unused=True) == []
    assert admin.verify(str(model)) == [problem]
    assert (model / "a.gguf").stat().st_size == 104
    assert precious.read_bytes() == b"somebody else's"


@pytest.mark.parametrize(
    "change",
    [
        {"files": {}}, {"files": []}, {"files": [5]}, {"files": None}, {"version": True}, {"version": 2},
        {"name": None}, {"format": "onnx"}, {"source": "x"}, {"merged": {}}, {"merged": [{}]}, {"include": "x"},
        {"path": "../../etc/passwd"}, {"path": 5}, {"bytes": -1}, {"bytes": "104"}, {"bytes": True}, {"sha256": "x"},
        {"sha256": None}, {"mtime_ns": "x"}, {"mtime_ns": None},
    ],
    ids=json.dumps,
)  # fmt: skip
def test_a_manifest_of_another_shape_is_none(change, model):
    path = model / model_store.MANIFEST
    manifest = json.loads(path.read_text())
    key = next(iter(change))
    (
        manifest
        if key in ("files", "version", "name", "format", "source", "merged", "include")
        else manifest["files"][0]
    ).update(change)
    path.write_text(json.dumps(manifest))
    assert model_store.read_manifest(str(model)) is None
    mutations.assert_one_line(model_store.manifest_problem(str(model)))


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_note_says_nothing(how, model):
    model_store.note_file(str(model), "a.gguf", "a" * 64)
    assert model_store.noted_sha256(str(model), "a.gguf") == "a" * 64
    precious = damage(model / model_store.PARTIAL / "a.gguf.done", how)
    assert model_store.noted_sha256(str(model), "a.gguf") is None
    if how != "directory":
        model_store.note_file(str(model), "a.gguf", "b" * 64)
        assert model_store.noted_sha256(str(model), "a.gguf") == "b" * 64
    assert precious.read_bytes() == b"somebody else's"


@pytest.mark.parametrize("which", ["m", "m.journal"])
@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_part_is_fetched_again_and_no_link_is_followed(how, which, tmp_path):
    part = PartFile(str(tmp_path / "m"), 2 * CHUNK, "x", boot="a")
    part.write(memoryview(b"x" * CHUNK), 0)
    part.mark(0, CHUNK)
    part.close()
    precious = damage(tmp_path / which, how)
    if how == "directory":
        with pytest.raises(Failure, match="is no file") as caught:
            PartFile(str(tmp_path / "m"), 2 * CHUNK, "x", boot="a")
        assert caught.value.hint
    else:
        again = PartFile(str(tmp_path / "m"), 2 * CHUNK, "x", boot="a")
        assert again.missing() == [(0, 2 * CHUNK)]
        again.close()
        assert not os.path.islink(tmp_path / "m") and os.path.getsize(tmp_path / "m") == 2 * CHUNK
        assert os.path.getsize(tmp_path / "m.journal") == HEADER + 2
    assert precious.read_bytes() == b"somebody else's"


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_stamp_means_made_anew(how, tmp_path):
    (tmp_path / "bin").mkdir()
    for name in ("python", "program"):
        (tmp_path / "bin" / name).write_text("x")
        (tmp_path / "bin" / name).chmod(0o755)
    venv_stamp.write_stamp(str(tmp_path), {"python": "3.11", "requirements": ["a==1"], "sha256": "x"})
    build = {"identity": "i", "cmake_args": [], "programs": {"program": 1}}
    (tmp_path / prefix.STAMP).write_text(json.dumps(build))
    assert venv_stamp.read_stamp(str(tmp_path)) and prefix.read_stamp(str(tmp_path)) == build
    for name in (venv_stamp.STAMP, prefix.STAMP):
        damage(tmp_path / name, how)
    assert prefix.read_stamp(str(tmp_path)) is None
    stamp = venv_stamp.read_stamp(str(tmp_path))
    assert stamp is None or (how == "mapping" and stamp == {})


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_list_of_firewall_rules_is_one_line(how, tmp_path):
    path = tmp_path / "vllm.json"
    path.write_text(json.dumps([{"manager": "ufw", "network": "10.0.0.0/8", "port": 8000}]))
    assert len(firewall.read(str(path))) == 1
    damage(path, how)
    if how in ("list", "broken-link"):
        assert firewall.read(str(path)) == []
        return
    with pytest.raises(Failure, match="cannot be read") as caught:
        firewall.read(str(path))
    assert str(path) in str(caught.value) and caught.value.hint
    mutations.assert_one_line(caught.value)


@pytest.mark.parametrize(
    "rule", [5, {}, {"manager": "x"}, {"manager": "ufw", "network": "::x", "port": 1}, {"manager": "ufw", "port": "1"}]
)
def test_a_firewall_rule_that_is_none(rule, tmp_path):
    path = tmp_path / "vllm.json"
    path.write_text(json.dumps([rule]))
    with pytest.raises(Failure) as caught:
        firewall.read(str(path))
    mutations.assert_one_line(caught.value)


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_notes_of_ollamas_models_are_none(how, tmp_path):
    path = tmp_path / "notes.json"
    note = {"sha256": "a" * 64, "bytes": 1, "mtime_ns": 1, "inode": 1}
    path.write_text(json.dumps({"files": {"/data/m.gguf": note}, "models": {"x": {}}}))
    assert ollama_notes.Notes(str(path)).files == {"/data/m.gguf": note}
    damage(path, how)
    notes = ollama_notes.Notes(str(path))
    assert (notes.files, notes.models) == ({}, {})
    path2 = tmp_path / "odd.json"
    path2.write_text(json.dumps({"files": {str(path2): 5}, "models": {}}))
    assert ollama_notes.Notes(str(path2)).sha256(str(path2)) is None


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_record_may_be_of_any_model(how, model, tmp_path):
    records = tmp_path / "records"
    records.mkdir()
    record = {"engine": "vllm", "model": "other", "model_path": "/elsewhere"}
    (records / "vllm.json").write_text(json.dumps(record))
    assert admin.served_paths(str(records)) == [("vllm", "other", "/elsewhere")]
    damage(records / "vllm.json", how)
    assert admin.served_paths(str(records)) == [("vllm.json", "", "")]
    assert admin.inventory(str(tmp_path / "models"), str(records))[0]["served_by"] == ["vllm.json"]
    if how not in ("directory", "link", "broken-link"):
        with pytest.raises(ValueError) as caught:
            deployments.parse_record((records / "vllm.json").read_bytes().decode("utf-8", "replace"))
        mutations.assert_one_line(caught.value)
