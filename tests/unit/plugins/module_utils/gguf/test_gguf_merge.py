# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Merging: the bytes, the refusals, what is left behind, running it again."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import gguf_files as files
import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf import merge as gguf_merge
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf import plan as gguf_plan
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf import range_copy
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.header import GGUFError, read_header
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.journal import journal_path, part_path
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import Progress
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

REFERENCE = os.environ.get("DSDEPLOY_GGUF_SPLIT") or shutil.which("llama-gguf-split")


def merge(src, dest, consume=False, force=False, **more):
    return gguf_merge.merge(str(src), str(dest), consume, force, Progress("test"), **more)


def listing(directory):
    return {path.name: path.read_bytes() for path in Path(directory).iterdir() if path.is_file()}


def odd_model():
    """Everything in which the reference's output differs from the bytes it reads."""
    rng = files.random.Random(7)
    model = files.model(7, shards=3)
    model.pairs.extend(
        [
            files.KV(b"nul.string", files.STR, b"a\0b"),
            files.KV(b"nul.array", files.ARR, [b"\0", b"x\0y", b"z"], files.STR),
            files.KV(b"odd.bool", files.BOOL, 2),
            files.KV(b"odd.bools", files.ARR, [0, 1, 7], files.BOOL),
            files.KV(b"empty.array", files.ARR, [], files.STR),
            files.KV(b"empty.string", files.STR, b""),
            *[files.KV(b"kind.%d" % kind, kind, 1) for kind in files.CODES],
        ]
    )
    model.groups[1].append(files.tensor(rng, b"trailing.ones", 0, (13, 1, 1)))
    model.groups[1].append(files.tensor(rng, b"odd.size", 24, (7,)))
    model.groups[2].append(files.tensor(rng, b"last.is.odd", 24, (5, 3, 1, 2)))
    return model


VALID = {
    "usual": (files.model(1), {}),
    "one shard": (files.model(2, shards=1), {}),
    "no tensor in the first shard": (files.model(3)._replace(groups=[[], *files.model(3).groups]), {}),
    "keys in another order": (files.model(4), {"style": "gguf-py"}),
    "version 2": (files.model(5), {"version": 2}),
    "odd sizes, NULs, booleans": (odd_model(), {}),
    "eleven shards": (files.model(6, shards=11, per_shard=1), {}),
    "no tensors at all": (files.model(8)._replace(groups=[[], []]), {}),
}


@pytest.mark.parametrize("name", VALID)
def test_output_is_what_gguf_split_writes(tmp_path, name):
    model, how = VALID[name]
    paths = files.write_set(tmp_path, model.shards(**how))
    result = merge(paths[0], tmp_path / "out.gguf")
    assert result.changed and result.size == (tmp_path / "out.gguf").stat().st_size
    assert (tmp_path / "out.gguf").read_bytes() == model.merged(how.get("style", "gguf-split"))
    assert sorted(listing(tmp_path)) == sorted([path.name for path in paths] + ["out.gguf"])


@pytest.mark.skipif(not REFERENCE, reason="no llama-gguf-split on PATH nor in DSDEPLOY_GGUF_SPLIT")
@pytest.mark.parametrize("name", VALID)
def test_the_oracle_itself_against_the_real_tool(tmp_path, name):
    model, how = VALID[name]
    paths = files.write_set(tmp_path, model.shards(**how))
    subprocess.run([REFERENCE, "--merge", paths[0], tmp_path / "real.gguf"], check=True, capture_output=True)
    assert (tmp_path / "real.gguf").read_bytes() == model.merged(how.get("style", "gguf-split"))


def test_padding_that_is_not_zero_becomes_zero(tmp_path):
    model = odd_model()
    shards = [bytearray(data) for data in model.shards()]
    assert shards[2].endswith(b"\0\0")
    shards[2][-2:] = b"xx"
    paths = files.write_set(tmp_path, shards)
    merge(paths[0], tmp_path / "out.gguf")
    assert (tmp_path / "out.gguf").read_bytes() == model.merged()


