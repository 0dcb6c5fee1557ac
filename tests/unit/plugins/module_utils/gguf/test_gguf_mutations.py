# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Damaged and hostile shard sets, made from a seed: none is accepted, none hangs, none costs memory."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import struct
from pathlib import Path

import gguf_files as files
import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf import merge as gguf_merge
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.header import GGUFError, read_header
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import Progress

SETS = 200
FUZZED = 400
CPU_SECONDS = 5  # for one set; a busy machine takes longer by the clock
SECONDS = 120
MEMORY = 128 * 1024 * 1024  # beyond what the test process has at its start


def stop():
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.alarm(0)


@pytest.fixture
def bounded():
    """Little memory, and an alarm: a bomb becomes a MemoryError, a hang a TimeoutError, and neither is a refusal."""
    size = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmSize:"))
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, limits[1]))

    def late(number, _frame):
        raise TimeoutError(signal.Signals(number).name)

    def start():
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        signal.alarm(SECONDS)

    handlers = {number: signal.signal(number, late) for number in (signal.SIGALRM, signal.SIGPROF)}
    yield start
    stop()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    resource.setrlimit(resource.RLIMIT_AS, limits)


def put(shard, at, fmt, value):
    struct.pack_into("<" + fmt, shard, at, value)


class Damage:
    """Ways to damage a set so that no merge of it can be right. Each gets a fresh model, its shards and a seed."""

    def __init__(self, rng):
        self.rng = rng
        self.model = files.model(rng.randrange(1000), shards=rng.randint(2, 5), per_shard=rng.randint(1, 4))
        self.marks = []
        self.shards = [bytearray(data) for data in self.model.shards(marks=self.marks)]
        self.index = rng.randrange(len(self.shards))
        self.shard = self.shards[self.index]
        # Offsets in that shard. build() notes: version, two counts, then four for each key and each tensor.
        self.at = self.marks[self.index]
        self.kvs = len(self.model.first_pairs()) if self.index == 0 else 3
        self.tensor_at = self.at[3 + 4 * self.kvs :]

    def truncate_at_a_structure(self):
        del self.shard[self.rng.choice(self.at) :]

    def truncate_inside_a_structure(self):
        at = self.rng.choice(self.at)
        del self.shard[at + self.rng.randint(0, max(0, min(7, len(self.shard) - at - 1))) :]

    def truncate_the_data(self):
        # Beyond the padding, which may be missing.
        del self.shard[len(self.shard) - 32 - self.rng.randint(0, 100) :]

    def empty(self):
        self.shard.clear()

    def swap(self):
        a, b = self.rng.sample(range(len(self.shards)), 2)
        self.shards[a], self.shards[b] = self.shards[b], self.shards[a]

    def same_twice(self):
        a, b = self.rng.sample(range(len(self.shards)), 2)
        self.shards[a] = self.shards[b]

    def drop(self):
        del self.shards[self.rng.randrange(len(self.shards))]

    def foreign(self):
        other = files.model(self.rng.randrange(1000, 2000), shards=len(self.shards) + 1)
        self.shards[self.index] = other.shards()[self.index]

    def foreign_of_the_same_count(self):
        other = files.model(self.rng.randrange(1000, 2000), shards=len(self.shards), per_shard=6)
        self.shards[self.index] = other.shards()[self.index]

    def full_model(self):
        self.shards[self.index] = files.build(self.model.pairs, self.model.groups[self.index])

    def tensor_count(self):
        (count,) = struct.unpack_from("<Q", self.shard, self.at[1])
        wrong = self.rng.choice([0, count + 1, count - 1, 2**63, 2**64 - 1, 131072, 131073, 10**9])
        put(self.shard, self.at[1], "Q", wrong if wrong not in (count, -1) else count + 2)

    def key_count(self):
        (count,) = struct.unpack_from("<Q", self.shard, self.at[2])
        put(self.shard, self.at[2], "Q", self.rng.choice([count + 1, count - 1, 2**63, 2**64 - 1, 65536, 65537]))

    def magic(self):
        self.shard[self.rng.randrange(4)] ^= 1 << self.rng.randrange(8)

    def version(self):
        put(self.shard, 4, "I", self.rng.choice([0, 1, 4, 0x03000000, 0x02000000, 2**32 - 1]))

    def huge_key_length(self):
        at = self.at[3 + 4 * self.rng.randrange(self.kvs)]
        put(self.shard, at, "Q", self.rng.choice([0, 2**16, 2**31, 2**40, 2**63, 2**64 - 1]))

    def huge_name_length(self):
        at = self.tensor_at[4 * self.rng.randrange(len(self.model.groups[self.index]))]
        put(self.shard, at, "Q", self.rng.choice([0, 64, 2**20, 2**31, 2**63, 2**64 - 1]))

    def huge_string(self):
        put(self.shards[0], self.marks[0][3 + 3], "Q", self.rng.choice([2**31, 2**40, 2**63, 2**64 - 1]))

    def huge_array(self):
        # tokenizer.ggml.tokens and .scores: element type at the value's start, count four bytes on.
        at = self.marks[0][3 + 4 * self.rng.choice([4, 5]) + 3] + 4
        put(self.shards[0], at, "Q", self.rng.choice([2**21 + 1, 2**31, 2**40, 2**61, 2**63, 2**64 - 1]))

    def value_type(self):
        at = self.at[3 + 4 * self.rng.randrange(self.kvs) + 2]
        put(self.shard, at, "I", self.rng.choice([13, 14, 255, 2**32 - 1]))

    def nested_array(self):
        put(self.shards[0], self.marks[0][3 + 4 * 4 + 3], "I", files.ARR)

    def nul_in_a_key(self):
        self.shard[self.at[3 + 4 * self.rng.randrange(self.kvs) + 1]] = 0

    def nul_in_a_name(self):
        self.shard[self.tensor_at[4 * self.rng.randrange(len(self.model.groups[self.index])) + 1] + 2] = 0

    def same_key_twice(self):
        pairs = [*self.model.first_pairs(), self.model.pairs[self.rng.randrange(len(self.model.pairs))]]
        self.shards[0] = files.build(pairs, self.model.groups[0])

    def same_tensor_twice(self):
        group = self.model.groups[0]
        self.model.groups[self.index] = [*self.model.groups[self.index][:-1], group[0], group[0]]
        self.shards[:] = self.model.shards()

    def same_tensor_in_two_shards(self):
        groups = self.model.groups
        a, b = self.rng.sample(range(len(groups)), 2)
        groups[a][0] = groups[a][0]._replace(name=groups[b][0].name)
        self.shards[:] = self.model.shards()

    def offset(self):
        group = self.model.groups[self.index]
        number = self.rng.randrange(len(group))
        at = self.tensor_at[4 * number + 3] + 8 * len(group[number].dims) + 4
        (offset,) = struct.unpack_from("<Q", self.shard, at)
        put(self.shard, at, "Q", self.rng.choice([offset + 32, offset + 1, abs(offset - 32) + 64, 2**63, 2**64 - 32]))

    def tensor_type(self):
        group = self.model.groups[self.index]
        number = self.rng.randrange(len(group))
        at = self.tensor_at[4 * number + 3] + 8 * len(group[number].dims)
        put(self.shard, at, "I", self.rng.choice([4, 5, 31, 36, 43, 255, 2**31]))

    def dimensions(self):
        at = self.tensor_at[4 * self.rng.randrange(len(self.model.groups[self.index])) + 2]
        put(self.shard, at, "I", self.rng.choice([5, 6, 255, 2**31, 2**32 - 1]))

    def dimension(self):
        at = self.tensor_at[4 * self.rng.randrange(len(self.model.groups[self.index])) + 3]
        put(self.shard, at, "Q", self.rng.choice([0, 2**40, 2**62, 2**63, 2**64 - 1]))

    def split_value(self):
        key, wrong = self.rng.choice([("split.no", 77), ("split.count", 77), ("split.tensors.count", 999)])
        at = self.shard.index(key.encode()) + len(key)
        put(self.shard, at + 4, "H", wrong)

    def split_type(self):
        key = self.rng.choice(["split.no", "split.count"])
        put(self.shard, self.shard.index(key.encode()) + len(key), "I", files.I16)

    def split_key_missing(self):
        key = b"split.no" if self.index else self.rng.choice([b"split.no", b"split.count", b"split.tensors.count"])
        at = self.shard.index(key)
        self.shard[at : at + 5] = b"spilt"

    def alignment(self):
        value = self.rng.choice([0, 3, 8, 16, 64, 2**31])
        pairs = [files.KV(b"general.alignment", files.U32, value), *self.model.first_pairs()]
        self.shards[0] = files.build(pairs, self.model.groups[0], alignment=value if value in (8, 16, 64) else 32)

    def longer(self):
        self.shard += self.rng.randbytes(self.rng.randint(32, 5000))

    def something_else(self):
        self.shard[:] = self.rng.choice(
            [b"version https://git-lfs.github.com/spec/v1\n", b"<html>", b"PK\3\4", bytes(99)]
        )


