# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What quantisation and spread experts leave of the tensor-parallel sizes, and how long a scaled context is."""

import pytest
import shapes
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import own_context
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import config_facts, parallel

AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
# Qwen2.5 14B, whose feed-forward is 108 groups of 128 wide.
QWEN = {
    "model_type": "qwen2", "num_hidden_layers": 48, "hidden_size": 5120, "num_attention_heads": 40,
    "vocab_size": 152064, "num_key_value_heads": 8, "intermediate_size": 13824, "max_position_embeddings": 32768,
}  # fmt: skip
# MiniMax M2.5: experts of 1536, FP8 in blocks of 128.
MINIMAX = {
    "model_type": "minimax_m2", "num_hidden_layers": 62, "hidden_size": 3072, "num_attention_heads": 48,
    "head_dim": 128, "num_key_value_heads": 8, "intermediate_size": 1536, "num_local_experts": 256,
    "num_experts_per_tok": 8, "vocab_size": 200064, "max_position_embeddings": 196608,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}  # fmt: skip


@pytest.mark.parametrize(
    "how",
    [
        AWQ,
        {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False},
        {"quant_method": "auto-round", "bits": 4, "group_size": 128},
        {
            "quant_method": "compressed-tensors",
            "ignore": ["lm_head"],
            "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 128}}},
        },
    ],
)
def test_groups_of_weights_are_not_cut(how):
    """vLLM 0.32: "The input size is not aligned with the quantized weight shape. This can be caused by too large tensor
    parallel size." """
    shape = shapes.of_config(dict(QWEN, quantization_config=how))
    assert parallel.tensor_parallel_sizes(shape, 8) == [1, 2, 4]
    (line,) = parallel.tensor_parallel_problems(shape, 8)
    assert line == "a width of 13824 in 8 parts is cut within groups of 128 weights"
    assert parallel.tensor_parallel_sizes(shapes.of_config(QWEN), 8) == [1, 2, 4, 8]


@pytest.mark.parametrize(
    "how",
    [
        dict(AWQ, group_size=-1),
        dict(AWQ, modules_to_not_convert=["model.layers.0.mlp"]),
        {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True},
        {"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16},
        {"quant_method": "mxfp4"},
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"quant_method": "awq", "group_size": "128"},
        {"quant_method": ["awq"], "group_size": 128},
        {
            "quant_method": "compressed-tensors",
            "config_groups": {"a": {"weights": {"type": "float", "group_size": 128}}},
        },
        {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": None}, "b": 5}},
    ],
)
def test_where_it_is_not_said_of_all_weights_nothing_is_refused(how):
    assert parallel.tensor_parallel_sizes(shapes.of_config(dict(QWEN, quantization_config=how)), 8) == [1, 2, 4, 8]


def test_experts_that_are_spread_whole_are_not_cut():
    """The one way that MiniMax M2.5, Qwen3 235B and Qwen3-Coder 480B in FP8 are served on 8 GPUs."""
    shape = shapes.of_config(MINIMAX)
    assert parallel.tensor_parallel_problems(shape, 8) == [
        "a width of 1536 in 8 parts is cut within blocks of 128 weights"
    ]
    assert parallel.tensor_parallel_problems(shape, 8, 0) == []
    assert parallel.tensor_parallel_problems(shape, 8, 8) == []
    assert parallel.tensor_parallel_problems(shape, 8, 2) == []
    # What all tokens go through is cut all the same.
    shared = shape._replace(shared_experts=1)
    assert parallel.tensor_parallel_problems(shared, 8, 0) == [
        "a width of 1536 in 8 parts is cut within blocks of 128 weights"
    ]


@pytest.mark.parametrize(
    ("scaling", "longest"),
    [
        # As the model cards of Qwen2.5 and Qwen3 have users write it.
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}},
            (32768, 131072),
        ),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}}, (32768, 131072)),
        ({"rope_scaling": {"type": "yarn", "factor": 4}}, (32768, 131072)),
        (
            {"rope_parameters": {"rope_type": "yarn", "factor": 2, "original_max_position_embeddings": 32768}},
            (32768, 65536),
        ),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn", "factor": 2}}}, (32768, 65536)),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, (131072, None)),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, (65536, None)),
        # Counted already, or none.
        ({"rope_scaling": {"rope_type": "yarn", "factor": 8, "original_max_position_embeddings": 4096}}, (32768, None)),
        (
            {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}},
            (32768, None),
        ),
        ({"rope_scaling": {"rope_type": "longrope", "factor": 8.0}}, (32768, None)),
        ({"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}}, (32768, None)),
        ({"rope_scaling": {"type": "video_rope", "factor": None}}, (32768, None)),
        ({"rope_scaling": {"factor": "4", "type": "yarn"}}, (32768, None)),
        ({"rope_scaling": {"factor": 1e300, "type": "yarn"}}, (32768, None)),
        ({"rope_scaling": ["yarn"]}, (32768, None)),
        ({"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "model_type": "gemma3_text"}, (32768, None)),
        ({}, (32768, None)),
    ],
)
def test_a_scaled_context(scaling, longest):
    facts = config_facts.facts_of(dict(QWEN, **scaling))
    assert (facts["context"], facts.get("scaled_context")) == longest


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


@pytest.mark.parametrize(
    ("engine", "facts", "settings", "longest"),
    [
        ("vllm", {}, {}, 40960),
        ("vllm", {"scaled_context": 131072}, {}, 131072),
        ("vllm", {}, {"hf_overrides": {"rope_scaling": YARN}}, 131072),
        ("vllm", {}, {"hf_overrides": {"text_config": {"rope_parameters": YARN}}}, 131072),
        ("vllm", {}, {"hf_overrides": {"llm_config": {"rope_scaling": YARN}}}, 131072),
        ("sglang", {}, {"json_model_override_args": {"text_config": {"max_position_embeddings": 65536}}}, 65536),
        ("vllm", {}, {"hf_overrides": '{"max_position_embeddings": 65536}'}, 65536),
        ("vllm", {}, {"hf_overrides": "no JSON"}, 40960),
        ("vllm", {}, {"environment": {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}}, 0),
        ("vllm", {}, {"environment": {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": 0}}, 40960),
        # SGLang's limit is the file's length, YaRN or not.
        ("sglang", {"scaled_context": 131072}, {}, 40960),
        ("sglang", {}, {"environment": {"SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN": "1"}}, 0),
        ("sglang", {}, {"json_model_override_args": {"max_position_embeddings": 131072}}, 131072),
        ("sglang", {}, {"json_model_override_args": '{"max_position_embeddings": 131072}'}, 131072),
        # What belongs to a variable is refused among a user's own words.
        ("sglang", {}, {"extra_args": ["--json-model-override-args", '{"max_position_embeddings": 131072}']}, 40960),
        ("llama_cpp", {"scaled_context": 131072}, {}, 40960),
    ],
)
def test_the_context_that_an_engine_takes(engine, facts, settings, longest):
    entry = {"name": "qwen3", "architecture": {"name": "qwen3", "context": 40960, **facts}}
    found = own_context.entry_for(entry, engine, settings)["architecture"].get("context", 0)
    assert found == longest
    assert entry["architecture"]["context"] == 40960
