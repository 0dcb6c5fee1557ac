# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The type of cache that a checkpoint's way of quantising sets, as vLLM and SGLang take it where nobody says one."""

import json

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import config_facts
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.request import Request
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import catalog, own_numbers
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import fit_report
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.plan_offers import numbers_of

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 10, "hidden_size": 2048,
         "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 8192,
         "vocab_size": 1000, "max_position_embeddings": 131072, "torch_dtype": "bfloat16"}  # fmt: skip
LATENT = {"model_type": "deepseek_v3", "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64,
          "qk_nope_head_dim": 128, "v_head_dim": 128}  # fmt: skip
SPARSE = dict(LATENT, model_type="deepseek_v32", index_head_dim=128, index_n_heads=64, index_topk=2048)
FP8 = {"num_bits": 8, "type": "float", "dynamic": False}
# llm-compressor and ModelOpt write these (RedHatAI, nvidia on the hubs).
PACKED = {"quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"],
          "kv_cache_scheme": dict(FP8, strategy="tensor", symmetric=True, observer="minmax")}  # fmt: skip
OPT = {"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_scheme": FP8, "ignore": ["lm_head"]}


def but(how, **changed):
    """A way of quantising with other keys; of its scheme with ``scheme_...``."""
    scheme = dict(
        how["kv_cache_scheme"], **{key[7:]: changed.pop(key) for key in list(changed) if "scheme_" in key[:7]}
    )
    return dict(how, kv_cache_scheme=scheme, **changed)


def without(how, **more):
    return {key: value for key, value in dict(how, **more).items() if key != "kv_cache_scheme"}


def architecture(how, **more):
    return own_numbers.of_config(json.dumps({**LLAMA, **more, "quantization_config": how}))["architecture"]


@pytest.mark.parametrize(
    ("how", "vllm", "sglang"),
    [
        (PACKED, "fp8", "fp8_e4m3"),
        (but(PACKED, scheme_strategy="attn_head"), "fp8", None),
        (but(PACKED, scheme_dynamic=True), "fp8", None),
        (but(PACKED, scheme_num_bits=4), None, None),
        (dict(PACKED, kv_cache_scheme=None), None, None),
        (without(PACKED), None, None),
        (OPT, "fp8_e4m3", "fp8_e4m3"),
        (dict(OPT, quant_algo="FP8"), "fp8_e4m3", "fp8_e4m3"),
        (dict(OPT, quant_method="modelopt_fp4"), "fp8_e4m3", "fp8_e4m3"),
        (but(OPT, scheme_dynamic=True), None, "fp8_e4m3"),
        (but(OPT, scheme_num_bits=4), "nvfp4", None),
        (but(OPT, scheme_type="int"), None, None),
        (without(OPT), None, None),
        (without(OPT, kv_cache_quant_algo="FP8"), "fp8_e4m3", "fp8_e4m3"),
        (without(OPT, kv_cache_quant_algo="NVFP4"), "nvfp4", None),
        (without(OPT, kv_cache_quant_algo="INT8"), None, None),
        (dict(OPT, kv_cache_scheme="fp8"), "fp8_e4m3", "fp8_e4m3"),
        (dict(OPT, kv_cache_scheme="FP8", quant_algo="FP8"), "fp8_e4m3", None),
        (dict(OPT, quant_algo="MIXED_PRECISION", quantized_layers={"a": {"quant_algo": "NVFP4"}}),
         "fp8_e4m3", "fp8_e4m3"),
        (dict(OPT, quant_algo="MIXED_PRECISION", quantized_layers={"a": {"quant_algo": "W4A8_AWQ"}}), "fp8_e4m3", None),
        # The form of hf_quant_config.json, also beside the method.
        ({"quant_method": "modelopt", "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}},
         "fp8_e4m3", "fp8_e4m3"),
        ({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}},
         None, None),
        ({"quant_method": "fp8", "weight_block_size": [128, 128], "kv_cache_quant_algo": "FP8"}, None, "fp8_e4m3"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, None, None),
        ({"quant_method": "awq", "bits": 4, "kv_cache_scheme": FP8}, None, None),
    ],
)  # fmt: skip
def test_what_each_engine_takes_of_itself(how, vllm, sglang):
    found = architecture(how).get("own_kv_cache", {})
    assert (found.get("vllm"), found.get("sglang")) == (vllm, sglang)


