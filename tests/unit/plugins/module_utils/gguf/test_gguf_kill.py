# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Merges killed at random times, and what a power cut may leave: the next run always ends with the right file.

DSDEPLOY_KILLS sets how many kills each mode gets (default 3; 100 takes some minutes).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import gguf_files as files
import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf import merge as gguf_merge
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.journal import journal_path, part_path, read_entry
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import Progress

KILLS = int(os.environ.get("DSDEPLOY_KILLS", "3"))
SHARD = 24 * 1024 * 1024
MODEL = files.model(50, shards=4, big=SHARD)

# Small steps, so that a merge of 100 MB has as many moments to be killed in as one of 400 GB.
CHILD = """
import sys
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf import merge as gguf_merge, range_copy
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import Progress
range_copy.CHUNK, range_copy.FLUSH, range_copy.MAX_UNFLUSHED = 256 * 1024, 2 * 1024 * 1024, 8 * 1024 * 1024
print("go", flush=True)
with gguf_merge.stop_on_signals():
    try:
        gguf_merge.merge(sys.argv[1], sys.argv[2], sys.argv[3] == "consume", False, Progress("test"))
    except gguf_merge.Stopped as stopped:
        sys.exit(str(stopped))
"""


def start(src, dest, mode):
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(src), str(dest), mode],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout.readline() == "go\n"
    return child


def power_cut(rng, dest, shards, gone):
    """Turn what a kill has left into something that a power cut could have left at the same moment.

    What is not known to be durable may be anything: the part beyond the last durable offset, the journal's last
    line, and the removal of shards.
    """
    entry = read_entry(str(dest))
    part, journal = Path(part_path(str(dest))), Path(journal_path(str(dest)))
    if entry is None or not part.exists():
        return
    if entry.durable < entry.total:
        with open(part, "r+b") as file:
            size = part.stat().st_size
            for _ in range(20):
                at = rng.randint(entry.durable, max(entry.durable, size - 1))
                file.seek(at)
                file.write(rng.randbytes(min(5000, max(0, size - at))))
            if rng.random() < 0.5:
                file.truncate(rng.randint(entry.durable, max(entry.durable, size)))
    if rng.random() < 0.5:
        with open(journal, "ab") as file:
            file.write(b'\n{"durab' if rng.random() < 0.5 else b'\n{"format": 1, "plan": {"dire')
    for path in gone:
        if rng.random() < 0.3:
            bring_back(path, *shards[path])


def bring_back(path, data, times):
    path.write_bytes(data)
    os.utime(path, ns=times)


