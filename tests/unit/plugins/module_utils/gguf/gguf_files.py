# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""GGUF files written by hand for the tests, and what merging them must give: none of it by the code under test.

The layout is that of ggml/src/gguf.cpp, the splitting and merging that of tools/gguf-split/gguf-split.cpp.
"""

from __future__ import annotations

import random
import struct
from typing import NamedTuple

U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
CODES = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}

# (elements per block, bytes per block) of a few tensor types: F32, F16, Q4_0, Q8_0, Q4_K, I8, BF16
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 8: (32, 34), 12: (256, 144), 24: (1, 1), 30: (1, 2)}


class KV(NamedTuple):
    key: bytes
    kind: int
    value: object  # bytes for STR; a list for ARR
    element: int | None = None


class T(NamedTuple):
    name: bytes
    dims: tuple[int, ...]
    kind: int
    data: bytes


def pad(size, alignment=32):
    return (size + alignment - 1) // alignment * alignment


def string(value):
    return struct.pack("<Q", len(value)) + value


def scalar(kind, value):
    return string(value) if kind == STR else struct.pack("<" + CODES[kind], value)


def pair_bytes(kv):
    out = string(kv.key) + struct.pack("<I", kv.kind)
    if kv.kind != ARR:
        return out + scalar(kv.kind, kv.value)
    out += struct.pack("<IQ", kv.element, len(kv.value))
    return out + b"".join(scalar(kv.element, one) for one in kv.value)


def header(pairs, tensors, version=3, alignment=32, marks=None):
    """A GGUF file up to its tensor data. `marks`, a list, receives the offset of every structure in it."""
    marks = [] if marks is None else marks
    out = bytearray(b"GGUF")
    for value in (struct.pack("<I", version), struct.pack("<Q", len(tensors)), struct.pack("<Q", len(pairs))):
        marks.append(len(out))
        out += value
    for kv in pairs:
        marks.extend((len(out), len(out) + 8, len(out) + 8 + len(kv.key), len(out) + 12 + len(kv.key)))
        out += pair_bytes(kv)
    offset = 0
    for tensor in tensors:
        marks.extend((len(out), len(out) + 8, len(out) + 8 + len(tensor.name), len(out) + 12 + len(tensor.name)))
        out += string(tensor.name) + struct.pack("<I", len(tensor.dims))
        out += struct.pack(f"<{len(tensor.dims)}Q", *tensor.dims) + struct.pack("<IQ", tensor.kind, offset)
        offset += pad(len(tensor.data), alignment)
    marks.append(len(out))
    return bytes(out) + bytes(pad(len(out), alignment) - len(out))


def build(pairs, tensors, version=3, alignment=32, marks=None):
    """A GGUF file; see header()."""
    marks = [] if marks is None else marks
    out = bytearray(header(pairs, tensors, version, alignment, marks))
    for tensor in tensors:
        marks.extend((len(out), len(out) + len(tensor.data) // 2))
        out += tensor.data + bytes(pad(len(tensor.data), alignment) - len(tensor.data))
    return bytes(out)


def c_string(kv):
    """What gguf-split makes of a value: strings end at their first NUL, booleans become 0 or 1."""
    if kv.kind == STR:
        return kv._replace(value=kv.value.split(b"\0")[0])
    if kv.kind == BOOL:
        return kv._replace(value=int(kv.value != 0))
    if kv.element == STR:
        return kv._replace(value=[one.split(b"\0")[0] for one in kv.value])
    if kv.element == BOOL:
        return kv._replace(value=[int(one != 0) for one in kv.value])
    return kv


class Model(NamedTuple):
    pairs: list
    groups: list  # the tensors of each shard

    def first_pairs(self, style="gguf-split"):
        no, tensors = KV(b"split.no", U16, 0), KV(b"split.tensors.count", I32, sum(map(len, self.groups)))
        count = KV(b"split.count", U16, len(self.groups))
        if style == "gguf-split":
            return [*self.pairs, no, tensors, count]
        return [no, count, tensors, *self.pairs]  # another order, as gguf-py may write it

    def shards(self, version=3, style="gguf-split", marks=None):
        """The bytes of each shard."""
        out = []
        for index, group in enumerate(self.groups):
            first = self.first_pairs(style)
            own = first if index == 0 else [kv for kv in first if kv.key.startswith(b"split.")]
            own = [kv._replace(value=index) if kv.key == b"split.no" else kv for kv in own]
            here = []
            out.append(build(own, group, version, marks=here))
            if marks is not None:
                marks.append(here)
        return out

    def merged(self, style="gguf-split"):
        """What llama-gguf-split --merge writes."""
        pairs = [c_string(kv) for kv in self.first_pairs(style) if kv.key != b"split.count"]
        return build_merged(pairs, self.groups)


def build_merged(pairs, groups):
    """The merged file: split.count last and 0, trailing dimensions of 1 dropped."""
    tensors = []
    for one in (one for group in groups for one in group):
        dims = list(one.dims)
        while len(dims) > 1 and dims[-1] == 1:
            dims.pop()
        tensors.append(one._replace(dims=tuple(dims) or (1,)))
    return build([*pairs, KV(b"split.count", U16, 0)], tensors)


def tensor(rng, name, kind=0, dims=None):
    block, size = BLOCKS[kind]
    dims = dims or (block * rng.randint(1, 4), rng.randint(1, 5))
    elements = 1
    for dim in dims:
        elements *= dim
    return T(name, tuple(dims), kind, rng.randbytes(elements // block * size))


def model(seed=0, shards=3, per_shard=3, big=0):
    """A small model. `big`: bytes of an additional tensor in each shard."""
    rng = random.Random(seed)
    pairs = [
        KV(b"general.architecture", STR, b"llama"),
        KV(b"general.name", STR, b"Test model"),
        KV(b"llama.block_count", U32, 2),
        KV(b"llama.rope.freq_base", F32, 10000.0),
        KV(b"tokenizer.ggml.tokens", ARR, [b"<s>", b"", "\u00e9".encode(), b"x" * 300], STR),
        KV(b"tokenizer.ggml.scores", ARR, [0.5, -1.0, 0.0, 2.0], F32),
        KV(b"tokenizer.ggml.add_bos_token", BOOL, 1),
        KV(b"tokenizer.chat_template", STR, b"{% for m in messages %}{{ m }}{% endfor %}"),
    ]
    groups = []
    for index in range(shards):
        group = [tensor(rng, b"blk.%d.%d.weight" % (index, n), rng.choice(list(BLOCKS))) for n in range(per_shard)]
        if big:
            block = rng.randbytes(min(big, 1 << 20))
            group.append(T(b"blk.%d.big" % index, (big,), 24, (block * (big // len(block) + 1))[:big]))
        groups.append(group)
    return Model(pairs, groups)


def write_set(directory, shards, prefix="m"):
    """Write the shards' bytes; return the paths."""
    paths = []
    for index, data in enumerate(shards):
        path = directory / f"{prefix}-{index + 1:05d}-of-{len(shards):05d}.gguf"
        path.write_bytes(data)
        paths.append(path)
    return paths