def test_a_latent_cache_and_one_with_an_indexer():
    """vLLM's layers with a latent cache do not ask compressed-tensors; SGLang decides for an indexer by the GPU."""
    assert architecture(PACKED, **LATENT)["own_kv_cache"] == {"sglang": "fp8_e4m3"}
    assert architecture(OPT, **LATENT)["own_kv_cache"] == {"vllm": "fp8_e4m3", "sglang": "fp8_e4m3"}
    assert architecture(OPT, **SPARSE)["own_kv_cache"] == {"vllm": "fp8_e4m3"}


def test_a_model_with_images_is_as_its_class_is():
    """Its parts are classes of their own: SGLang asks the outer one, which of many keeps nothing of it."""
    whole = {"model_type": "mllama", "text_config": LLAMA, "quantization_config": PACKED}
    assert config_facts.facts_of(whole)["own_kv_cache"] == {"vllm": "fp8"}
    inner = {"model_type": "mllama", "text_config": dict(LLAMA, quantization_config=PACKED)}
    assert config_facts.facts_of(inner)["own_kv_cache"] == {"vllm": "fp8"}
    inner["text_config"]["quantization_config"] = OPT
    assert "own_kv_cache" not in config_facts.facts_of(inner)
    older = dict(LLAMA, compression_config=PACKED)
    assert config_facts.facts_of(older)["own_kv_cache"] == {"vllm": "fp8"}


@pytest.mark.parametrize("odd", [None, [], "fp8", 8, {}, {"num_bits": "8"}, {"type": ["float"], "num_bits": 8}, True])
@pytest.mark.parametrize("key", ["kv_cache_scheme", "kv_cache_quant_algo", "quant_method", "quant_algo", "quantization",
                                 "quantized_layers"])  # fmt: skip
def test_odd_values_are_none(odd, key):
    for how in (PACKED, OPT, without(OPT, kv_cache_quant_algo="FP8")):
        architecture(dict(how, **{key: odd}))
        architecture(odd)


def token(engine, facts, version="", **settings):
    entry = {"name": "m", "format": "safetensors", "bytes": 10**9, "weight_bits": 8, "architecture": facts}
    request = Request(**numbers_of(engine, entry, settings, version))
    shape = fit_report.shape_for(entry, request)
    return model_shape.kv_bytes_per_token(shape, request.kv_bytes)["value"]


# 10 layers, 4 KV heads of 128: 1,024 numbers a layer; latent 576.
@pytest.mark.parametrize(
    ("engine", "how", "more", "version", "settings", "size"),
    [
        ("vllm", PACKED, {}, "0.32.0", {}, 10240),
        ("vllm", PACKED, {}, "0.19.1", {}, 10240),
        ("vllm", PACKED, {}, "", {}, 10240),
        ("vllm", PACKED, {}, "0.9.2", {}, 20480),  # not read
        ("vllm", PACKED, {}, "0.32.0", {"kv_cache_dtype": "auto"}, 10240),
        ("vllm", PACKED, {}, "0.32.0", {"kv_cache_dtype": "bfloat16"}, 20480),
        ("vllm", PACKED, {}, "0.32.0", {"dtype": "float32"}, 10240),
        ("vllm", PACKED, LATENT, "0.32.0", {}, 11520),
        ("vllm", OPT, LATENT, "0.32.0", {}, 5760),
        ("vllm", but(OPT, scheme_num_bits=4), {}, "0.32.0", {}, 10 * 4 * 2 * (64 + 8)),
        ("vllm", but(OPT, scheme_num_bits=4), {}, "0.19.1", {}, 20480),
        ("sglang", PACKED, {}, "0.5.23", {}, 10240),
        ("sglang", PACKED, {}, "0.5.10.post1", {}, 20480),
        ("sglang", OPT, LATENT, "0.5.23", {}, 5760),
        ("sglang", OPT, LATENT, "0.5.23", {"kv_cache_dtype": "bf16"}, 11520),
    ],
)
def test_it_is_counted(engine, how, more, version, settings, size):
    assert token(engine, architecture(how, **more), version, **settings) == size


def test_a_catalog_may_say_it():
    facts = architecture(OPT)
    entry = {"name": "m", "title": "M", "format": "safetensors", "engines": ["vllm"], "architecture": facts,
             "sources": [{"kind": "path", "path": "/m"}]}  # fmt: skip
    assert not [line for line in catalog.check_entry("m", entry) if "own_kv_cache" in str(line)]
    wrong = dict(entry, architecture=dict(facts, own_kv_cache={"llama_cpp": "q8_0"}))
    assert [line for line in catalog.check_entry("m", wrong) if "own_kv_cache" in str(line)]