def test_the_last_padding_may_be_missing(tmp_path):
    model = odd_model()
    shards = model.shards()
    assert shards[2].endswith(b"\0\0")
    paths = files.write_set(tmp_path, [*shards[:2], shards[2][:-2]])
    merge(paths[0], tmp_path / "out.gguf")
    assert (tmp_path / "out.gguf").read_bytes() == model.merged()


@pytest.mark.parametrize("method", ["copy_file_range", "sendfile", "read/write"])
def test_every_way_of_copying(tmp_path, monkeypatch, method):
    monkeypatch.setattr(gguf_merge, "Copier", lambda: range_copy.Copier(method))
    model = files.model(9, big=300_000)
    paths = files.write_set(tmp_path, model.shards())
    assert merge(paths[0], tmp_path / "out.gguf").method == method
    assert (tmp_path / "out.gguf").read_bytes() == model.merged()


@pytest.mark.parametrize("broken, used", [("copy_file_range", "sendfile"), ("sendfile", "read/write")])
def test_the_next_way_where_the_kernel_refuses_one(tmp_path, monkeypatch, broken, used):
    def refuse(*_args):
        raise OSError(range_copy.errno.EXDEV, "no")

    monkeypatch.setattr(os, broken, refuse)
    monkeypatch.setattr(gguf_merge, "Copier", lambda: range_copy.Copier(broken))
    model = files.model(10, big=300_000)
    paths = files.write_set(tmp_path, model.shards())
    assert merge(paths[0], tmp_path / "out.gguf").method == used
    assert (tmp_path / "out.gguf").read_bytes() == model.merged()


OWN_KEYS = (b"split.", b"general.alignment")  # these mean something to a merge
KEYS = st.binary(min_size=1, max_size=20).filter(lambda key: 0 not in key and not key.startswith(OWN_KEYS))


@st.composite
def values(draw):
    kind = draw(st.sampled_from([*files.CODES, files.STR, files.ARR]))
    element = None
    if kind == files.ARR:
        element = draw(st.sampled_from([*files.CODES, files.STR]))

    def one(kind):
        if kind == files.STR:
            return draw(st.binary(max_size=40))
        if kind in (files.F32, files.F64):
            return draw(st.floats(width=32, allow_nan=False))
        width = files.struct.calcsize(files.CODES[kind]) * 8
        signed = files.CODES[kind].islower()
        return draw(st.integers(-(2 ** (width - 1)) if signed else 0, 2 ** (width - 1) - 1))

    if element is None:
        return kind, one(kind), None
    return kind, [one(element) for _ in range(draw(st.integers(0, 6)))], element


@st.composite
def models(draw):
    keys = draw(st.lists(KEYS, unique=True, max_size=12))
    pairs = [files.KV(key, *draw(values())) for key in keys]
    count = draw(st.integers(1, 5))
    names = draw(st.lists(st.binary(min_size=1, max_size=63).filter(lambda n: 0 not in n), unique=True, max_size=12))
    rng = files.random.Random(draw(st.integers(0, 999)))
    groups = [[] for _ in range(count)]
    for name in names:
        kind = draw(st.sampled_from(list(files.BLOCKS)))
        row = files.BLOCKS[kind][0] * draw(st.integers(1, 3))
        dims = (row, *draw(st.lists(st.integers(1, 3), max_size=3)))
        groups[draw(st.integers(0, count - 1))].append(files.tensor(rng, name, kind, dims))
    return files.Model(pairs, groups)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(model=models(), style=st.sampled_from(["gguf-split", "gguf-py"]), version=st.sampled_from([2, 3]))
def test_any_generated_model_round_trips(tmp_path_factory, model, style, version):
    directory = tmp_path_factory.mktemp("set")
    paths = files.write_set(directory, model.shards(version, style))
    merge(paths[0], directory / "out.gguf")
    assert (directory / "out.gguf").read_bytes() == model.merged(style)
    header = read_header(str(directory / "out.gguf"))
    for kv in map(files.c_string, model.pairs):
        if kv.kind in files.CODES and kv.kind != files.F32:
            assert header.value(kv.key.decode("latin-1")) == kv.value or not kv.key.isascii()
    shutil.rmtree(directory)


# --- the notes' broken inputs: what the reference lets through or dies of, refused here by name


