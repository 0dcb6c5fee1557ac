# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bytes of a token in each type of KV cache, as vLLM 0.32.0 and SGLang 0.5.23 reckon them, reckoned here by hand."""

import re
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.kv import kv_of
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.request import Request
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import fit_report
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.plan_offers import numbers_of

HELP = Path(__file__).resolve().parents[3] / "fixtures"
# 10 layers, 4 KV heads of 128: 1,024 numbers a layer.
DENSE = {"name": "qwen3", "layers": 10, "hidden_size": 2048, "attention_heads": 16, "kv_heads": 4, "head_dim": 128,
         "intermediate_size": 8192, "vocabulary": 1000, "context": 40960}  # fmt: skip
MLA = dict(DENSE, kv_lora_rank=512, q_lora_rank=1536, qk_rope_head_dim=64, qk_nope_head_dim=128, v_head_dim=128)
SPARSE = dict(MLA, index_head_dim=128)
WINDOW = dict(DENSE, attention=[{"kind": "sliding", "window": 1024, "layers": [1, 3, 5, 7, 9]}])
HYBRID = dict(DENSE, attention=[{"kind": "state", "state_bytes": 1000, "layers": [0, 1, 2, 4, 5, 6, 8, 9]}])


def entry(facts, **more):
    about = {"name": "m", "format": "safetensors", "bytes": 10**9, "weight_bits": 16}
    return dict(dict(about, architecture=facts), **more)


def token(engine, facts, cache, dtype=None, tensor_parallel=1):
    one = entry(facts)
    request = Request(**numbers_of(engine, one, {"kv_cache_dtype": cache, "dtype": dtype}))
    shape = fit_report.shape_for(one, request)
    return model_shape.kv_bytes_per_token(shape, request.kv_bytes, tensor_parallel)["value"]


@pytest.mark.parametrize(
    ("engine", "facts", "cache", "size"),
    [
        ("vllm", DENSE, "", 10 * 2048),
        ("vllm", DENSE, "auto", 10 * 2048),
        ("vllm", DENSE, "bfloat16", 10 * 2048),
        ("vllm", DENSE, "fp8", 10 * 1024),
        ("vllm", DENSE, "fp8_inc", 10 * 1024),
        # Each head's key and value has a scale of 4 bytes.
        ("vllm", DENSE, "fp8_per_token_head", 10 * 4 * (256 + 8)),
        ("vllm", DENSE, "int8_per_token_head", 10 * 4 * (256 + 8)),
        ("vllm", DENSE, "int4_per_token_head", 10 * 4 * (128 + 8)),
        ("vllm", DENSE, "nvfp4", 10 * 4 * 2 * (64 + 8)),
        ("vllm", DENSE, "nvfp4_4over6", 10 * 4 * 2 * (64 + 8)),
        # The first two and the last two layers stay in 16 bits.
        ("vllm", DENSE, "turboquant_k8v4", 4 * 2048 + 6 * 4 * (128 + 64 + 4)),
        ("vllm", DENSE, "turboquant_4bit_nc", 4 * 2048 + 6 * 4 * (64 + 2 + 64 + 4)),
        ("vllm", DENSE, "turboquant_k3v4_nc", 4 * 2048 + 6 * 4 * (48 + 2 + 64 + 4)),
        ("vllm", DENSE, "turboquant_3bit_nc", 4 * 2048 + 6 * 4 * (48 + 2 + 48 + 4)),
        ("vllm", DENSE, "ultraquant_4bit", 4 * 2048 + 6 * 4 * 2 * (64 + 4)),
        # Not where layers keep states: each of the two others is quantised.
        ("vllm", HYBRID, "turboquant_k8v4", 2 * 4 * (128 + 64 + 4)),
        ("vllm", MLA, "fp8", 10 * 576),
        ("vllm", MLA, "fp8_ds_mla", 10 * 656),
        ("vllm", SPARSE, "fp8", 10 * (656 + 132)),
        ("vllm", SPARSE, "fp8_ds_mla", 10 * (656 + 132)),
        ("vllm", SPARSE, "nvfp4_ds_mla", 10 * (352 + 132)),
        ("sglang", DENSE, "fp8_e4m3", 10 * 1024),
        ("sglang", DENSE, "bf16", 10 * 2048),
        ("sglang", DENSE, "mxfp8", 10 * (1024 + 32)),
        ("sglang", DENSE, "nvfp4", 10 * (512 + 64)),
        ("sglang", DENSE, "fp4_e2m1", 10 * (512 + 64)),
        ("sglang", DENSE, "fp4_mx_block16", 10 * (512 + 64)),
        ("sglang", MLA, "fp4_mx_block16", 10 * (288 + 36)),
        ("sglang", WINDOW, "mxfp8", 5 * (1024 + 32)),
        # What nobody has reckoned is no number.
        ("vllm", DENSE, "int2_of_tomorrow", None),
        ("vllm", DENSE, "fp8_ds_mla", None),
        ("vllm", MLA, "nvfp4", None),
        ("vllm", MLA, "int8_per_token_head", None),
        ("vllm", MLA, "turboquant_k8v4", None),
        ("sglang", MLA, "mxfp8", None),
        ("sglang", WINDOW, "nvfp4", None),
    ],
)
def test_bytes_of_a_token(engine, facts, cache, size):
    assert token(engine, facts, cache) == size
    if size and facts is not MLA and facts is not SPARSE:
        assert token(engine, facts, cache, tensor_parallel=4) == size // 4  # each rank has whole heads


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_every_type_that_an_engine_has_is_known(engine):
    words = set()
    for path in (HELP / f"{engine}_help").glob("*.txt"):
        words |= set(re.search(r"--kv-cache-dtype \{([^}]*)\}", path.read_text()).group(1).split(","))
    assert len(words) > 8
    unknown = [word for word in words if all(kv_of(engine, word, None, latent).unknown for latent in (False, True))]
    assert unknown == []


