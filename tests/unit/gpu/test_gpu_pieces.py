"""What feeds a GPU host without a network: wheels that are made again there, files in pieces, R1's shapes."""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import json
import os
import struct
import sys
import zipfile

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.header import read_header

HERE = os.path.join(os.path.dirname(__file__), os.pardir, os.pardir, "gpu")


def load(name):
    spec = importlib.util.spec_from_file_location("gpu_" + name, os.path.join(HERE, name + ".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


wheels, pieces, make_r1 = load("wheels"), load("pieces"), load("make_r1")
sys.modules["make_r1"] = make_r1
make_r1_gguf = load("make_r1_gguf")


@pytest.fixture
def wheel(tmp_path):
    """A wheel of a file that the host has, one that it has not, one that is stored, at two levels of zlib."""
    path = tmp_path / "a_b-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        archive.writestr("there.py", "x = 1\n" * 900)
        archive.writestr("new.py", "y = 2\n" * 800, compresslevel=9)
        archive.writestr("stored.bin", os.urandom(300), zipfile.ZIP_STORED)
    return path


def test_a_wheel_is_made_again_from_what_the_host_has(wheel, tmp_path):
    there = tmp_path / "there.py"
    there.write_text("x = 1\n" * 900)
    stream = io.BytesIO()
    known = {hashlib.sha256(there.read_bytes()).hexdigest(): str(there)}
    steps = wheels.steps(str(wheel), stream, known)
    assert [step[0] for step in steps] == ["n", "i", "n", "z", "n"]
    assert len(stream.getvalue()) == sum(step[1] for step in steps if step[0] != "i")
    raw = tmp_path / "raw"
    raw.write_bytes(stream.getvalue())
    told = {"name": wheel.name, "sha256": wheels.sha256(str(wheel)), "steps": steps}
    made = wheels.build(told, str(raw), 0, str(tmp_path / "index"))
    assert open(made, "rb").read() == wheel.read_bytes()
    wheels.index(str(tmp_path / "index"))
    assert wheel.name in (tmp_path / "index" / "a-b" / "index.html").read_text()


def test_a_wheel_that_came_out_otherwise_is_refused(wheel, tmp_path):
    stream = io.BytesIO()
    steps = wheels.steps(str(wheel), stream, {})
    raw = tmp_path / "raw"
    raw.write_bytes(stream.getvalue()[:-1] + b"!")
    with pytest.raises(ValueError, match="a_b-1"):
        wheels.build(
            {"name": wheel.name, "sha256": wheels.sha256(str(wheel)), "steps": steps}, str(raw), 0, str(tmp_path)
        )


def test_pieces_are_whole_again_and_no_larger_than_asked(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name, size in (("a.json", 10), ("big", 2500), ("none", 0)):
        (source / name).write_bytes(os.urandom(size))
    assert pieces.cut(str(tmp_path / "out"), [str(source)], 1000) == 3
    for number in sorted(os.listdir(tmp_path / "out")):
        piece = tmp_path / "out" / number
        assert sum(os.path.getsize(piece / part) for part in os.listdir(piece)) <= 1000
        pieces.join(str(piece), str(tmp_path / "back"))
    assert {name: (tmp_path / "back" / name).read_bytes() for name in os.listdir(source)} == {
        name: (source / name).read_bytes() for name in os.listdir(source)
    }


@pytest.mark.parametrize(
    ("kind", "mtp", "size"),
    # The weight files of DeepSeek V3 and R1, with the layer for MTP and the headers; the parameters in 16 bits.
    [("fp8", True, 688_586_727_753), ("bf16", False, 2 * 671_026_419_200)],
    ids=["fp8", "bf16"],
)
def test_r1_weighs_what_it_weighs(kind, mtp, size, monkeypatch, tmp_path):
    monkeypatch.setattr(make_r1.Shard, "write", lambda self: dict.fromkeys(self.header, self.path))
    monkeypatch.setattr(make_r1, "noise", lambda count, kind: b"")
    monkeypatch.setattr(make_r1, "ones", lambda count, kind: b"")
    options = argparse.Namespace(kind=kind, directory=str(tmp_path), layers=61, dense=3, experts=256, mtp=mtp)
    assert make_r1.make(options) == pytest.approx(size, abs=15e6)


def test_r1_in_q4_k_m_weighs_what_its_nine_files_weigh():
    options = argparse.Namespace(layers=61, dense=3, experts=256)
    size = sum(make_r1_gguf.size_of(kind, shape) for _name, kind, shape, _content in make_r1_gguf.tensors(options))
    assert size == pytest.approx(404_430_187_616, rel=1e-3)


def test_the_shards_of_a_gguf_are_read_as_one_model(monkeypatch, tmp_path):
    monkeypatch.setattr(make_r1_gguf, "rows_of_words", lambda: b"")
    path = str(tmp_path / "r1.gguf")
    monkeypatch.setattr("sys.argv", ["make", path, "--layers", "2", "--dense", "1", "--experts", "8", "--shards", "2"])
    make_r1_gguf.main()
    names = ["r1-00001-of-00002.gguf", "r1-00002-of-00002.gguf"]
    headers = [read_header(str(tmp_path / name)) for name in names]
    assert [header.value("split.no") for header in headers] == [0, 1]
    assert sum(len(header.tensors) for header in headers) == headers[1].value("split.tensors.count") == 34


def test_a_shard_has_holes_and_the_words_of_safetensors(tmp_path):
    shard = make_r1.Shard(str(tmp_path / "x.safetensors"))
    shard.add("hole", "F8_E4M3", (1 << 20, 16))
    shard.add("ones", "BF16", (4,), make_r1.ones(4, "BF16"))
    shard.write()
    status = os.stat(shard.path)
    assert status.st_blocks * 512 < 1 << 20 < status.st_size
    with open(shard.path, "rb") as handle:
        size = struct.unpack("<Q", handle.read(8))[0]
        header = json.loads(handle.read(size))
        handle.seek(8 + size + header["ones"]["data_offsets"][0])
        assert handle.read() == b"\x80\x3f" * 4
    assert header["hole"]["shape"] == [1 << 20, 16]
