# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file of the size and with the header of SmolLM2-135M-Instruct.Q4_1.gguf, of zeros, made of what /api/show says."""

import json
import struct
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "plugins/module_utils/gguf"))
from gguf_files import ARR, BOOL, F32, KV, STR, U32, pair_bytes, string

SIZE = 98362432
TENSOR_BYTES = 96576768
TYPES = {"F32": (0, 1, 4), "Q4_1": (3, 32, 20), "Q8_0": (8, 32, 34)}  # number, elements and bytes of a block
TEMPLATE = b"{% for message in messages %}{{ '<|im_start|>' + message['role'] }}{% endfor %}"


def write(path, show):
    """`show`: the answer of /api/show. Nothing but the header takes space on the disk."""
    told = json.loads(show)
    pairs = [KV(b"general.name", STR, b"Smollm2 135M"), KV(b"tokenizer.chat_template", STR, TEMPLATE)]
    for name, value in told["model_info"].items():
        if name != "general.parameter_count" and value is not None:
            kind = {bool: BOOL, int: U32, float: F32, str: STR}[type(value)]
            kind = F32 if name.endswith("freq_base") else kind
            pairs.append(KV(name.encode(), kind, value.encode() if kind == STR else value))
    for name, value in told["model_info"].items():
        if value is None and name != "tokenizer.ggml.tokens":
            pairs.append(KV(name.encode(), ARR, [b"en"], STR))
    tensors, offset = b"", 0
    for tensor in told["tensors"]:
        number, block, size = TYPES[tensor["type"]]
        elements = 1
        for length in tensor["shape"]:
            elements *= length
        shape = struct.pack(f"<I{len(tensor['shape'])}Q", len(tensor["shape"]), *tensor["shape"])
        tensors += string(tensor["name"].encode()) + shape + struct.pack("<IQ", number, offset)
        offset += elements // block * size
    assert offset == TENSOR_BYTES
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(told["tensors"]), len(pairs) + 1) + b"".join(map(pair_bytes, pairs))
    # One long token instead of 49152 makes the header as long as the real one.
    empty = pair_bytes(KV(b"tokenizer.ggml.tokens", ARR, [b""], STR))
    rest = SIZE - TENSOR_BYTES - len(head) - len(empty) - len(tensors)
    head += pair_bytes(KV(b"tokenizer.ggml.tokens", ARR, [b"x" * rest], STR)) + tensors
    with open(path, "wb") as handle:
        handle.write(head)
        handle.truncate(SIZE)