def broken(change):
    """A set after `change(list of bytearrays, model)`."""
    model = files.model(11)
    shards = [bytearray(data) for data in model.shards()]
    return change(shards, model) or shards


def cut_data(shards, _model):
    del shards[1][-100:]


def header_only(shards, model):
    marks = []
    model.shards(marks=marks)
    del shards[2][files.pad(marks[2][-2 * len(model.groups[2]) - 1]) :]


def cut_header(shards, _model):
    del shards[1][60:]


def swapped(shards, _model):
    shards[1], shards[2] = shards[2], shards[1]


def wrong_total(_shards, model):
    """Every shard promises 999 tensors."""
    pairs = [kv._replace(value=999) if kv.key == b"split.tensors.count" else kv for kv in model.first_pairs()]
    split = [[kv._replace(value=i) if kv.key == b"split.no" else kv for kv in pairs] for i in range(3)]
    return [files.build(kvs, group) for kvs, group in zip(split, model.groups, strict=True)]


def same_twice(shards, _model):
    shards[2] = shards[1]


def foreign_full_model(shards, model):
    shards[1] = files.build(model.pairs, model.groups[1])


def foreign_shard(shards, model):
    shards[1] = files.Model([], [[], model.groups[0], []]).shards()[1]


def not_a_split(shards, model):
    shards[0] = files.build(model.pairs, model.groups[0])


def merged_already(shards, model):
    shards[0] = model.merged()


def big_endian(shards, _model):
    shards[1][4:8] = shards[1][4:8][::-1]


def version_1(shards, _model):
    shards[0][4] = 1


def lfs_pointer(shards, _model):
    shards[1] = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"


def error_page(shards, _model):
    shards[1] = b"<!DOCTYPE html><title>404</title>"


def zeros(shards, _model):
    shards[1][:] = bytes(len(shards[1]))


def longer(shards, _model):
    shards[1] += bytes(33)


def alignment_64(_shards, model):
    pairs = [*model.first_pairs(), files.KV(b"general.alignment", files.U32, 64)]
    return [files.build(pairs, model.groups[0], alignment=64), *model.shards()[1:]]


def count_differs(_shards, model):
    return files.Model(model.pairs, [*model.groups, []]).shards()[:3]


REFUSED = {
    cut_data: (2, "is cut off: its tensors need"),
    header_only: (3, "is cut off: its tensors need"),
    cut_header: (2, "is cut off inside its header"),
    swapped: (2, "says it is shard 3, its name says 2"),
    wrong_total: (1, "promises 999 tensors"),
    same_twice: (3, "says it is shard 2"),
    foreign_full_model: (2, "has no split.no"),
    foreign_shard: (2, "has split.tensors.count 3, the first shard 9: it belongs to another set"),
    not_a_split: (1, "it has no split.count"),
    merged_already: (1, "it is a merged file already"),
    big_endian: (2, "is a big-endian GGUF file"),
    version_1: (1, "has GGUF version 1"),
    lfs_pointer: (2, "is a Git LFS pointer"),
    error_page: (2, "is an HTML page"),
    zeros: (2, "starts with zeros"),
    longer: (2, "is 33 bytes longer"),
    alignment_64: (1, "has general.alignment 64"),
    count_differs: (1, "says it is one of 4 shards; its name says 3"),
}


@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
@pytest.mark.parametrize("consume", [False, True])
def test_broken_sets_are_refused_by_shard_and_reason(tmp_path, change, consume):
    number, reason = REFUSED[change]
    paths = files.write_set(tmp_path, broken(change))
    before = listing(tmp_path)
    with pytest.raises(GGUFError) as error:
        merge(paths[0], tmp_path / "out.gguf", consume)
    assert error.value.path == str(paths[number - 1]) and reason in error.value.reason
    assert "\n" not in str(error.value)
    assert listing(tmp_path) == before


def test_two_shards_with_the_same_tensor(tmp_path):
    model = files.model(13)
    model.groups[2][0] = model.groups[2][0]._replace(name=model.groups[0][0].name)
    paths = files.write_set(tmp_path, model.shards())
    with pytest.raises(GGUFError, match=r"3-of-00003.gguf: has the tensor blk.0.0.weight, which m-00001-of"):
        merge(paths[0], tmp_path / "out.gguf")