def test_what_is_not_known_says_why():
    one = entry(MLA)
    fit = fit_report.check(one, {"gpus": [GPU]}, Request(**numbers_of("vllm", one, {"kv_cache_dtype": "nvfp4"})))
    assert fit["verdict"] == "unknown" and "kv_cache_dtype nvfp4 with MLA" in fit["summary"]


GPU = {"index": 0, "name": "H100", "memory_total_mib": 81559, "memory_free_mib": 81000, "memory_used_mib": 0}


def test_32_bits_take_twice_as_much_of_cache_and_weights():
    assert token("vllm", DENSE, "", "float32") == token("sglang", DENSE, "auto", "float") == 10 * 4096
    assert token("vllm", DENSE, "fp8", "float32") == 10 * 1024
    one, wide = entry(DENSE), entry(DENSE, weight_bits=32)
    count = model_shape.parameters(model_shape.from_catalog(one))["value"]

    def weights(one, dtype, size):
        return fit_report.shape_for(
            dict(one, bytes=size), Request(**numbers_of("vllm", one, {"dtype": dtype}))
        ).weight_bytes

    assert weights(one, "float32", 2 * count) == 4 * count
    assert weights(one, "", 2 * count) == 2 * count
    # What lies there in 32 bits is loaded in 16, and cached so, unless 32 are asked for.
    assert token("vllm", DENSE, "", "auto") == 10 * 2048
    assert weights(wide, "auto", 4 * count) == 2 * count
    assert weights(wide, "float32", 4 * count) == 4 * count
    assert weights(wide, "auto", 2 * count) == 2 * count  # its config says 32, and its tensors are of 16
    assert weights(entry(DENSE, weight_bits=8), "float32", count) == count  # quantised


# DeepSeek R1: 61 layers of 128 heads; kv_b_proj has 512 × 128 × 256 numbers a layer.
R1 = dict(MLA, layers=61, hidden_size=7168, attention_heads=128, kv_heads=128, vocabulary=129280)
R1.update(experts=256, experts_used=8, shared_experts=1, dense_layers=3, moe_intermediate_size=2048)
AGAIN = 61 * 512 * 128 * 256 * 2


@pytest.mark.parametrize(
    ("engine", "bits", "facts", "bytes_again"),
    [
        ("sglang", 8, R1, AGAIN),
        ("sglang", 16, R1, AGAIN),
        ("vllm", 8, R1, AGAIN),
        ("vllm", 16, R1, 0),  # views of it
        ("vllm", 8, DENSE, 0),
        ("sglang", 16, DENSE, 0),
    ],
)
def test_what_is_made_of_mlas_up_projection_stays_beside_it(engine, bits, facts, bytes_again):
    one = entry(facts, weight_bits=bits)
    request = Request(**numbers_of(engine, one, {}), tensor_parallel=8)
    gpus = {"gpus": [dict(GPU, index=index) for index in range(8)]}

    def weights(request):
        return fit_report.check(one, gpus, request)["per_gpu"]["weights"]["value"]

    more = weights(request) - weights(request._replace(absorbed=False))
    assert more == bytes_again // 8
    attention = request._replace(data_parallel_attention=8)  # each rank has its own attention, whole
    assert weights(attention) - weights(attention._replace(absorbed=False)) == bytes_again


@pytest.mark.parametrize(
    ("engine", "settings", "layers"),
    [
        ("sglang", {}, 61),
        ("sglang", {"speculative_algorithm": "EAGLE"}, 62),
        ("sglang", {"speculative_algorithm": "nextn"}, 62),
        ("sglang", {"speculative_algorithm": "EAGLE", "speculative_draft_model_path": "/srv/draft"}, 61),
        ("sglang", {"speculative_algorithm": "NGRAM"}, 61),
        ("vllm", {"extra_args": ["--speculative-config", '{"method": "mtp", "num_speculative_tokens": 1}']}, 62),
        ("vllm", {"extra_args": ['--speculative-config={"method": "deepseek_mtp"}']}, 62),
        ("vllm", {"extra_args": ["--speculative-config", '{"method": "ngram"}']}, 61),
        ("vllm", {"extra_args": ["--speculative-config", "[]"]}, 61),
        ("vllm", {"extra_args": ["--speculative-config"]}, 61),
    ],
)
def test_the_models_own_layer_for_further_tokens_has_a_cache(engine, settings, layers):
    one = entry(R1, weight_bits=8)
    request = Request(**numbers_of(engine, one, settings))
    shape = fit_report.shape_for(one, request)
    assert model_shape.kv_bytes_per_token(shape, request.kv_bytes)["value"] == layers * 1152
