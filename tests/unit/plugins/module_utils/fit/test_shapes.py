# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a model keeps of its tokens, by kind of attention, from config.json and GGUF keys; or that it is not known."""

import json
from pathlib import Path

import pytest
import shapes
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import config_facts
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.catalog import check_entry

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures"


def given(name, **changed):
    return dict(json.loads((FIXTURES / "configs/given" / f"{name}.json").read_text()), **changed)


def grows(config, kv_bytes=2.0):
    """Bytes that each further token takes; the keys that are not understood where it is not known."""
    shape = shapes.of_config(config)
    found = model_shape.kv_bytes_per_token(shape, kv_bytes)
    if found["value"] is None:
        assert found["label"] == "not known"
        assert all(key.split(" ")[0] in found["how"] for key in shape.unknown)
        return shape.unknown
    assert (found["label"], shape.unknown) == ("exact", ())
    return found["value"]


@pytest.mark.parametrize(
    ("name", "right", "window"),
    [
        ("deepseek-v3.2", 78324, 0),
        ("gpt-oss-120b", 36864, 128),
        ("gemma-3-1b", 4096, 512),
        ("mimo-v2-flash", 23040, 128),
        ("nemotron-3-nano-30b", 6144, 0),
        ("nemotron-h-56b", 40960, 0),
        ("qwen3-next", 24576, 0),
        ("jamba", 16384, 0),
        ("lfm2-1.2b", 12288, 0),
        ("hunyuan-large", 81920, 0),
        ("falcon-7b", 8192, 0),
        ("falcon-40b", 122880, 0),
        ("mixtral-8x7b", 131072, 0),
        ("qwen3-235b-a22b", 2 * 94 * 4 * 128 * 2, 0),
    ],
)
def test_what_grows_of_public_models(name, right, window):
    assert grows(given(name)) == right
    assert model_shape.bounded(shapes.of_config(given(name)))["window"] == window


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("deepseek-v4-flash", {"compress_ratios", "index_head_dim"}),
        # Which layers slide is in the model's code: without its type nobody knows.
        ("gemma-2-9b", {"sliding_window"}),
        ("mistral-7b-v0.1", {"sliding_window"}),
    ],
)
def test_what_is_not_known_is_named(name, keys):
    assert keys <= set(grows(given(name)))


def test_with_their_types_it_is_known_which_layers_slide():
    assert grows(given("gemma-2-9b", model_type="gemma2")) == 172032
    assert grows(given("mistral-7b-v0.1", model_type="mistral")) == 0
    mistral = shapes.of_config(given("mistral-7b-v0.1", model_type="mistral"))
    assert [model_shape.kept(mistral, tokens)["value"] for tokens in (1000, 4096, 32768)] == [
        131072 * 1000, 131072 * 4096, 131072 * 4096
    ]  # fmt: skip
    assert model_shape.kept(mistral, 32768, windows=False)["value"] == 131072 * 32768
    # While a batch is computed its tokens are there too.
    assert model_shape.kept(mistral, 32768, more=2048)["value"] == 131072 * (4096 + 2048)


def test_sparse_attention_in_fp8_keeps_its_scales():
    """SGLang PR 11309 measured 65.49 GiB for 1,462,784 tokens of V3.2."""
    assert grows(given("deepseek-v3.2"), 1) == 48068
    assert 65.49 * 2**30 / 1462784 == pytest.approx(48068, rel=0.001)


@pytest.mark.parametrize(
    ("name", "experts", "used"),
    [("mixtral-8x7b", 8, 2), ("qwen3-235b-a22b", 128, 8), ("gpt-oss-120b", 128, 4), ("qwen3-next", 512, 0),
     ("nemotron-3-nano-30b", 128, 6), ("deepseek-v3.2", 256, 8), ("falcon-7b", 0, 0)],
)  # fmt: skip
def test_experts_by_all_their_names(name, experts, used):
    shape = shapes.of_config(given(name))
    assert (shape.experts, shape.experts_used) == (experts, used)


