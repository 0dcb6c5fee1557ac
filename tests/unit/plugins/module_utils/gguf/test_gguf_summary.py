# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What gguf_info tells of a model."""

from __future__ import annotations

import gguf_files as files
import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.header import GGUFError
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.summary import summarise

R1 = [
    files.KV(b"general.architecture", files.STR, b"deepseek2"),
    files.KV(b"general.file_type", files.U32, 15),
    *[
        files.KV(b"deepseek2." + key, files.U32, value)
        for key, value in {
            b"block_count": 61, b"context_length": 163840, b"embedding_length": 7168, b"expert_count": 256,
            b"expert_used_count": 8, b"expert_shared_count": 1, b"attention.head_count": 128,
            b"attention.head_count_kv": 1, b"attention.kv_lora_rank": 512, b"rope.dimension_count": 64,
            b"attention.key_length": 576, b"attention.value_length": 512, b"attention.key_length_mla": 192,
            b"attention.value_length_mla": 128,
        }.items()
    ],
]  # fmt: skip


def test_a_mixture_of_experts_with_mla_in_shards(tmp_path):
    rng = files.random.Random(1)
    model = files.Model(R1, [[files.tensor(rng, b"a", 12, (512, 4))], [files.tensor(rng, b"b", 0, (8,))]])
    paths = files.write_set(tmp_path, model.shards())
    found = summarise(str(tmp_path))
    assert found == summarise(str(paths[0]))
    due = {
        "architecture": "deepseek2", "quantization": "Q4_K_M", "parameters": 2056, "tensors": 2, "layers": 61,
        "context_length": 163840, "experts": 256, "experts_used": 8, "experts_shared": 1, "heads": 128, "kv_heads": 1,
        "key_length": 576, "value_length": 512, "kv_lora_rank": 512, "key_length_mla": 192, "value_length_mla": 128,
        "rope_dimensions": 64, "chat_template": False, "tensor_types": {"Q4_K": 1152, "F32": 32}, "vocabulary": None,
        "bytes": sum(path.stat().st_size for path in paths), "name": None, "version": 3, "tensor_bytes": 1184,
    }  # fmt: skip
    assert {key: found[key] for key in due} == due
    assert [shard["tensors"] for shard in found["shards"]] == [1, 1]


def test_defaults_that_llama_cpp_applies(tmp_path):
    """Without file type, KV heads or head sizes of its own; heads that differ between layers."""
    pairs = [
        files.KV(b"general.architecture", files.STR, b"x"),
        files.KV(b"x.embedding_length", files.U32, 64),
        files.KV(b"x.attention.head_count", files.U32, 4),
        files.KV(b"general.alignment", files.U32, 64),
    ]
    path = tmp_path / "one.gguf"
    path.write_bytes(files.build(pairs, [files.tensor(files.random.Random(1), b"a", 8)], alignment=64))
    found = summarise(str(path))
    assert (found["quantization"], found["kv_heads"], found["key_length"], found["value_length"]) == ("Q8_0", 4, 16, 16)
    pairs[2] = files.KV(b"x.attention.head_count", files.ARR, [4, 8], files.U32)
    path.write_bytes(files.build(pairs, [], alignment=64))
    found = summarise(str(path))
    assert (found["heads"], found["kv_heads"], found["key_length"], found["quantization"]) == (
        [4, 8],
        [4, 8],
        None,
        "none",
    )


def test_a_guessed_file_type(tmp_path):
    path = tmp_path / "one.gguf"
    path.write_bytes(files.build([files.KV(b"general.file_type", files.U32, 1024 + 7)], []))
    assert summarise(str(path))["quantization"] == "Q8_0"


def test_an_incomplete_set(tmp_path):
    paths = files.write_set(tmp_path, files.model(1).shards())
    paths[2].unlink()
    with pytest.raises(GGUFError, match="1 of 3 shards are missing: m-00003-of-00003.gguf"):
        summarise(str(paths[0]))
