# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read and validate the header of one GGUF file.

The rules are those of llama.cpp's reader (ggml/src/gguf.cpp: version 2 or 3, little-endian, unique keys and tensor
names, known tensor types, offsets without gaps), and further: the file must be exactly as long as its tensors need,
and every count and length is checked against a bound and the file's size before anything is read for it. Nothing
here writes.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from typing import Dict, List, NamedTuple, Optional, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

DEFAULT_ALIGNMENT = 32

# Bounds on what a header may ask for. DeepSeek-R1: 46 keys, 1,025 tensors, 129,280 tokens, a header of 5 MB.
MAX_HEADER_BYTES = 64 * 1024 * 1024
MAX_KEYS = 65536
MAX_TENSORS = 131072
MAX_ARRAY_STRINGS = 2 * 1024 * 1024
MAX_KEY_BYTES = 65535  # the GGUF specification's own bound
MAX_NAME_BYTES = 63  # GGML_MAX_NAME less its NUL
MAX_DIMS = 4
MAX_DECODED_ARRAY = 1024  # elements of an array value that value() will turn into a list
INT64_MAX = 2**63 - 1

UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, INT64, FLOAT64 = range(13)
_SCALARS = {
    UINT8: "B",
    INT8: "b",
    UINT16: "H",
    INT16: "h",
    UINT32: "I",
    INT32: "i",
    FLOAT32: "f",
    BOOL: "?",
    UINT64: "Q",
    INT64: "q",
    FLOAT64: "d",
}
_SCALAR_BYTES = {kind: struct.calcsize("<" + code) for kind, code in _SCALARS.items()}

# ggml type number: (name, elements per block, bytes per block). Source: ggml/src/ggml.c, gguf-py/gguf/constants.py.
TENSOR_TYPES: Dict[int, Tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
    42: ("Q2_0", 64, 18),
}

# Types that llama.cpp has taken out of its reader: files with them are of before November 2024 and newer readers refuse
# them. From 97 on the numbers are those of ik_llama.cpp (IQ4_KS is 144), as in many public files of DeepSeek.
REMOVED_TYPES = (4, 5, 31, 32, 33, 36, 37, 38)
FIRST_OF_IK_LLAMA = 97

_WHAT_IT_IS_INSTEAD = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: fetch it with a real download"),
    (b"<!DOCTYPE", "an HTML page, not a GGUF file: the download saved an error page"),
    (b"<html", "an HTML page, not a GGUF file: the download saved an error page"),
    (b"FUGG", "a big-endian GGUF file; only little-endian files are read here and by llama.cpp"),
)


class GGUFError(Failure):
    """A file that is not a valid GGUF file, or not a valid part of its set: ``path`` and one line of ``reason``."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__("%s: %s" % (path, reason))
        self.path = path
        self.reason = reason


class KeyValue(NamedTuple):
    """One metadata pair. ``element`` is set for arrays; ``start:value:end`` index the header's bytes."""

    key: bytes
    kind: int
    element: Optional[int]
    count: int
    start: int
    value: int
    end: int
    plain: bool  # False where the reference's merge writes other bytes than these: NULs in strings, booleans not 0 or 1


class Tensor(NamedTuple):
    """One tensor's description. ``dims`` has no trailing 1; ``offset`` counts from the start of the data section."""

    name: bytes
    dims: Tuple[int, ...]
    kind: int
    offset: int
    nbytes: int

    @property
    def type_name(self) -> str:
        return TENSOR_TYPES[self.kind][0]