def test_experts_in_every_second_layer_and_beside_a_dense_one():
    """Llama 4 Maverick: 400 G parameters, 128 experts in every second layer and one that is always used."""
    config = {
        "model_type": "llama4_text", "hidden_size": 5120, "num_hidden_layers": 48, "num_attention_heads": 40,
        "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 8192, "intermediate_size_mlp": 16384,
        "num_local_experts": 128, "num_experts_per_tok": 1, "interleave_moe_layer_step": 2, "vocab_size": 202048,
        "max_position_embeddings": 1048576, "attention_chunk_size": 8192, "no_rope_layers": [1, 1, 1, 0] * 12,
    }  # fmt: skip
    shape = shapes.of_config(config)
    assert shape.moe_layers == tuple(range(1, 48, 2))
    assert model_shape.parameters(shape)["value"] == pytest.approx(400e9, rel=0.01)
    # 12 layers see everything, the others the chunk of 8192.
    assert grows(config) == 12 * 8 * 256 * 2
    assert model_shape.bounded(shape)["window"] == 8192
    assert grows(dict(config, no_rope_layers=None, no_rope_layer_interval=4)) == 12 * 8 * 256 * 2


# Siblings: (config, what grows)
BASE = {"hidden_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 2,
        "intermediate_size": 4096, "vocab_size": 1000, "max_position_embeddings": 32768}  # fmt: skip
LAYER = 2 * 2 * 128 * 2


