# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Models that write no text are refused by name; what a config.json leaves out is as in the model's class."""

import pytest
import shapes
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.families import NoText

BASE = {"hidden_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 2,
        "intermediate_size": 4096, "vocab_size": 1000, "max_position_embeddings": 32768}  # fmt: skip
LAYER = 2 * 2 * 128 * 2
STATE = {"mamba_d_state": 16, "mamba_d_conv": 4, "mamba_n_heads": 8, "mamba_d_head": 64}
LATENT = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}


def grows(config):
    return model_shape.kv_bytes_per_token(shapes.of_config(config))["value"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "bert"}, "an encoder (bert)"),
        ({"model_type": "xlm-roberta", "architectures": ["XLMRobertaModel"]}, "an encoder (xlm-roberta)"),
        ({"model_type": "modernbert"}, "an encoder (modernbert)"),
        ({"model_type": "new", "architectures": ["NewModel"]}, "an encoder (new)"),
        ({"model_type": "t5", "is_encoder_decoder": True}, "an encoder with a decoder (t5)"),
        ({"model_type": "whisper", "num_mel_bins": 80}, "an encoder with a decoder (whisper)"),
        ({"model_type": "some", "is_encoder_decoder": True}, "an encoder with a decoder (some)"),
        ({"model_type": "t5gemma", "decoder": {"num_hidden_layers": 2}}, "an encoder with a decoder (t5gemma)"),
        ({"model_type": "qwen2", "architectures": ["Qwen2ForRewardModel"]}, "a reward or embedding model"),
        ({"model_type": "qwen2", "architectures": ["Qwen2ForProcessRewardModel"]}, "a reward or embedding model"),
        ({"model_type": "qwen2", "architectures": ["Qwen2Model"]}, "a reward or embedding model (Qwen2Model)"),
        ({"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}, "a reward or embedding model"),
        ({"model_type": "internlm2", "architectures": ["InternLM2ForRewardModel"]}, "a reward or embedding model"),
        ({"model_type": "embedding_gemma2", "text_config": BASE}, "an encoder (embedding_gemma2)"),
        ({"model_type": "clip", "text_config": BASE}, "an encoder (clip)"),
        ({"model_type": "vit", "image_size": 224, "vocab_size": None}, "an image or audio model"),
        ({"model_type": "llada"}, "a diffusion model (llada)"),
    ],
)
def test_a_model_that_writes_no_text_is_refused_by_name(config, said):
    config = {key: value for key, value in {**BASE, **config}.items() if value is not None}
    with pytest.raises(NoText) as caught:
        shapes.of_config(config)
    assert said in str(caught.value) and str(caught.value).startswith("config.json is of ")
    assert caught.value.error_kind == "preflight"


@pytest.mark.parametrize(
    ("architecture", "keys", "said"),
    [
        ("bert", {}, "an encoder (bert)"),
        ("nomic-bert", {"attention.causal": False}, "an encoder (nomic-bert)"),
        ("t5", {}, "an encoder with a decoder (t5)"),
        ("clip", {}, "an encoder (clip)"),
        ("llada", {}, "a diffusion model"),
        ("llama", {"attention.causal": False}, "llama without attention.causal"),
        ("qwen3", {"pooling_type": 3}, "qwen3 with pooling_type 3"),
    ],
)
def test_a_gguf_file_of_such_a_model_is_refused_too(architecture, keys, said):
    header = {"general.architecture": architecture, "block_count": 8, "embedding_length": 1024,
              "attention.head_count": 8, **keys}  # fmt: skip
    header = {key if key.startswith("general") else f"{architecture}.{key}": one for key, one in header.items()}
    with pytest.raises(NoText) as caught:
        shapes.of_keys(header)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "architectures",
    [["LlamaForCausalLM"], ["ChatGLMModel"], ["GPT2LMHeadModel"], ["Gemma3ForConditionalGeneration"], [], None, ["x"],
     ["LlamaForSequenceClassification", "LlamaForCausalLM"], [7]],
)  # fmt: skip
def test_what_writes_text_or_may_do_so_is_planned(architectures):
    assert grows({**BASE, "architectures": architectures, "is_encoder_decoder": False}) == 8 * LAYER


