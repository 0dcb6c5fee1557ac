# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading one GGUF header."""

from __future__ import annotations

from pathlib import Path

import gguf_files as files
import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.header import (
    TENSOR_TYPES,
    GGUFError,
    padded,
    read_header,
)


def read(tmp_path, pairs=(), tensors=(), **how):
    path = tmp_path / "one.gguf"
    path.write_bytes(files.build(list(pairs), list(tensors), **how))
    return read_header(str(path))


def test_values(tmp_path):
    header = read(
        tmp_path,
        [
            files.KV(b"s", files.STR, "\u6b66".encode()),
            files.KV(b"u", files.U64, 2**64 - 1),
            files.KV(b"i", files.I8, -3),
            files.KV(b"b", files.BOOL, 1),
            files.KV(b"a", files.ARR, [b"x", b"y"], files.STR),
            files.KV(b"n", files.ARR, [1, 2, 3], files.I32),
            files.KV(b"long", files.ARR, [0] * 2000, files.U8),
        ],
    )
    assert [header.value(key) for key in ("s", "u", "i", "b", "a", "n", "long", "none")] == [
        "\u6b66", 2**64 - 1, -3, True, ["x", "y"], [1, 2, 3], None, None,
    ]  # fmt: skip
    assert header.value("none", 5) == 5 and header.pairs[b"long"].count == 2000


def test_tensors(tmp_path):
    rng = files.random.Random(1)
    tensors = [files.tensor(rng, b"a", 12, (512, 3)), files.tensor(rng, b"b", 0, (5, 1)), files.tensor(rng, b"c", 2)]
    header = read(tmp_path, [files.KV(b"general.alignment", files.U32, 64)], tensors, alignment=64)
    assert [(t.name, t.type_name, t.dims) for t in header.tensors[:2]] == [
        (b"a", "Q4_K", (512, 3)),
        (b"b", "F32", (5,)),
    ]
    assert [t.nbytes for t in header.tensors] == [len(t.data) for t in tensors]
    assert header.alignment == 64 and header.data_start % 64 == 0
    data = (tmp_path / "one.gguf").read_bytes()
    for found, made in zip(header.tensors, tensors, strict=True):
        start = header.data_start + found.offset
        assert data[start : start + found.nbytes] == made.data


def test_the_types_are_those_of_gguf_py():
    gguf = pytest.importorskip("gguf.constants", reason="PyPI's gguf is a development-only second opinion")
    theirs = {kind.value: (kind.name, *size) for kind, size in gguf.GGML_QUANT_SIZES.items()}
    # ggml's block_q8_1 has two half-precision numbers; gguf-py says two single ones. Files never hold it.
    theirs.pop(9)
    assert {kind: TENSOR_TYPES.get(kind) for kind in theirs} == theirs


LONG = files.T(b"n" * 64, (8,), 24, bytes(8))
SHORT = files.T(b"n" * 63, (8,), 24, bytes(8))


@pytest.mark.parametrize(
    "pairs, tensors, reason",
    [
        ([], [LONG], "gives a tensor name a length of 64 bytes, more than the 63 allowed"),
        ([], [SHORT, SHORT], "has the tensor n+ twice"),
        ([files.KV(b"k" * 65536, files.U8, 1)], [], "gives a key a length of 65536 bytes, more than the 65535 allowed"),
        ([files.KV(b"k", files.U8, 1)] * 2, [], "has the key k twice"),
        ([files.KV(b"general.alignment", files.U32, 24)], [], "general.alignment 24, which is not a power of 2"),
        ([files.KV(b"general.alignment", files.U16, 32)], [], "general.alignment that is not an unsigned 32-bit"),
        ([], [SHORT._replace(dims=(0, 2**40, 2**40))], "an impossible shape"),
        ([], [SHORT._replace(dims=(2**62, 2**2))], "an impossible shape"),
        ([], [SHORT._replace(kind=12, dims=(128,))], "of type Q4_K rows of 128, no multiple of 256"),
        # Public files of DeepSeek hold ik_llama.cpp's; old ones the types of llama.cpp before its b4090.
        ([], [SHORT._replace(kind=144)], r"the type 144: one of ik_llama\.cpp's"),
        ([], [SHORT._replace(kind=340)], r"the type 340: one of ik_llama\.cpp's"),
        ([], [SHORT._replace(kind=31)], r"the type 31: llama\.cpp has given it up"),
        ([], [SHORT._replace(kind=43)], "the type 43: unknown: too new for dsdeploy, or damaged"),
        ([], [SHORT._replace(kind=2**31 - 1)], "unknown: too new for dsdeploy, or damaged"),
        ([], [SHORT._replace(name=b"\x1b[31m\n\0")], r"holds a NUL \(\\x1b\[31m\\x0a\\x00\)"),
    ],
)
def test_refusals(tmp_path, pairs, tensors, reason):
    with pytest.raises(GGUFError, match=reason):
        read(tmp_path, pairs, tensors)


def test_a_tensor_without_elements_is_read_as_llama_cpp_does(tmp_path):
    header = read_header(str(Path(__file__).resolve().parents[3] / "fixtures/gguf/zero-element-tensor.gguf"))
    assert [(tensor.name, tensor.dims, tensor.nbytes) for tensor in header.tensors] == [
        (b"z", (4, 0), 0), (b"a", (3,), 12)
    ]  # fmt: skip
    # Siblings: in another place, of a type in blocks, the last one.
    for dims in ((8, 0), (0,), (0, 0, 0)):
        last = SHORT._replace(name=b"z", dims=dims, data=b"")
        header = read(tmp_path, [], [SHORT, last])
        assert [tensor.nbytes for tensor in header.tensors] == [8, 0]
    assert read(tmp_path, [], [SHORT._replace(dims=(0, 256), kind=12, data=b"")]).data_bytes == 0


def test_the_longest_names_are_read(tmp_path):
    header = read(tmp_path, [files.KV(b"k" * 65535, files.U8, 1)], [SHORT])
    assert len(next(iter(header.pairs))) == 65535 and header.tensors[0].name == SHORT.name


def test_padded():
    assert [padded(n) for n in (0, 1, 32, 33)] == [0, 32, 32, 64] and padded(5, 4) == 8