WAYS = [name for name in vars(Damage) if not name.startswith("_")]


def test_damaged_sets_are_refused(tmp_path, bounded):
    accepted = []
    for seed in range(SETS):
        damage = Damage(random.Random(seed))
        name = WAYS[seed % len(WAYS)]
        getattr(damage, name)()
        directory = tmp_path / f"{seed}-{name}"
        directory.mkdir()
        paths = files.write_set(directory, damage.shards)
        before = sorted(os.listdir(directory))
        bounded()
        try:
            gguf_merge.merge(str(paths[0]), str(directory / "out"), bool(seed % 2), False, Progress("test"))
            accepted.append(f"{seed} {name}")
            continue
        except GGUFError as error:
            assert error.path and error.reason and "\n" not in str(error), (seed, name)
            assert str(error).isprintable(), (seed, name, str(error))
        stop()
        assert sorted(os.listdir(directory)) == before, (seed, name)
        shutil.rmtree(directory)
    assert not accepted
    assert len(WAYS) < SETS / 5  # each way several times


def test_bytes_changed_at_random(tmp_path, bounded):
    """What is accepted all the same must give exactly what gguf-split would write."""
    kept = 0
    for seed in range(FUZZED):
        rng = random.Random(seed)
        model = files.model(seed % 7)
        shards = [bytearray(data) for data in model.shards()]
        for _ in range(rng.randint(1, 3)):
            shard = rng.choice(shards)
            shard[rng.randrange(len(shard) // 2 if rng.random() < 0.8 else len(shard))] = rng.randrange(256)
        directory = tmp_path / str(seed)
        directory.mkdir()
        paths = files.write_set(directory, shards)
        bounded()
        try:
            gguf_merge.merge(str(paths[0]), str(directory / "out"), False, False, Progress("test"))
        except GGUFError:
            continue
        finally:
            stop()
        kept += 1
        assert (directory / "out").read_bytes() == files.naive_merge(shards), seed
        shutil.rmtree(directory)
    assert kept > FUZZED / 20  # the comparison was made


def test_a_sparse_file_that_promises_much(tmp_path, bounded):
    """A file of 1 TiB that takes no disk: everything it promises would fit into it."""
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + files.string(b"a")
    for what in (
        struct.pack("<IQ", files.STR, 2**39),
        struct.pack("<IIQ", files.ARR, files.U8, 2**39),
        struct.pack("<IIQ", files.ARR, files.F64, 2**36),
        struct.pack("<IIQ", files.ARR, files.STR, 2**21),  # empty strings
        struct.pack("<IIQ", files.ARR, files.STR, 2**36),
    ):
        path = tmp_path / "sparse"
        path.write_bytes(head + what)
        with open(path, "r+b") as file:
            file.truncate(2**40)
        bounded()
        with pytest.raises(GGUFError):
            read_header(str(path))
        stop()


def test_many_tensors_of_a_byte(tmp_path, bounded):
    """Each with padding of its own."""
    bounded()
    tensors = [files.T(b"t%d" % n, (1,), 24, b"x") for n in range(5000)]
    model = files.Model([], [tensors])
    paths = files.write_set(tmp_path, model.shards())
    gguf_merge.merge(str(paths[0]), str(tmp_path / "out"), False, False, Progress("test"))
    assert Path(tmp_path / "out").read_bytes() == model.merged()