class Header(NamedTuple):
    """A validated header. All sizes in bytes."""

    path: str
    version: int
    pairs: Dict[bytes, KeyValue]  # in file order
    tensors: List[Tensor]
    raw: bytes  # the file's first bytes, up to the end of the last tensor description
    data_start: int
    data_bytes: int  # up to the end of the last tensor, without its padding
    alignment: int
    file: os.stat_result
    digest: str  # SHA-256 of the header's bytes

    def value(self, key: str, default=None):
        """The value of `key`: int, float, bool, str or a list of at most MAX_DECODED_ARRAY of them."""
        pair = self.pairs.get(key.encode())
        if pair is None:
            return default
        if pair.element is None:
            return self._scalars(pair.kind, pair.value, 1)[0]
        if pair.count > MAX_DECODED_ARRAY:
            return default
        return self._scalars(pair.element, pair.value, pair.count)

    def _scalars(self, kind: int, at: int, count: int) -> list:
        if kind != STRING:
            return list(struct.unpack_from("<%d%s" % (count, _SCALARS[kind]), self.raw, at))
        found = []
        for _index in range(count):
            (length,) = struct.unpack_from("<Q", self.raw, at)
            found.append(self.raw[at + 8 : at + 8 + length].decode("utf-8", "backslashreplace"))
            at += 8 + length
        return found