def test_missing_shards_are_named(tmp_path):
    paths = files.write_set(tmp_path, files.model(14, shards=7).shards())
    for path in paths[1:6]:
        path.unlink()
    with pytest.raises(GGUFError, match="5 of 7 shards are missing: m-00002-of-00007.gguf, .* and 2 more"):
        merge(paths[0], tmp_path / "out.gguf")


def test_what_src_may_name(tmp_path):
    shards = files.model(15).shards()
    (tmp_path / "a").mkdir()
    paths = files.write_set(tmp_path / "a", shards)
    assert merge(tmp_path / "a", tmp_path / "out.gguf").shard_count == 3
    with pytest.raises(GGUFError, match=r"is not the first shard: give .*a/m-00001-of-00003.gguf"):
        merge(paths[1], tmp_path / "other.gguf")
    with pytest.raises(GGUFError, match="is not named like a shard"):
        merge(tmp_path / "out.gguf", tmp_path / "other.gguf")
    with pytest.raises(GGUFError, match="does not exist"):
        merge(tmp_path / "nothing", tmp_path / "other.gguf")
    with pytest.raises(GGUFError, match="holds no GGUF shards"):
        merge(tmp_path, tmp_path / "other.gguf")
    files.write_set(tmp_path / "a", shards, prefix="second")
    with pytest.raises(GGUFError, match="holds 2 sets of shards; name one first shard: m-00001-of-00003.gguf, second"):
        merge(tmp_path / "a", tmp_path / "other.gguf")


def test_a_fifo_does_not_hang(tmp_path):
    paths = files.write_set(tmp_path, files.model(16).shards())
    paths[1].unlink()
    os.mkfifo(paths[1])
    with pytest.raises(GGUFError, match="is not a regular file"):
        merge(paths[0], tmp_path / "out.gguf")


# --- the destination


def test_run_again_changes_nothing_and_reads_little(tmp_path, monkeypatch):
    paths = files.write_set(tmp_path, files.model(17).shards())
    dest = tmp_path / "out.gguf"
    merge(paths[0], dest)
    before = os.stat(dest)
    again = merge(paths[0], dest)
    assert not again.changed and again.verified in ("record", "bytes")
    assert (before.st_mtime_ns, before.st_ino) == (os.stat(dest).st_mtime_ns, os.stat(dest).st_ino)


def test_a_merge_of_another_tool_is_recognised_byte_by_byte(tmp_path):
    model = files.model(18)
    paths = files.write_set(tmp_path, model.shards())
    dest = tmp_path / "out.gguf"
    dest.write_bytes(model.merged())
    assert merge(paths[0], dest)[:1] + (merge(paths[0], dest).changed,) == (False, False)
    assert dest.read_bytes() == model.merged()


@pytest.mark.parametrize("at", [20, -40])
def test_a_destination_that_differs_in_one_byte_is_not_taken_for_the_merge(tmp_path, at):
    """So is a file that gguf-split made of a truncated shard: right header, right size, wrong bytes."""
    model = files.model(19)
    paths = files.write_set(tmp_path, model.shards())
    dest = tmp_path / "out.gguf"
    data = bytearray(model.merged())
    data[at] ^= 1
    dest.write_bytes(data)
    with pytest.raises(Failure, match="exists and is not the merge of these shards") as error:
        merge(paths[0], dest)
    assert "force" in error.value.hint and dest.read_bytes() == data
    assert merge(paths[0], dest, force=True).changed
    assert dest.read_bytes() == model.merged()
    assert not merge(paths[0], dest, force=True).changed


def test_a_shard_downloaded_again_is_looked_at_again(tmp_path):
    model = files.model(20)
    paths = files.write_set(tmp_path, model.shards())
    dest = tmp_path / "out.gguf"
    merge(paths[0], dest)
    shard = bytearray(paths[1].read_bytes())
    shard[-64] ^= 1
    paths[1].write_bytes(shard)
    with pytest.raises(Failure, match="is not the merge of these shards"):
        merge(paths[0], dest)