@pytest.mark.parametrize(
    ("changed", "layers"),
    [
        ({}, 8),
        ({"sliding_window": 512, "use_sliding_window": False, "max_window_layers": 4}, 8),
        ({"sliding_window": 512, "use_sliding_window": True, "max_window_layers": 6}, 6),
        ({"sliding_window": 32768}, 8),  # longer than the context
        ({"sliding_window": None}, 8),
        ({"sliding_window": 512, "sliding_window_pattern": "LLLG"}, 2),
        ({"sliding_window": 512, "sliding_window_pattern": 4}, 2),
        ({"sliding_window": 512, "model_type": "cohere2"}, 2),
        ({"sliding_window": 512, "layer_types": ["sliding_attention"] * 7 + ["full_attention"]}, 1),
        ({"attention_chunk_size": 512, "layer_types": ["chunked_attention"] * 6 + ["full_attention"] * 2}, 2),
        ({"layer_types": ["linear_attention", "full_attention"] * 4}, 4),
        ({"layers_block_type": ["mamba"] * 6 + ["attention"] * 2}, 2),
        ({"block_types": ["recurrent", "recurrent", "attention"], "attention_window_size": 2048}, 0),
        ({"attn_layer_indices": [3, 7]}, 2),
        ({"attn_type_list": [0, 0, 0, 1] * 2}, 2),
        ({"full_attention_interval": 8}, 1),
        ({"num_kv_shared_layers": 3}, 5),
        ({"use_cla": True, "cla_share_factor": 4}, 2),
        ({"use_cla": False, "cla_share_factor": 4}, 8),
        ({"hybrid_override_pattern": "M*-EM*-E"}, 2),
        # Names of other families.
        ({"num_key_value_heads": None, "num_kv_heads": 2}, 8),
        ({"num_key_value_heads": None, "n_head_kv": 2}, 8),
        ({"num_key_value_heads": None, "multi_query_attention": True, "multi_query_group_num": 2}, 8),
        ({"num_key_value_heads": None, "attn_config": {"kv_n_heads": 2}}, 8),
        ({"num_key_value_heads": None, "attn_config": {"attn_type": "multiquery_attention"}}, 4),
        ({"num_key_value_heads": [2, 2, 2, 2, 2, 2, 2, 0]}, 7),
        ({"num_key_value_heads": None, "num_attention_groups": 2}, 8),
        ({"no_rope_layers": [1, 1, 1, 0] * 2}, 8),  # without a chunk every layer sees everything
        ({"use_mla": False, "kv_lora_rank": 512}, 8),
        # What stands around the language model's part is of another part: here of its ears.
        (
            {
                "head_dim": 999,
                "window_size": 15,
                "text_config": {
                    "num_hidden_layers": 4,
                    "hidden_size": 1024,
                    "num_attention_heads": 8,
                    "num_key_value_heads": 2,
                },
            },
            4,
        ),
    ],
)
def test_siblings(changed, layers):
    assert grows({**BASE, **changed}) == layers * LAYER


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"layer_types": ["full_attention"] * 7}, "layer_types"),
        ({"layer_types": ["quantum_attention"] * 8}, "layer_types (quantum_attention)"),
        ({"block_configs": [{"attention": {"no_op": True}}]}, "block_configs"),
        ({"yoco_layers": 4}, "yoco_layers"),
        ({"kv_compression_rate": 2}, "kv_compression_rate"),
        ({"nsa_block_size": 64}, "nsa_block_size"),
        ({"linear_attn_config": "x"}, "linear_attn_config"),
        ({"attn_type_list": [0, 2]}, "attn_type_list"),
        ({"sliding_window": 512, "sliding_window_pattern": [1, 2]}, "sliding_window_pattern"),
        ({"layer_types": ["sliding_attention"] * 8}, "sliding_window"),
        ({"index_head_dim": 128}, "index_head_dim"),
        ({"attention_other_setting": {"num_attention_heads": 96}}, "attention_other_setting"),
        ({"layer_group_size": 8}, "layer_group_size"),
        ({"attn_layer_indices": ["3"]}, "attn_layer_indices"),
        ({"attn_layer_indices": [8]}, "attn_layer_indices"),
        ({"linear_attn_config": {"full_attn_layers": ["4"]}}, "linear_attn_config"),
        ({"linear_attn_config": {"full_attn_layers": [0, 4]}}, "linear_attn_config"),
        ({"attn_layer_period": 4, "attn_layer_offset": 4}, "attn_layer_offset"),
        ({"layers_block_type": ["hybrid"] * 8}, "layers_block_type (hybrid)"),
        ({"mamba_d_ssm": 1536}, "mamba_d_ssm"),
        ({"model_type": "hrm_text"}, "num_layers_per_stack"),
        ({"num_key_value_heads": 0}, "num_key_value_heads"),
        ({"moba_config": {"chunk": 512}}, "moba_config"),
        ({"per_layer_config": {"9": {"head_dim": 256}}}, "per_layer_config"),
        ({"per_layer_config": {"0": {"index_head_dim": 256}}}, "per_layer_config"),
        ({"per_layer_config": {"0": "x"}}, "per_layer_config"),
        ({"per_layer_config": {"²": {"head_dim": 256}}}, "per_layer_config"),
        ({"per_layer_config": [{"head_dim": 256}] * 8}, "per_layer_config"),
        ({"nsa_config": {"block": 64}}, "nsa_config"),
        ({"use_dsa": True}, "use_dsa"),
        ({"sparse_attention_config": {"block": 64}}, "sparse_attention_config"),
        ({"mamba_d_state": 16}, "which layers keep a state"),
        ({"sliding_window": [512, None]}, "sliding_window"),
        ({"attention_types": [[["global", "sideways"], 4]]}, "attention_types"),
        ({"block_configs": [{"attention": {"n_heads_in_group": "x"}}] * 8}, "block_configs"),
        ({"num_key_value_heads_per_layer": [2, 2]}, "num_key_value_heads_per_layer"),
        (
            {
                "indexer_types": ["odd"] * 8,
                "index_head_dim": 128,
                "kv_lora_rank": 512,
                "qk_rope_head_dim": 64,
                "qk_nope_head_dim": 128,
                "v_head_dim": 128,
            },
            "indexer_types",
        ),
        ({"head_dim": None, "hidden_size": 1030}, "head_dim"),
    ],
)
def test_a_key_that_is_not_understood_is_named_and_no_number_given(changed, key):
    found = grows({**BASE, **changed})
    assert isinstance(found, tuple)
    assert any(one.startswith(key.split(" ")[0]) for one in found)


