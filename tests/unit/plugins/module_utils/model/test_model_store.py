# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import os
import struct

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.disk import disk_plan, disk_problems
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import sha256_of
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import own_path
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import store as model_store

EMPTY_GGUF = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)


@pytest.fixture
def store(tmp_path):
    (tmp_path / "a.gguf").write_bytes(b"GGUF" + bytes(100))
    item = {"path": "a.gguf", "sha256": sha256_of(str(tmp_path / "a.gguf"))}
    manifest = model_store.make_manifest(
        str(tmp_path), {"name": "a", "format": "gguf", "source": {"kind": "path"}}, [item]
    )
    model_store.write_manifest(str(tmp_path), manifest)
    return tmp_path


def test_manifest_round_trip_needs_no_hash(store, monkeypatch):
    monkeypatch.setattr("hashlib.sha256", None)
    manifest = model_store.read_manifest(str(store))
    assert model_store.compare(str(store), manifest) == ([], [])


def test_truncated_missing_touched(store):
    manifest = model_store.read_manifest(str(store))
    os.utime(store / "a.gguf", (1, 1))
    assert [item["path"] for item in model_store.compare(str(store), manifest)[1]] == ["a.gguf"]
    (store / "a.gguf").write_bytes(b"GGUF")
    assert model_store.compare(str(store), manifest)[0] == ["%s has 4 bytes, expected 104" % (store / "a.gguf")]
    (store / "a.gguf").unlink()
    assert "is missing (expected 104 bytes)" in model_store.compare(str(store), manifest)[0][0]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2, "files": [1]}', '{"version": 1, "files": []}'])
def test_broken_manifest_is_no_manifest(tmp_path, text):
    (tmp_path / model_store.MANIFEST).write_text(text)
    assert model_store.read_manifest(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.gguf", b"", "an empty file"),
        ("m.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer"),
        ("m.gguf", b"\n <!DOCTYPE html><html>", "an HTML page"),
        ("m.gguf", b"PK\x03\x04", "not a GGUF file"),
    ],
)
def test_impostors_are_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Failure, match=words):
        own_path.inspect_path({"name": "m"}, str(tmp_path / name))


def test_own_path_first_shard_misses_the_others(tmp_path):
    (tmp_path / "m-00001-of-00002.gguf").write_bytes(EMPTY_GGUF)
    with pytest.raises(Failure, match="m-00002-of-00002.gguf is missing"):
        own_path.inspect_path({"name": "m"}, str(tmp_path / "m-00001-of-00002.gguf"))
    (tmp_path / "m-00002-of-00002.gguf").write_bytes(EMPTY_GGUF)
    record = own_path.inspect_path({"name": "m"}, str(tmp_path / "m-00001-of-00002.gguf"))
    assert record["bytes"] == 48
    assert record["path"].endswith("m-00001-of-00002.gguf")


def test_a_directory_of_two_quantisations_is_not_guessed(tmp_path):
    for name in ("m-BF16.gguf", "m-Q4-00001-of-00002.gguf", "m-Q4-00002-of-00002.gguf"):
        (tmp_path / name).write_bytes(EMPTY_GGUF)
    with pytest.raises(Failure, match="holds 2 models: m-BF16.gguf, m-Q4-00001-of-00002.gguf") as error:
        own_path.inspect_path({"name": "m"}, str(tmp_path))
    assert str(tmp_path / "m-BF16.gguf") in error.value.hint
    record = own_path.inspect_path({"name": "m"}, str(tmp_path / "m-Q4-00001-of-00002.gguf"))
    assert len(record["files"]) == 2
    (tmp_path / "m-BF16.gguf").unlink()
    record = own_path.inspect_path({"name": "m"}, str(tmp_path))
    assert record["path"] == str(tmp_path / "m-Q4-00001-of-00002.gguf")


def test_what_sees_pictures_is_not_served_in_the_model_s_place(tmp_path):
    for name in ("mmproj-qwen-f16.gguf", "qwen-q4.gguf"):
        (tmp_path / name).write_bytes(EMPTY_GGUF)
    assert own_path.inspect_path({"name": "m"}, str(tmp_path))["path"] == str(tmp_path / "qwen-q4.gguf")
    files = [{"path": "q4/mmproj-a.gguf", "bytes": 1}, {"path": "q4/z.gguf", "bytes": 1}]
    assert model_store.record_of("m", "/s", "gguf", files)["path"] == "/s/q4/z.gguf"


def test_own_truncated_gguf_is_told_from_its_header(tmp_path):
    # one F32 tensor of 1,000 numbers, whose data is cut
    tensor = struct.pack("<Q", 1) + b"t" + struct.pack("<IQIQ", 1, 1000, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + tensor
    path = tmp_path / "m.gguf"
    path.write_bytes(head + bytes(-len(head) % 32) + bytes(4000))
    assert own_path.inspect_path({"name": "m"}, str(path))["bytes"] == path.stat().st_size
    path.write_bytes(head + bytes(-len(head) % 32) + bytes(3000))
    with pytest.raises(Failure, match="m.gguf: .*bytes"):
        own_path.inspect_path({"name": "m"}, str(path))


def test_own_directory_of_safetensors(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")
    record = own_path.inspect_path({"name": "m"}, str(tmp_path))
    assert (record["format"], record["path"], len(record["files"])) == ("safetensors", str(tmp_path), 2)


def test_disk_plan_adds_up_by_mount_point(tmp_path):
    plan = disk_plan([(str(tmp_path / "x/y"), 10, "a"), (str(tmp_path), 2**60, "b")])
    assert len(plan) == 1
    assert plan[0]["need"] == 10 + 2**60
    (line,) = disk_problems(plan)
    assert line.startswith(f"not enough disk space on {plan[0]['mount']}: ")
    assert "(a 0.0 MiB, b 1073741824.0 GiB)" in line