def test_a_destination_written_to_since_is_compared(tmp_path):
    model = files.model(21)
    paths = files.write_set(tmp_path, model.shards())
    dest = tmp_path / "out.gguf"
    merge(paths[0], dest)
    with open(dest, "r+b") as file:
        file.seek(-64, os.SEEK_END)
        file.write(b"x")
    with pytest.raises(Failure, match="is not the merge of these shards"):
        merge(paths[0], dest)


def test_destinations_that_cannot_be(tmp_path):
    paths = files.write_set(tmp_path, files.model(22).shards())
    with pytest.raises(Failure, match="is not a directory"):
        merge(paths[0], tmp_path / "no" / "out.gguf")
    with pytest.raises(Failure, match="exists and is not a file"):
        merge(paths[0], tmp_path)
    with pytest.raises(Failure, match="is one of the shards"):
        merge(paths[0], paths[1], force=True)


def test_a_link_as_destination_is_followed(tmp_path):
    model = files.model(23)
    (tmp_path / "disk").mkdir()
    paths = files.write_set(tmp_path, model.shards())
    (tmp_path / "out.gguf").symlink_to(tmp_path / "disk" / "real.gguf")
    merge(paths[0], tmp_path / "out.gguf")
    assert (tmp_path / "out.gguf").is_symlink() and (tmp_path / "disk" / "real.gguf").read_bytes() == model.merged()


def test_a_destination_that_comes_into_being_meanwhile_is_kept(tmp_path):
    paths = files.write_set(tmp_path, files.model(24).shards())
    dest = tmp_path / "out.gguf"
    with pytest.raises(Failure, match="was created by another process during the merge"):
        merge(paths[0], dest, prepare=lambda part: dest.write_bytes(b"mine"))
    assert dest.read_bytes() == b"mine"


def test_prepare_sees_the_whole_file_before_it_has_its_name(tmp_path):
    model = files.model(25)
    paths = files.write_set(tmp_path, model.shards())
    dest = tmp_path / "out.gguf"
    seen = []

    def prepare(part):
        os.chmod(part, 0o640)
        seen.append((Path(part).read_bytes(), dest.exists()))

    merge(paths[0], dest, prepare=prepare)
    assert seen == [(model.merged(), False)] and dest.stat().st_mode & 0o777 == 0o640


def test_a_shard_that_changes_while_it_is_merged(tmp_path):
    """The last bytes arrive late: the file is whole for the survey, and still being written to."""
    paths = files.write_set(tmp_path, files.model(26, big=3_000_000).shards())
    dest = tmp_path / "out.gguf"

    class Meddling(range_copy.Copier):
        def copy(self, source, target, source_at, target_at, count):
            with open(paths[1], "r+b") as file:
                file.seek(-64, os.SEEK_END)
                file.write(b"late")
            return super().copy(source, target, source_at, target_at, count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf_merge, "Copier", Meddling)
        with pytest.raises(GGUFError, match="00002-of-00003.gguf: was changed while it was merged"):
            merge(paths[0], dest)
    assert not dest.exists()
    merge(paths[0], dest)
    assert dest.read_bytes() == files.naive_merge([path.read_bytes() for path in paths])


# --- consume


def test_consume_leaves_one_file(tmp_path):
    model = files.model(30)
    paths = files.write_set(tmp_path, model.shards())
    dest = tmp_path / "out.gguf"
    assert merge(paths[0], dest, consume=True).removed == 3
    assert listing(tmp_path) == {"out.gguf": model.merged()}
    for src in (paths[0], tmp_path):
        again = merge(src, dest, consume=True)
        assert not again.changed and again.verified in ("record", "structure")


def test_consume_recognises_its_result_by_structure_where_the_record_is_lost(tmp_path):
    model = files.model(31)
    paths = files.write_set(tmp_path, model.shards())
    dest = tmp_path / "out.gguf"
    merge(paths[0], dest, consume=True)
    dest.write_bytes(model.merged())
    again = merge(paths[0], dest, consume=True)
    assert not again.changed and again.verified == "structure"
    dest.write_bytes(model.merged()[:-32])
    with pytest.raises(GGUFError, match="3 of 3 shards are missing"):
        merge(paths[0], dest, consume=True)
    dest.write_bytes(files.build(model.pairs, model.groups[0]))
    with pytest.raises(GGUFError, match="3 of 3 shards are missing"):
        merge(paths[0], dest, consume=True)