def padded(size: int, alignment: int = DEFAULT_ALIGNMENT) -> int:
    """`size` rounded up to a multiple of `alignment`."""
    return -(-size // alignment) * alignment


def printable(name: bytes) -> str:
    """`name` from an untrusted file as short, printable text."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else "\\x%02x" % ord(char) for char in text[:80])


class _Cursor:
    """Walks a header. Reads the file only as far as it is asked to, and never beyond MAX_HEADER_BYTES."""

    STEP = 1024 * 1024

    def __init__(self, fd: int, path: str, size: int) -> None:
        self.fd = fd
        self.path = path
        self.size = size
        self.data = bytearray()
        self.at = 0

    def fail(self, reason: str) -> GGUFError:
        return GGUFError(self.path, reason)

    def need(self, count: int, what: str) -> None:
        """Have the next `count` bytes in `data`, or raise."""
        end = self.at + count
        if end <= len(self.data):
            return
        if end > self.size:
            raise self.fail(
                "is cut off inside its header (%s needs %d bytes at byte %d, the file has %d): download it again"
                % (what, count, self.at, self.size)
            )
        if end > MAX_HEADER_BYTES:
            raise self.fail("has a header of more than %d bytes (%s): not a real model" % (MAX_HEADER_BYTES, what))
        while len(self.data) < end:
            chunk = os.pread(self.fd, max(end - len(self.data), self.STEP), len(self.data))
            if not chunk:
                raise self.fail("became shorter while it was read: is it still being downloaded?")
            self.data += chunk

    def number(self, code: str, what: str) -> int:
        size = struct.calcsize("<" + code)
        self.need(size, what)
        (value,) = struct.unpack_from("<" + code, self.data, self.at)
        self.at += size
        return value

    def string(self, what: str, bound: int = MAX_HEADER_BYTES) -> bytes:
        length = self.number("Q", what)
        if length > bound:
            raise self.fail("gives %s a length of %d bytes, more than the %d allowed" % (what, length, bound))
        self.need(length, what)
        self.at += length
        return bytes(self.data[self.at - length : self.at])

    def skip_strings(self, count: int, what: str) -> bool:
        """Pass `count` strings; return whether none of them holds a NUL."""
        if count > MAX_ARRAY_STRINGS:
            raise self.fail("gives %s %d strings, more than the %d allowed" % (what, count, MAX_ARRAY_STRINGS))
        length_at = struct.Struct("<Q").unpack_from
        data, at, plain = self.data, self.at, True
        for _index in range(count):
            if at + 8 > len(data):
                self.at = at
                self.need(8, what)
            (length,) = length_at(data, at)
            at += 8
            if at + length > len(data):
                self.at = at
                self.need(length, what)
            if plain and data.find(0, at, at + length) >= 0:
                plain = False
            at += length
        self.at = at
        return plain


def read_header(path: str, complete: bool = True) -> Header:
    """Read and validate the header of the GGUF file `path`.

    With `complete` false the file's length is not held against it: it is still being written.
    Raises GGUFError with the reason where the file is not a complete, valid, little-endian GGUF file of version 2
    or 3; OSError where it cannot be read.
    """
    # O_NONBLOCK: opening a FIFO of that name must not hang.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise GGUFError(path, "is not a regular file")
        return _parse(_Cursor(fd, path, info.st_size), info, complete)
    finally:
        os.close(fd)


def _parse(cursor: _Cursor, info: os.stat_result, complete: bool) -> Header:
    version, tensor_count, key_count = _read_preamble(cursor)
    pairs: Dict[bytes, KeyValue] = {}
    for _index in range(key_count):
        pair = _read_pair(cursor)
        if pair.key in pairs:
            raise cursor.fail("has the key %s twice" % printable(pair.key))
        pairs[pair.key] = pair
    alignment = _alignment(cursor, pairs)

    tensors: List[Tensor] = []
    names = set()
    end = 0  # of the tensors so far, padded
    for _index in range(tensor_count):
        tensor = _read_tensor(cursor)
        name = printable(tensor.name)
        if tensor.name in names:
            raise cursor.fail("has the tensor %s twice" % name)
        names.add(tensor.name)
        if tensor.offset != end:
            raise cursor.fail(
                "puts tensor %s at offset %d, where %d is due: tensors overlap or leave a gap"
                % (name, tensor.offset, end)
            )
        end = padded(tensor.offset + tensor.nbytes, alignment)
        if end > INT64_MAX:
            raise cursor.fail("describes more tensor data than a file can hold (at tensor %s)" % name)
        tensors.append(tensor)

    data_start = padded(cursor.at, alignment) if tensors else cursor.at
    data_bytes = tensors[-1].offset + tensors[-1].nbytes if tensors else 0
    if complete:
        _check_length(cursor, data_start + data_bytes, alignment)
    raw = bytes(memoryview(cursor.data)[: cursor.at])
    digest = hashlib.sha256(raw).hexdigest()
    return Header(cursor.path, version, pairs, tensors, raw, data_start, data_bytes, alignment, info, digest)


def _check_length(cursor: _Cursor, end: int, alignment: int) -> None:
    """The file must reach the `end` of its last tensor, and not beyond that tensor's padding."""
    if end > cursor.size:
        raise cursor.fail(
            "is cut off: its tensors need %d bytes, the file has %d (%d missing): download it again"
            % (end, cursor.size, end - cursor.size)
        )
    surplus = cursor.size - padded(end, alignment)
    if surplus > 0:
        raise cursor.fail(
            "is %d bytes longer than its tensors: a download that was resumed wrongly? Download it again" % surplus
        )


def _read_preamble(cursor: _Cursor) -> Tuple[int, int, int]:
    """(version, number of tensors, number of keys)"""
    start = os.pread(cursor.fd, 64, 0)
    if start[:4] != b"GGUF":
        for prefix, what in _WHAT_IT_IS_INSTEAD:
            if start.startswith(prefix):
                raise cursor.fail("is " + what)
        if not start.strip(b"\0"):
            raise cursor.fail("is empty or starts with zeros: an unfinished download")
        raise cursor.fail("is not a GGUF file (it starts with %r instead of 'GGUF')" % printable(start[:4]))
    cursor.at = 4
    version = cursor.number("I", "the version")
    if version & 0xFFFF == 0 and version:
        # The same test as llama.cpp's: 3 written the other way round is 0x03000000.
        raise cursor.fail(
            "is a big-endian GGUF file; llama.cpp refuses it on this machine: convert it to little-endian first "
            "(gguf-py: gguf_convert_endian.py)"
        )
    if version not in (2, 3):
        raise cursor.fail("has GGUF version %d; only versions 2 and 3 are in use" % version)
    tensors = cursor.number("Q", "the number of tensors")
    keys = cursor.number("Q", "the number of keys")
    if tensors > MAX_TENSORS:
        raise cursor.fail("claims %d tensors, more than the %d allowed" % (tensors, MAX_TENSORS))
    if keys > MAX_KEYS:
        raise cursor.fail("claims %d keys, more than the %d allowed" % (keys, MAX_KEYS))
    return version, tensors, keys


def _read_pair(cursor: _Cursor) -> KeyValue:
    start = cursor.at
    key = cursor.string("a key", MAX_KEY_BYTES)
    if not key or 0 in key:
        raise cursor.fail("has a key that is empty or holds a NUL (%s)" % (printable(key) or "at byte %d" % start))
    what = "the value of " + printable(key)
    kind = cursor.number("I", what)
    element, count = None, 1
    if kind == ARRAY:
        element = cursor.number("I", what)
        count = cursor.number("Q", what)
    item = kind if element is None else element
    value = cursor.at
    plain = True
    if item == STRING:
        plain = cursor.skip_strings(count, what)
    elif item in _SCALARS:
        cursor.need(count * _SCALAR_BYTES[item], what)
        cursor.at += count * _SCALAR_BYTES[item]
        if item == BOOL:
            plain = max(cursor.data[value : cursor.at], default=0) <= 1
    else:
        raise cursor.fail("gives %s the unknown type %d" % (what, item))
    return KeyValue(key, kind, element, count, start, value, cursor.at, plain)


def _alignment(cursor: _Cursor, pairs: Dict[bytes, KeyValue]) -> int:
    pair = pairs.get(b"general.alignment")
    if pair is None:
        return DEFAULT_ALIGNMENT
    if pair.kind != UINT32:
        raise cursor.fail("has a general.alignment that is not an unsigned 32-bit number")
    (alignment,) = struct.unpack_from("<I", cursor.data, pair.value)
    if not alignment or alignment & (alignment - 1):
        raise cursor.fail("has general.alignment %d, which is not a power of 2" % alignment)
    return alignment


def _why_unknown(kind: int) -> str:
    if kind in REMOVED_TYPES:
        return "llama.cpp has given it up: take a newer file of the model"
    if FIRST_OF_IK_LLAMA <= kind < 1000:
        return "one of ik_llama.cpp's, which llama.cpp does not read: take another file of the model"
    return "unknown: too new for dsdeploy, or damaged"


def _read_tensor(cursor: _Cursor) -> Tensor:
    name = cursor.string("a tensor name", MAX_NAME_BYTES)
    if not name or 0 in name:
        raise cursor.fail("has a tensor whose name is empty or holds a NUL (%s)" % printable(name))
    what = "tensor " + printable(name)
    dim_count = cursor.number("I", what)
    if dim_count > MAX_DIMS:
        raise cursor.fail("gives %s %d dimensions, more than %d" % (what, dim_count, MAX_DIMS))
    dims = [cursor.number("Q", what) for _index in range(dim_count)]
    # A dimension of 0 is a tensor without data (llama.cpp takes it), and hides no overflow of the others.
    elements = 1
    for dim in dims:
        elements *= max(dim, 1)
        if elements >= INT64_MAX:
            raise cursor.fail("gives %s an impossible shape %r" % (what, dims))
    elements = 0 if 0 in dims else elements
    while dims and dims[-1] == 1:
        dims.pop()
    kind = cursor.number("I", what)
    offset = cursor.number("Q", what)
    if kind not in TENSOR_TYPES:
        raise cursor.fail("gives %s the type %d: %s" % (what, kind, _why_unknown(kind)))
    type_name, block, block_bytes = TENSOR_TYPES[kind]
    row = dims[0] if dims else 1
    if row % block:
        raise cursor.fail("gives %s of type %s rows of %d, no multiple of %d" % (what, type_name, row, block))
    return Tensor(name, tuple(dims) or (1,), kind, offset, elements // block * block_bytes)