@pytest.mark.parametrize(
    ("config", "right"),
    [
        # google/gemma-3-4b-it: text_config holds no heads.
        ({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "hidden_size": 2560,
          "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024}}, 5 * 2 * 4 * 256 * 2),
        # llava-hf/llava-1.5-7b-hf: the whole size is the class's.
        ({"model_type": "llava", "vocab_size": 32064, "text_config": {"model_type": "llama",
          "max_position_embeddings": 4096}}, 32 * 2 * 32 * 128 * 2),
        # llava-hf/llava-v1.6-mistral-7b-hf
        ({"model_type": "llava_next", "text_config": {"model_type": "mistral", "intermediate_size": 14336,
          "max_position_embeddings": 32768, "num_key_value_heads": 8, "sliding_window": None}}, 32 * 2 * 8 * 128 * 2),
        # google/paligemma2-3b-pt-224: heads of 256, not of 2304 / 8.
        ({"model_type": "paligemma", "text_config": {"model_type": "gemma2", "hidden_size": 2304,
          "intermediate_size": 9216, "num_attention_heads": 8, "num_hidden_layers": 26, "num_key_value_heads": 4}},
         13 * 2 * 4 * 256 * 2),
        # The class's window holds where the key is missing, and none where it is null.
        ({**BASE, "model_type": "mistral"}, 0),
        ({**BASE, "model_type": "mistral", "sliding_window": None}, 8 * LAYER),
        # As transformers writes it today.
        ({**BASE, "model_type": "gemma3_text", "head_dim": 128, "_sliding_window_pattern": 4, "sliding_window": 64},
         2 * LAYER),
    ],
)  # fmt: skip
def test_what_is_left_out_is_as_in_the_models_class(config, right):
    assert grows(config) == right


def test_a_whole_model_is_not_taken_from_its_class():
    with pytest.raises(ValueError, match="config.json has no num_hidden_layers"):
        shapes.of_config({"model_type": "llama", "vocab_size": 32000})


@pytest.mark.parametrize(
    ("changed", "layers"),
    [
        ({"model_type": "falcon_h1", "mamba_d_ssm": 512, **STATE}, 8),  # every layer has both
        ({"model_type": "zamba2", "layers_block_type": ["mamba", "mamba", "hybrid", "mamba"] * 2, **STATE}, 2),
        ({"model_type": "afmoe", "sliding_window": 512, "global_attn_every_n_layers": 4}, 2),
        ({"model_type": "afmoe", "sliding_window": 512, "global_attn_every_n_layers": 3,
          "layer_types": ["sliding_attention", "full_attention"] * 4}, 4),
        ({"model_type": "gpt_neo", "attention_types": [[["global", "local"], 4]], "window_size": 256}, 4),
        ({"model_type": "gpt_neo", "attention_types": [[["global"], 8]]}, 8),
        ({"model_type": "lfm2", "full_attn_idxs": [2, 5], "conv_L_cache": 3}, 2),
        ({"model_type": "bailing_hybrid", "layer_group_size": 4}, 2),
        ({"model_type": "bamba", "attn_layer_indices": [1], **STATE}, 1),
        ({"model_type": "bamba", "attn_layer_indices": None, **STATE}, 0),
        ({"model_type": "plamo3", "sliding_window": [512, 512, 512, None] * 2}, 2),
        ({"model_type": "cohere2_moe", "sliding_window": 512, "prefix_dense_sliding_window_pattern": 1,
          "layer_types": ["sliding_attention", "full_attention"] * 4}, 4),
        ({"model_type": "minimax", "layer_types": ["linear_attention", "full_attention"] * 4,
          "full_attn_alpha_factor": 1}, 4),
        ({"model_type": "nemotron-nas", "num_key_value_heads": None, "block_configs": [
            {"attention": {"n_heads_in_group": 4}}, {"attention": {"no_op": True}}] * 4}, 4),
        ({"model_type": "deci", "num_key_value_heads": None, "num_key_value_heads_per_layer": [2] * 6 + [1] * 2}, 7),
        ({"model_type": "nemotron_h", "num_hidden_layers": None,
          "layers_block_type": ["mamba", "attention", "moe"]}, 1),
        # Gemma 4 as transformers 5 writes it: layers 1 and 3 have one head of twice the length.
        ({"model_type": "gemma4_text", "sliding_window": 512,
          "layer_types": ["sliding_attention", "full_attention"] * 4,
          "per_layer_config": {"01": {"head_dim": 256, "num_key_value_heads": 2}, "3": {"head_dim": 256}}}, 6),
        ({"per_layer_config": {"0": {"num_key_value_heads": 4}, "7": {"num_attention_heads": 4}}}, 9),
        # Step 3.5: three layers that predict further tokens stand behind; those that slide have other heads.
        ({"model_type": "step3p5", "sliding_window": 512, "num_nextn_predict_layers": 1,
          "layer_types": ["sliding_attention", "full_attention"] * 4 + ["sliding_attention"],
          "attention_other_setting": {"attention_type": "full_attention", "num_attention_groups": 4,
                                      "head_dim": 128}}, 8),
        ({"model_type": "hunyuan_v1_moe", "num_experts": 4, "moe_topk": [2] * 8, "moe_intermediate_size": [512] * 8,
          "num_shared_expert": [1] * 8}, 8),
    ],
)  # fmt: skip
def test_families(changed, layers):
    assert grows({**BASE, **changed}) == layers * LAYER


def test_a_layer_with_a_cache_and_a_state_keeps_both():
    shape = shapes.of_config({**BASE, "model_type": "falcon_h1", "mamba_d_ssm": 512, **STATE})
    state = 2 * (512 + 2 * 16) * 3 + 2 * 512 * 16
    assert model_shape.bounded(shape)["state"] == 8 * state
    kept = model_shape.kept(shape, 1000)
    assert (kept["value"], kept["label"]) == (8 * (1000 * LAYER + state), "estimated")
    # Without its size nothing is known.
    assert "the size of its states" in shapes.of_config({**BASE, "model_type": "falcon_h1"}).unknown


@pytest.mark.parametrize(
    ("config", "state"),
    [
        # state-spaces/mamba-2.8b-hf: 64 layers of 5120 × (3 × 2 + 16 × 2)
        ({"model_type": "mamba", "hidden_size": 2560, "num_hidden_layers": 64, "state_size": 16, "conv_kernel": 4,
          "expand": 2, "vocab_size": 50280}, 64 * 5120 * (3 + 16) * 2),
        # tiiuae/falcon-mamba-7b: its layers are 8192 wide, whatever expand says.
        ({"model_type": "falcon_mamba", "hidden_size": 4096, "num_hidden_layers": 64, "intermediate_size": 8192,
          "state_size": 16, "conv_kernel": 4, "expand": 16, "vocab_size": 65024}, 64 * 8192 * (3 + 16) * 2),
        # mistralai/Mamba-Codestral-7B-v0.1
        ({"model_type": "mamba2", "hidden_size": 4096, "num_hidden_layers": 64, "state_size": 128, "conv_kernel": 4,
          "expand": 2, "n_groups": 8, "num_heads": 128, "head_dim": 64, "vocab_size": 32768},
         64 * 2 * ((8192 + 2 * 8 * 128) * 3 + 8192 * 128)),
    ],
)  # fmt: skip
def test_models_of_states_alone(config, state):
    shape = shapes.of_config(config)
    assert (grows(config), shape.unknown) == (0, ())
    assert model_shape.bounded(shape) == {"window": 0, "bytes": 0, "state": state}
    assert not model_shape.not_known(shape)


def test_kimis_delta_attention_keeps_three_convolutions_and_a_wide_state():
    config = {**BASE, **LATENT, "model_type": "kimi_linear", "linear_attn_config": {
        "full_attn_layers": [4, 8], "kda_layers": [1, 2, 3, 5, 6, 7], "num_heads": 8, "head_dim": 128,
        "short_conv_kernel_size": 4}}  # fmt: skip
    assert grows(config) == 2 * 576 * 2
    assert model_shape.bounded(shapes.of_config(config))["state"] == 6 * (2 * 3 * 1024 * 3 + 4 * 8 * 128 * 128)


@pytest.mark.parametrize(
    ("changed", "own"),
    [
        ({}, 8),
        ({"layer_types": ["indexed_attention"] * 8}, 8),
        ({"indexer_types": ["full", "shared"] * 4}, 4),
        ({"index_topk_freq": 4}, 3),  # layers 0, 1 and 5: the offset is 2
        ({"index_topk_pattern": "FFSSFFSS"}, 4),
    ],
)
def test_layers_that_take_another_ones_choice_keep_no_index(changed, own):
    config = {**BASE, **LATENT, "index_head_dim": 128, "index_n_heads": 64, "index_topk": 2048, **changed}
    shape = shapes.of_config(config)
    assert grows(config) == 8 * 576 * 2 + own * 132
    assert [cache.kind for cache in shape.caches].count("indexed") == own


def test_longcat_has_two_attentions_a_layer():
    config = {**BASE, **LATENT, "model_type": "longcat_flash", "num_hidden_layers": None, "num_layers": 28,
              "zero_expert_num": 256}  # fmt: skip
    assert grows(config) == 56 * 576 * 2
    assert "zero_expert_num" in model_shape.parameters(shapes.of_config(config))["how"]
