# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A GGUF file, as far as Ollama tells of it."""

from __future__ import annotations

import struct
from typing import NamedTuple

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
# Name, elements and bytes of a block of a tensor's type.
_TYPES = {0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 8: ("Q8_0", 32, 34),
          12: ("Q4_K", 256, 144), 14: ("Q6_K", 256, 210), 30: ("BF16", 1, 2)}  # fmt: skip
_FILE_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 15: "Q4_K_M", 18: "Q6_K", 32: "BF16"}
NOT_GGUF = "supplied file was not in GGUF format"


class Tensor(NamedTuple):
    name: str
    kind: str
    shape: list
    elements: int
    bytes: int


class Array(list):
    """A value that /api/show leaves out unless it is asked to be verbose."""


class Gguf:
    def __init__(self, path):
        with open(path, "rb") as handle:
            self._handle = handle
            if handle.read(4) != b"GGUF":
                raise ValueError(NOT_GGUF)
            self._take("I")
            tensors, pairs = self._take("Q"), self._take("Q")
            self.pairs = {self._text(): self._value(self._take("I")) for _number in range(pairs)}
            self.tensors = [self._tensor() for _number in range(tensors)]
        self.architecture = self.pairs.get("general.architecture") or "unknown"
        self.parameters = sum(tensor.elements for tensor in self.tensors)
        self.tensor_bytes = sum(tensor.bytes for tensor in self.tensors)
        self.file_type = _FILE_TYPES.get(self.pairs.get("general.file_type"), "unknown")

    def of_architecture(self, name, default=0):
        return self.pairs.get(f"{self.architecture}.{name}", default)

    def kv_bytes(self, context, bytes_per_element=2):
        """Bytes of the KV cache of so many tokens."""
        heads = self.of_architecture("attention.head_count", 1) or 1
        width = self.of_architecture("embedding_length") // heads
        kv_heads = self.of_architecture("attention.head_count_kv", heads)
        return int(context * self.of_architecture("block_count") * kv_heads * 2 * width * bytes_per_element)

    def _take(self, form):
        return struct.unpack("<" + form, self._handle.read(struct.calcsize("<" + form)))[0]

    def _text(self):
        return self._handle.read(self._take("Q")).decode("utf-8", "replace")

    def _value(self, kind):
        if kind == 6:  # as the shortest text that gives the same float32
            return _float32(self._take("f"))
        if kind in _SCALARS:
            return self._take(_SCALARS[kind])
        if kind == 8:
            return self._text()
        inner, count = self._take("I"), self._take("Q")
        if inner in _SCALARS:
            size = struct.calcsize("<" + _SCALARS[inner])
            return Array(struct.unpack(f"<{count}{_SCALARS[inner]}", self._handle.read(count * size)))
        return Array(self._value(inner) for _item in range(count))

    def _tensor(self):
        name = self._text()
        shape = [self._take("Q") for _dimension in range(self._take("I"))]
        kind, elements = self._take("I"), 1
        self._take("Q")
        for length in shape:
            elements *= length
        named, block, size = _TYPES.get(kind, ("unknown", 1, 1))
        return Tensor(name, named, shape, elements, elements // block * size)


def _float32(value):
    for digits in range(1, 10):
        short = float(f"{value:.{digits}g}")
        if struct.pack("<f", short) == struct.pack("<f", value):
            return short
    return value