def test_consume_after_a_plain_merge_removes_the_shards(tmp_path):
    model = files.model(32)
    paths = files.write_set(tmp_path, model.shards())
    dest = tmp_path / "out.gguf"
    merge(paths[0], dest)
    result = merge(paths[0], dest, consume=True)
    assert result.changed and result.removed == 3 and listing(tmp_path) == {"out.gguf": model.merged()}


def test_consume_refuses_links(tmp_path):
    paths = files.write_set(tmp_path, files.model(33).shards())
    os.link(paths[1], tmp_path / "other")
    with pytest.raises(Failure, match="00002-of-00003.gguf has another hard link"):
        merge(paths[0], tmp_path / "out.gguf", consume=True)
    (tmp_path / "other").unlink()
    paths[2].rename(tmp_path / "blob")
    paths[2].symlink_to(tmp_path / "blob")
    with pytest.raises(Failure, match="00003-of-00003.gguf is a symbolic link"):
        merge(paths[0], tmp_path / "out.gguf", consume=True)
    assert merge(paths[0], tmp_path / "out.gguf").changed


def test_a_shard_goes_only_after_its_bytes_and_the_journal_are_durable(tmp_path, monkeypatch):
    paths = files.write_set(tmp_path, files.model(34, big=200_000).shards())
    dest = tmp_path / "out.gguf"
    calls = []

    def name(fd):
        return os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))

    def watch(function, event):
        real = getattr(os, function)

        def watched(first, *rest):
            calls.append((event, name(first) if isinstance(first, int) else os.path.basename(first)))
            return real(first, *rest)

        monkeypatch.setattr(os, function, watched)

    for function, event in {"fdatasync": "sync", "fsync": "sync", "write": "write", "pwrite": "write"}.items():
        watch(function, event)
    watch("unlink", "unlink")

    class Watched(range_copy.Copier):
        def copy(self, source, target, *more):
            calls.append(("copy", name(source)))
            return super().copy(source, target, *more)

    monkeypatch.setattr(gguf_merge, "Copier", Watched)
    merge(paths[0], dest, consume=True)
    part, journal = ".out.gguf.merge-part", ".out.gguf.merge-journal"
    # Header before plan, plan before the first byte of data.
    plan = calls.index(("write", journal))
    assert calls.index(("write", part)) < calls.index(("sync", part)) < plan
    assert plan < calls.index(("sync", journal), plan) < calls.index(("copy", paths[0].name))
    for path in paths:
        last_copy = max(index for index, call in enumerate(calls) if call == ("copy", path.name))
        removed = calls.index(("unlink", path.name))
        synced = calls.index(("sync", part), last_copy)
        noted = calls.index(("write", journal), synced)
        assert last_copy < synced < noted < calls.index(("sync", journal), noted) < removed
    # The data and the name before the journal goes; the shards' directory, too.
    assert calls.index(("unlink", journal)) > max(i for i, call in enumerate(calls) if call == ("sync", part))


# --- space


def test_space_needed():
    plan = gguf_plan.Plan(
        b"h" * 10,
        tuple(gguf_plan.Shard(f"s{n}", 0, 0, 1, n, 100, "", 0, 96, 10 + 96 * n) for n in range(4)),
        (),
        10 + 96 * 4,
        4,
    )
    assert gguf_plan.space_needed(plan, 1, False, 0) == 394
    assert gguf_plan.space_needed(plan, 1, False, 394) == 0
    assert gguf_plan.space_needed(plan, 1, True, 0) == 106  # one shard and the header
    assert gguf_plan.space_needed(plan, 2, True, 0) == 394  # the shards are on another disk
    assert gguf_plan.space_needed(plan, 1, True, 106) == 0


def test_nothing_of_another_user_is_taken_up(tmp_path, monkeypatch):
    paths = files.write_set(tmp_path, files.model(40).shards())
    dest = tmp_path / "out.gguf"
    Path(journal_path(str(dest))).write_text("")
    Path(part_path(str(dest))).write_text("")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(PermissionError, match="is not a file of user"):
        merge(paths[0], dest)