@pytest.mark.parametrize(
    "key",
    ["use_cache", "rope_local_base_freq", "conv_bias", "mamba_chunk_size", "kv_cache_scheme", "n_shared_experts",
     "cache_implementation", "sparse_mlp_layers", "add_qkv_bias", "indexer_rope_interleave"],
)  # fmt: skip
def test_what_does_not_change_the_cache_does_not(key):
    assert grows({**BASE, key: 3}) == 8 * LAYER


def test_gemma_4_has_full_layers_of_other_dimensions():
    """The same numbers as in its GGUF keys."""
    config = {
        "model_type": "gemma4_text", "hidden_size": 2816, "num_hidden_layers": 30, "num_attention_heads": 16,
        "num_key_value_heads": 8, "head_dim": 256, "global_head_dim": 512, "num_global_key_value_heads": 2,
        "attention_k_eq_v": True, "sliding_window": 1024, "layer_types": (["sliding_attention"] * 5
        + ["full_attention"]) * 5,
    }  # fmt: skip
    assert grows(config) == 20480
    assert model_shape.bounded(shapes.of_config(config))["bytes"] == 204800 * 1024
    assert grows(dict(config, attention_k_eq_v=False)) == 4 * 20480


def test_states_are_apart_and_not_known_without_their_sizes():
    shape = shapes.of_config(given("qwen3-next"))
    assert model_shape.bounded(shape)["state"] is None
    assert model_shape.kept(shape, 1000)["label"] == "not known"
    sizes = {"linear_key_head_dim": 128, "linear_num_value_heads": 32, "linear_value_head_dim": 128,
             "linear_conv_kernel_dim": 4}  # fmt: skip
    shape = shapes.of_config(given("qwen3-next", **sizes))
    # 36 layers: 3 columns of a convolution over queries, keys and values, and a state of 128 × 128 a head.
    state = 36 * 2 * ((2 * 16 * 128 + 32 * 128) * 3 + 32 * 128 * 128)
    assert model_shape.bounded(shape)["state"] == state
    assert model_shape.kept(shape, 1000)["value"] == 24576 * 1000 + state
    wide = shapes.of_config(given("qwen3-next", **sizes, mamba_ssm_dtype="float32"))
    assert model_shape.bounded(wide)["state"] == state + 36 * 2 * 32 * 128 * 128
    assert model_shape.kept(shape, 1000, tensor_parallel=2)["value"] == (24576 * 1000 + state) // 2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], "config.json: expected a mapping, found list"),
        ({}, "config.json has no num_hidden_layers, hidden_size, num_attention_heads"),
        ({**BASE, "num_hidden_layers": "8"}, "config.json: num_hidden_layers: expected a whole number, found '8'"),
        ({**BASE, "num_hidden_layers": True}, "expected a whole number, found True"),
        ({**BASE, "num_attention_heads": 0}, "config.json has no num_attention_heads"),
        ({**BASE, "num_hidden_layers": 10**6}, "1000000 layers are no model"),
        ({**BASE, "hidden_size": -1}, "hidden_size: expected a whole number, found -1"),
        ({**BASE, "kv_lora_rank": 512}, "kv_lora_rank without qk_rope_head_dim"),
    ],
)
def test_what_is_no_config_is_refused_in_one_line(config, message):
    with pytest.raises(ValueError) as caught:
        shapes.of_config(config)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_kimi_k3_keeps_the_latent_of_every_fourth_layer():
    # The keys of public copies of its config.json that change the cache, or look so.
    full = [*range(4, 93, 4), 93]
    text = {
        "model_type": "kimi_linear",
        "num_hidden_layers": 93,
        "hidden_size": 7168,
        "num_attention_heads": 64,
        "intermediate_size": 18432,
        "vocab_size": 163840,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "num_experts": 896,
        "num_experts_per_token": 16,
        "moe_intermediate_size": 3072,
        "routed_expert_hidden_size": 3584,
        "latent_moe_use_norm": True,
        "linear_attn_config": {
            "kda_layers": [layer for layer in range(1, 94) if layer not in full],
            "full_attn_layers": full,
            "num_heads": 64,
            "head_dim": 128,
            "short_conv_kernel_size": 4,
        },
    }
    shape = shapes.of_config({"model_type": "kimi_k3", "text_config": text})
    assert model_shape.kv_bytes_per_token(shape) == {
        **model_shape.kv_bytes_per_token(shape),
        "value": 24 * (512 + 64) * 2,
        "label": "exact",
    }
    # Its experts work on fewer numbers than the model's: for what they hold there is no formula here.
    assert model_shape.parameters(shape)["value"] is None