def test_with_nohup_a_terminal_that_is_closed_stops_no_merge():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with gguf_merge.stop_on_signals():
            signal.raise_signal(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with pytest.raises(gguf_merge.Stopped), gguf_merge.stop_on_signals():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("mode", ["merge", "consume"])
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "power cut"])
def test_killed_at_random_times(tmp_path, mode, how):
    rng = random.Random(f"{mode} {how}")
    data, merged = MODEL.shards(), MODEL.merged()
    dest = tmp_path / "out.gguf"
    (tmp_path / "shards").mkdir()
    begun, kills, resumed, taken, seconds = 0, 0, 0, 0, None
    # A third of the kills for each way of dying.
    while kills < max(2, -(-KILLS // 3)):
        begun += 1
        paths = files.write_set(tmp_path / "shards", data)
        shards = {path: (path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)) for path in paths}
        dest.unlink(missing_ok=True)
        if seconds is None:
            seconds = time.monotonic()
            assert start(paths[0], dest, "merge").wait() == 0
            seconds = time.monotonic() - seconds
            dest.unlink()
        ended = False
        while not ended:
            child = start(paths[0], dest, mode)
            if rng.random() < 0.2:
                code = child.wait()
            else:
                time.sleep(rng.uniform(0, seconds))
                child.send_signal(signal.SIGTERM if how == "SIGTERM" else signal.SIGKILL)
                code = child.wait()
            message = child.stderr.read()
            kills += code != 0
            assert code in (0, -signal.SIGKILL, 1, -signal.SIGTERM), message
            assert code != 1 or message.startswith("stopped by SIGTERM"), message
            # The destination exists whole or not at all; a shard that is gone is durable in the part or published.
            assert not dest.exists() or dest.read_bytes() == merged
            entry = read_entry(str(dest))
            gone = [path for path in paths if not path.exists()]
            if gone and not dest.exists():
                part = Path(part_path(str(dest))).read_bytes()
                assert part[: entry.durable] == merged[: entry.durable]
                ends = {name: known["target"] + files.pad(known["data_bytes"]) for name, known in entry.shards}
                assert all(ends[path.name] <= entry.durable for path in gone)
                taken += 1
            resumed += entry is not None and entry.durable > entry.header_bytes
            if how == "power cut" and code:
                power_cut(rng, dest, shards, gone)
            ended = code == 0
        assert dest.read_bytes() == merged
        left = sorted(os.listdir(tmp_path)), sorted(os.listdir(tmp_path / "shards"))
        assert left == (["out.gguf", "shards"], [] if mode == "consume" else [path.name for path in paths])
    print(json.dumps(dict(mode=mode, how=how, kills=kills, merges=begun, resumable=resumed, shards_gone=taken)))


def test_a_second_run_waits_for_the_first(tmp_path):
    paths = files.write_set(tmp_path, MODEL.shards())
    dest = tmp_path / "out.gguf"
    children = [start(paths[0], dest, "consume") for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0], [child.stderr.read() for child in children]
    assert dest.read_bytes() == MODEL.merged() and os.listdir(tmp_path) == ["out.gguf"]


def interrupted(tmp_path, consume, after):
    """A merge that stops after `after` shards; the paths and the destination."""
    paths = files.write_set(tmp_path, files.model(51).shards())
    dest = tmp_path / "out.gguf"

    class Stop(Exception):
        pass

    real = gguf_merge._Merge._copy_shard

    def copy(self, fd, index, *more):
        if index == after:
            raise Stop
        real(self, fd, index, *more)
        more[1].flush()

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(gguf_merge._Merge, "_copy_shard", copy)
        gguf_merge.merge(str(paths[0]), str(dest), consume, False, Progress("test"))
    return paths, dest


def again(src, dest, consume=False, force=False):
    return gguf_merge.merge(str(src), str(dest), consume, force, Progress("test"))


def test_consume_set_only_on_the_second_run(tmp_path):
    paths, dest = interrupted(tmp_path, False, 2)
    result = again(paths[0], dest, consume=True)
    assert result.resumed_at and result.removed == 3 and dest.read_bytes() == files.model(51).merged()


def test_consume_dropped_on_the_second_run(tmp_path):
    paths, dest = interrupted(tmp_path, True, 1)
    assert [path.exists() for path in paths] == [False, True, True]
    assert again(paths[0], dest).resumed_at
    assert dest.read_bytes() == files.model(51).merged() and [path.exists() for path in paths] == [False, True, True]


def test_the_directory_as_src_after_shards_are_gone(tmp_path):
    (tmp_path / "set").mkdir()
    paths, dest = interrupted(tmp_path / "set", True, 1)
    final = dest.with_name("out.gguf")
    again(tmp_path / "set", final, consume=True)
    assert final.read_bytes() == files.model(51).merged() and os.listdir(tmp_path / "set") == ["out.gguf"]


@pytest.mark.parametrize("consume", [True, False])
@pytest.mark.parametrize("other", [False, True])
def test_a_shard_that_comes_back_after_the_file_is_published(tmp_path, monkeypatch, consume, other):
    """A power cut may undo the removal of a shard after the merged file has its name."""
    paths = files.write_set(tmp_path, files.model(51).shards())
    times = paths[1].stat().st_atime_ns, paths[1].stat().st_mtime_ns
    data, dest = paths[1].read_bytes(), tmp_path / "out.gguf"

    class Cut(Exception):
        pass

    def cut(*_arguments):
        raise Cut

    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(gguf_merge, "_tidy", cut)
        again(paths[0], dest, consume=True)
    assert dest.exists() and not any(path.exists() for path in paths)
    if other:  # of the same name, and not what was merged
        paths[1].write_bytes(data + b"more")
        with pytest.raises(gguf_merge.GGUFError, match="2 of 3 shards are missing"):
            again(paths[0], dest, consume=consume)
        assert paths[1].read_bytes() == data + b"more"
    else:
        bring_back(paths[1], data, times)
        result = again(paths[0], dest, consume=consume)
        assert result.changed and result.removed == 1 and os.listdir(tmp_path) == ["out.gguf"]
        assert not again(paths[0], dest, consume=consume).changed
    assert dest.read_bytes() == files.model(51).merged()


def test_a_shard_that_was_needed_is_lost(tmp_path):
    paths, dest = interrupted(tmp_path, True, 1)
    data = paths[2].read_bytes()
    paths[2].unlink()
    with pytest.raises(gguf_merge.GGUFError, match="1 of 3 shards are missing: m-00003-of-00003.gguf"):
        again(paths[0], dest, consume=True)
    paths[2].write_bytes(data)  # downloaded again: another inode, another time
    again(paths[0], dest, consume=True)
    assert dest.read_bytes() == files.model(51).merged()


def test_another_shard_in_place_of_one_that_was_needed(tmp_path):
    paths, dest = interrupted(tmp_path, True, 1)
    paths[2].write_bytes(files.model(52).shards()[2])
    with pytest.raises(gguf_merge.GGUFError, match="3-of-00003.gguf: is not the shard with which this merge began"):
        again(paths[0], dest, consume=True)


def test_a_shard_downloaded_again_after_it_was_copied(tmp_path):
    """Its bytes in the part are not trusted any more."""
    paths, dest = interrupted(tmp_path, False, 2)
    shard = bytearray(paths[1].read_bytes())
    shard[-64] ^= 1
    paths[1].write_bytes(shard)
    result = again(paths[0], dest)
    assert result.resumed_at and dest.read_bytes() == files.naive_merge([path.read_bytes() for path in paths])


def test_other_shards_do_not_throw_the_only_copy_away(tmp_path):
    paths, dest = interrupted(tmp_path, True, 1)
    (tmp_path / "b").mkdir()
    other = files.write_set(tmp_path / "b", files.model(53, shards=2).shards(), prefix="other")
    with pytest.raises(gguf_merge.Failure, match="merge-part may be the only copy of m-00001-of-00003.gguf"):
        again(other[0], dest, consume=True, force=True)
    again(paths[0], dest, consume=True)
    assert dest.read_bytes() == files.model(51).merged()


def test_other_shards_after_a_plain_merge_start_anew(tmp_path):
    paths, dest = interrupted(tmp_path, False, 1)
    (tmp_path / "b").mkdir()
    other = files.write_set(tmp_path / "b", files.model(53, shards=2).shards(), prefix="other")
    assert again(other[0], dest).resumed_at == 0
    assert dest.read_bytes() == files.model(53, shards=2).merged()


def test_the_part_is_lost(tmp_path):
    paths, dest = interrupted(tmp_path, True, 1)
    Path(part_path(str(dest))).unlink()
    with pytest.raises(gguf_merge.GGUFError, match="1 of 3 shards are missing: m-00001-of-00003.gguf"):
        again(paths[0], dest, consume=True)


class Killed(BaseException):
    """Stands for a kill at one place: nothing that a merge does on errors may run. Its cleaning up is switched off."""


@pytest.mark.parametrize("place", ["prepared", "linked", "tidied"])
@pytest.mark.parametrize("owner", [None, 65534])
def test_killed_around_the_publishing(tmp_path, monkeypatch, place, owner):
    """The file may have its later owner already, who is not the one that merges."""
    paths = files.write_set(tmp_path, files.model(54).shards())
    dest = tmp_path / "out.gguf"

    def give_away(part):
        if owner is not None and os.geteuid() == 0:
            os.chown(part, owner, -1)
        if place == "prepared":
            raise Killed

    def killed(*_args):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        if place == "linked":
            patch.setattr(gguf_merge, "_tidy", killed)
        if place == "tidied":
            patch.setattr(gguf_merge.Journal, "remove", killed)
        gguf_merge.merge(str(paths[0]), str(dest), True, False, Progress("test"), give_away)
    assert dest.exists() == (place != "prepared") and not any(path.exists() for path in paths)
    result = again(tmp_path, dest, consume=True) if place == "prepared" else again(paths[0], dest, consume=True)
    assert result.changed and dest.read_bytes() == files.model(54).merged() and os.listdir(tmp_path) == ["out.gguf"]
    assert not again(paths[0], dest, consume=True).changed


def test_killed_before_the_plan_was_written_and_merged_by_another_tool_then(tmp_path):
    paths = files.write_set(tmp_path, files.model(55).shards())
    dest = tmp_path / "out.gguf"
    Path(part_path(str(dest))).write_bytes(b"GGUF")
    Path(journal_path(str(dest))).write_bytes(b'{"format": 1, "pl')
    dest.write_bytes(files.model(55).merged())
    assert not again(paths[0], dest).changed
    assert sorted(os.listdir(tmp_path)) == sorted([path.name for path in paths] + ["out.gguf"])
