# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a GGUF model is, told from its headers. Nothing here writes."""

from __future__ import annotations

import os
from typing import Dict, List

from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.header import Header, Tensor, read_header
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.plan import (
    NoShards,
    check_set,
    find_shards,
    is_shard_name,
)

# general.file_type: names as llama.cpp's tools show them. Source: gguf-py/gguf/constants.py, LlamaFileType.
FILE_TYPES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
    39: "NVFP4",
    40: "Q1_0",
    41: "Q2_0",
}
_GUESSED = 1024  # a flag in general.file_type

# Result name: key without its architecture.
_DIMENSIONS = {
    "layers": "block_count",
    "context_length": "context_length",
    "embedding_length": "embedding_length",
    "heads": "attention.head_count",
    "kv_heads": "attention.head_count_kv",
    "key_length": "attention.key_length",
    "value_length": "attention.value_length",
    "kv_lora_rank": "attention.kv_lora_rank",
    "key_length_mla": "attention.key_length_mla",
    "value_length_mla": "attention.value_length_mla",
    "rope_dimensions": "rope.dimension_count",
    "experts": "expert_count",
    "experts_used": "expert_used_count",
    "experts_shared": "expert_shared_count",
}


def summarise(src: str) -> Dict[str, object]:
    """What the model at `src` is: one GGUF file, the first shard of a set, or the directory of a set.

    The keys are those of the module gguf_info. Raises GGUFError where a file is damaged or a set is not complete.
    """
    if os.path.isdir(src) or is_shard_name(src):
        headers = check_set(find_shards(src))
    else:
        if not os.path.exists(src):
            raise NoShards(src, "does not exist")
        headers = [read_header(src)]
    first = headers[0]
    tensors = [tensor for header in headers for tensor in header.tensors]
    arch = first.value("general.architecture")
    found: Dict[str, object] = {
        "architecture": arch,
        "name": first.value("general.name"),
        "version": first.version,
        "parameters": sum(elements(tensor) for tensor in tensors),
        "quantization": quantization(first, tensors),
        "tensor_types": type_shares(tensors),
        "tensors": len(tensors),
        "tensor_bytes": sum(tensor.nbytes for tensor in tensors),
        "chat_template": bool(first.value("tokenizer.chat_template")),
        "vocabulary": first.pairs[b"tokenizer.ggml.tokens"].count if b"tokenizer.ggml.tokens" in first.pairs else None,
        "bytes": sum(header.file.st_size for header in headers),
        "shards": [
            {"path": header.path, "bytes": header.file.st_size, "tensors": len(header.tensors)} for header in headers
        ],
    }
    for name, key in _DIMENSIONS.items():
        found[name] = first.value("%s.%s" % (arch, key))
    # llama.cpp's defaults where the file does not say.
    if found["kv_heads"] is None:
        found["kv_heads"] = found["heads"]
    if isinstance(found["heads"], int) and found["heads"] and isinstance(found["embedding_length"], int):
        for name in ("key_length", "value_length"):
            if found[name] is None:
                found[name] = found["embedding_length"] // found["heads"]
    return found


def elements(tensor: Tensor) -> int:
    """The number of a tensor's elements."""
    count = 1
    for dim in tensor.dims:
        count *= dim
    return count


def quantization(header: Header, tensors: List[Tensor]) -> str:
    """The name of general.file_type; where it is missing or unknown, the tensor type with the most bytes."""
    kind = header.value("general.file_type")
    if isinstance(kind, int) and kind & ~_GUESSED in FILE_TYPES:
        return FILE_TYPES[kind & ~_GUESSED]
    shares = type_shares(tensors)
    return max(shares, key=lambda name: shares[name]) if shares else "none"


def type_shares(tensors: List[Tensor]) -> Dict[str, int]:
    """Bytes of tensor data by tensor type."""
    shares: Dict[str, int] = {}
    for tensor in tensors:
        shares[tensor.type_name] = shares.get(tensor.type_name, 0) + tensor.nbytes
    return shares