# GGUF


def keys_of(architecture="llama", **changed):
    keys = {"block_count": 8, "embedding_length": 1024, "attention.head_count": 8, "attention.head_count_kv": 2}
    keys.update(changed)
    found = {f"{architecture}.{key}": value for key, value in keys.items()}
    return {"general.architecture": architecture, **found}


def test_gemma_4_from_its_gguf_keys():
    keys = json.loads((FIXTURES / "gguf/gemma-4-keys.json").read_text())
    shape = shapes.of_keys(keys)
    assert model_shape.kv_bytes_per_token(shape)["value"] == 20480
    assert model_shape.bounded(shape) == {"window": 1024, "bytes": 204800 * 1024, "state": 0}
    assert model_shape.kept(shape, 100)["value"] == (20480 + 204800) * 100


@pytest.mark.parametrize(
    ("keys", "layers"),
    [
        (keys_of(), 8),
        (keys_of("gemma2", **{"attention.sliding_window": 512}), 4),
        (keys_of("gemma3", **{"attention.sliding_window": 512}), 1),
        (keys_of("gpt-oss", **{"attention.sliding_window": 128, "attention.sliding_window_pattern": 4}), 2),
        (keys_of("qwen2", **{"attention.sliding_window": 512}), 8),
        (keys_of("lfm2", **{"attention.head_count_kv": [0, 0, 2, 0, 0, 2, 0, 2], "shortconv.l_cache": 3}), 3),
        (keys_of("jamba", **{"attention.head_count_kv": [0, 0, 0, 2] * 2, "ssm.state_size": 16}), 2),
        (keys_of("qwen3next", **{"full_attention_interval": 4, "ssm.state_size": 128}), 2),
        (keys_of("gemma3n", **{"attention.shared_kv_layers": 3}), 5),
        # llama.cpp, n_layer_kv_from_start of GLM 4.5 and Qwen 3.5: those at the end predict further tokens.
        (keys_of("glm4moe", nextn_predict_layers=1), 7),
        (keys_of("qwen35", nextn_predict_layers=4, full_attention_interval=4, **{"ssm.x": 1}), 1),
        (
            keys_of(
                "openelm",
                **{
                    "attention.head_count": [4] * 4 + [8] * 4,
                    "attention.head_count_kv": None,
                    "attention.key_length": 128,
                    "attention.value_length": 128,
                },
            ),
            24,
        ),
        (keys_of(**{"attention.key_length": 256, "attention.head_count_kv": 4}), 24),  # a value of 128 numbers
        (keys_of("deci", **{"attention.head_count_kv": [2, 0, 2, 2, 2, 2, 2, 0]}), 6),
    ],
)
def test_gguf_siblings(keys, layers):
    assert model_shape.kv_bytes_per_token(shapes.of_keys(keys))["value"] == layers * LAYER