def naive_merge(shards):
    """Merge the bytes of shards that may be damaged, the way gguf-split does and without its checks or ours."""

    def read(data):
        at = 4

        def take(fmt):
            nonlocal at
            values = struct.unpack_from("<" + fmt, data, at)
            at += struct.calcsize("<" + fmt)
            return values[0]

        def text():
            nonlocal at
            size = take("Q")
            at += size
            if at > len(data):
                raise ValueError("cut off")
            return data[at - size : at]

        take("I")
        tensors, pairs = take("Q"), take("Q")
        kvs, infos = [], []
        for _ in range(pairs):
            key, kind = text(), take("I")
            element = take("I") if kind == ARR else None
            count = take("Q") if kind == ARR else 1
            item = kind if element is None else element
            values = [text() if item == STR else take(CODES[item]) for _ in range(count)]
            kvs.append(KV(key, kind, values if kind == ARR else values[0], element))
        for _ in range(tensors):
            name = text()
            dims = tuple(take("Q") for _ in range(take("I")))
            infos.append((name, dims, take("I"), take("Q")))
        start, groups = pad(at), []
        for name, dims, kind, offset in infos:
            elements = 1
            for dim in dims:
                elements *= dim
            block, size = BLOCKS[kind]
            nbytes = elements // block * size
            groups.append(T(name, dims, kind, data[start + offset : start + offset + nbytes]))
        return kvs, groups

    parts = [read(data) for data in shards]
    pairs = [c_string(kv) for kv in parts[0][0] if kv.key != b"split.count"]
    return build_merged(pairs, [tensors for _kvs, tensors in parts])