@pytest.mark.parametrize(
    "keys",
    [
        keys_of("newmodel", **{"attention.sliding_window": 512}),
        keys_of("deepseek32", **{"attention.indexer.key_length": 128}),
        keys_of("deepseek4", **{"attention.compress_ratios": [4, 128]}),
        keys_of("falcon-h1", **{"ssm.state_size": 16}),
        keys_of("llama4", **{"attention.chunk_size": 8192}),
        keys_of("deci", **{"attention.head_count_kv": []}),
        keys_of("gemma3", **{"attention.sliding_window": 512, "attention.sliding_window_pattern": []}),
        keys_of("gemma3", **{"attention.sliding_window": 512, "attention.sliding_window_pattern": [1, 0, None]}),
        keys_of("gemma3", **{"attention.sliding_window": 512, "attention.sliding_window_pattern": [1, 0, 1, 1, 1]}),
        keys_of("gemma3", **{"attention.sliding_window": 512, "attention.sliding_window_pattern": ["L", "G"]}),
    ],
)
def test_gguf_keys_that_are_not_understood_are_named(keys):
    found = model_shape.kv_bytes_per_token(shapes.of_keys(keys))
    assert (found["value"], found["label"]) == (None, "not known")
    assert "not understood: " + keys["general.architecture"] in found["how"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "has no general.architecture"),
        ({"general.architecture": "llama"}, "has no llama.block_count, llama.embedding_length"),
        (keys_of(block_count=10**6), "1000000 layers are no model"),
        (keys_of(block_count="8"), "llama.block_count: expected a whole number, found '8'"),
        (keys_of(**{"attention.head_count": [8, "x"]}), "expected a whole number, found 'x'"),
    ],
)
def test_what_is_no_model_in_gguf_is_refused_in_one_line(keys, message):
    with pytest.raises(ValueError, match=message):
        shapes.of_keys(keys)


# Values of transformers 5.19 (Glm5NextTextConfig), of the keys that all layers have.
GLM_5_NEXT = {
    "model_type": "glm5_next_text", "hidden_size": 4096, "num_hidden_layers": 45, "num_attention_heads": 64,
    "num_key_value_heads": 64, "intermediate_size": 12288, "kv_lora_rank": 512, "q_lora_rank": 1536,
    "qk_rope_head_dim": 0, "qk_nope_head_dim": 256, "v_head_dim": 256, "head_dim": 0, "vocab_size": 154880,
}  # fmt: skip


def test_a_latent_cache_without_positions():
    """It was refused: 'kv_lora_rank without qk_rope_head_dim'."""
    assert grows(GLM_5_NEXT) == 45 * 512 * 2
    facts = config_facts.facts_of(GLM_5_NEXT)
    assert facts["qk_rope_head_dim"] == 0
    entry = {"format": "safetensors", "engines": ["vllm"], "sources": [{"kind": "huggingface", "id": "a/b"}]}
    assert check_entry("m", dict(entry, bytes=1000, architecture=facts)) == []
    # How its indexer pools tokens nobody has reckoned.
    assert grows(dict(GLM_5_NEXT, index_head_dim=128, index_kpool=16)) == ("index_kpool",)


@pytest.mark.parametrize("key", ["num_loops", "loop_num"])
def test_layers_that_are_gone_through_twice_keep_twice_as_much(key):
    """Nanbeige, IQuest: each time has a cache of its own, which was not counted."""
    llama = {"model_type": "nanbeige", "hidden_size": 3072, "num_hidden_layers": 22, "num_attention_heads": 48,
             "num_key_value_heads": 8, "intermediate_size": 8192, "vocab_size": 1000}  # fmt: skip
    assert grows(dict(llama, **{key: 1})) == grows(llama) == 22 * 2 * 8 * 64 * 2
    assert grows(dict(llama, **{key: 2})) == (key,)


@pytest.mark.parametrize(
    ("changed", "heads"),
    [({}, 2), ({"multi_query_attention": False}, 32), ({"multi_query_attention": None}, 32)],
)
def test_chatglm_has_as_many_kv_heads_as_others_where_its_groups_are_off(changed, heads):
    """vLLM and SGLang, models/chatglm.py: the number of groups alone says nothing, and its class has them off."""
    config = dict(json.loads((FIXTURES / "configs/glm-4-9b.json").read_text())["config"], **changed)
    facts = config_facts.facts_of(config)
    assert (facts["attention_heads"], facts.get("kv_heads", facts["attention_heads"])) == (32, heads)
    # Of another family the number says it by itself.
    assert config_facts.facts_of(dict(config, model_type="other"))["kv_heads"] == 2
