# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from pathlib import Path

import pytest
import yaml
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import vllm_rules

ROOT = Path(__file__).resolve().parents[5]
CATALOG = yaml.safe_load((ROOT / "roles/model/defaults/main/catalog.yml").read_text(encoding="utf-8"))["model_catalog"]


def check(values, name="deepseek-r1-distill-qwen-7b", **facts):
    facts = {
        "profile": "cuda",
        "gpus": 8,
        "hosts": 1,
        "model": dict(CATALOG[name], name=name),
        "environment": [],
        **facts,
    }
    return vllm_rules.check(values, facts, "vllm_venv")


@pytest.mark.parametrize(
    ("values", "facts", "line"),
    [
        (
            {"tensor_parallel_size": 8},
            {},
            "vllm_venv_tensor_parallel_size: 8 is not possible for deepseek-r1-distill-qwen-7b: 28 attention heads do "
            "not divide by 8; possible are 1, 2, 4",
        ),
        (
            {"tensor_parallel_size": 4, "pipeline_parallel_size": 4},
            {},
            "vllm_venv_tensor_parallel_size 4 × pipeline 4 × data 1 needs 16 GPUs, this host has 8",
        ),
        (
            {"tensor_parallel_size": 2},
            {"profile": "cpu", "gpus": 0, "omp_threads_bind": "auto"},
            "vllm_venv_tensor_parallel_size: on CPU 2 ranks need their processors named in "
            "vllm_venv_cpu_omp_threads_bind, such as '0|1'",
        ),
        (
            {"tensor_parallel_size": 4, "pipeline_parallel_size": 4, "nnodes": 2},
            {"gpus": 4, "hosts": 2},
            "vllm_venv_tensor_parallel_size 4 × pipeline 4 × data 1 needs 16 GPUs, 2 hosts of this kind have 8",
        ),
        ({"nnodes": 2}, {}, "vllm_venv_nnodes: 2 hosts are to serve it, this run is about 1"),
        (
            {"tensor_parallel_size": 4, "nnodes": 3},
            {"hosts": 3},
            "vllm_venv_nnodes: 4 ranks cannot be spread evenly over 3 hosts",
        ),
        (
            {"nnodes": 2},
            {"hosts": 2, "extra_args": ["--distributed_executor_backend=ray"]},
            "vllm_venv_extra_args: --distributed-executor-backend ray: vllm_venv_nnodes starts the processes itself "
            "(mp); leave one of the two out",
        ),
        (
            {"tensor_parallel_size": 4, "nnodes": 2},
            {"profile": "cpu", "gpus": 0, "hosts": 2, "omp_threads_bind": "0"},
            "vllm_venv_tensor_parallel_size: on CPU 2 ranks need their processors named in "
            "vllm_venv_cpu_omp_threads_bind, such as '0|1'",
        ),
        (
            {"quantization": "awq", "dtype": "bfloat16"},
            {"model": {"name": "r1", "quantization": "AWQ"}},
            "vllm_venv_dtype: awq computes in float16 only, found bfloat16; use float16, or quantization awq_marlin",
        ),
        (
            {"quantization": "fp8"},
            {"model": {"name": "r1", "quantization": "AWQ"}},
            "vllm_venv_quantization: r1 is stored as AWQ, found fp8; leave it unset, or use one of awq, awq_marlin, "
            "moe_wna16",
        ),
        (
            {"kv_cache_dtype": "fp8_e5m2"},
            {"model": {"name": "r1", "quantization": "FP8"}},
            "vllm_venv_kv_cache_dtype: fp8_e5m2 is not possible with FP8 weights; use fp8 or fp8_e4m3",
        ),
        (
            {"calculate_kv_scales": True},
            {},
            "vllm_venv_calculate_kv_scales needs vllm_venv_kv_cache_dtype fp8",
        ),
        (
            {"max_model_len": 131073},
            {},
            "vllm_venv_max_model_len: 131073 is more than the 131072 tokens of deepseek-r1-distill-qwen-7b",
        ),
        (
            {"max_num_batched_tokens": 64, "max_num_seqs": 128},
            {},
            "vllm_venv_max_num_batched_tokens: 64 is less than vllm_venv_max_num_seqs 128: each sequence needs "
            "one a step",
        ),
        ({"ssl_keyfile": "/k"}, {}, "vllm_venv_ssl_certfile and vllm_venv_ssl_keyfile must be set together"),
        (
            {"enable_auto_tool_choice": True},
            {},
            "vllm_venv_enable_auto_tool_choice needs vllm_venv_tool_call_parser",
        ),
        (
            {},
            {"shared_nvswitch": True, "extra_args": ["--compilation-config", "{}"]},
            "vllm_venv_extra_args: --compilation-config: with vllm_venv_shared_nvswitch give its keys one by one, such "
            "as --compilation-config.cudagraph_mode=FULL",
        ),
    ],
)
def test_what_cannot_go_together_gets_one_line(values, facts, line):
    assert check(values, **facts) == ([line], [])


@pytest.mark.parametrize("size", [1, 2, 4])
def test_sizes_that_divide_the_heads_are_fine(size):
    assert check({"tensor_parallel_size": size}) == ([], [])


def test_over_hosts_one_rank_a_host_needs_no_processors_named():
    facts = {"profile": "cpu", "gpus": 0, "hosts": 2, "omp_threads_bind": "auto", "extra_args": []}
    assert check({"tensor_parallel_size": 2, "nnodes": 2}, **facts) == ([], [])
    assert check({"nnodes": 2}, **facts) == ([], [])


def test_the_seed_s_command_is_possible_and_warned_of():
    values = {"tensor_parallel_size": 8, "dtype": "float16", "max_model_len": 8192, "trust_remote_code": True}
    values.update(enforce_eager=True, enable_prefix_caching=True, gpu_memory_utilization=0.95)
    problems, warnings = check(values, name="deepseek-r1-awq")
    assert problems == []
    assert [warning.split(" is set")[0] for warning in warnings] == [
        "vllm_venv_enforce_eager",
        "vllm_venv_trust_remote_code",
    ]
    assert "4.7 times" in warnings[0]


def test_credentials_for_every_origin_are_warned_of():
    assert check({"allow_credentials": True, "allowed_origins": ["https://a"]})[1] == []
    assert len(check({"allow_credentials": True, "allowed_origins": ["*"]})[1]) == 1


def test_a_model_without_numbers_is_not_checked_against_them():
    assert check({"tensor_parallel_size": 3}, model={"name": "own"}) == ([], [])


# Qwen3 235B and its like in FP8: on 8 GPUs with whole experts, or not at all.
MINIMAX = {
    "name": "minimax", "weight_bits": 8,
    "architecture": {
        "name": "minimax_m2", "parameters": 228700000000, "layers": 62, "hidden_size": 3072, "attention_heads": 48,
        "kv_heads": 8, "head_dim": 128, "moe_intermediate_size": 1536, "experts": 256, "experts_used": 8,
        "weight_block": 128, "vocabulary": 200064, "context": 196608,
    },
}  # fmt: skip


def test_whole_experts_make_a_size_possible_and_are_named():
    (problem,), _warnings = check({"tensor_parallel_size": 8}, model=MINIMAX)
    assert problem == (
        "vllm_venv_tensor_parallel_size: 8 is not possible for minimax: a width of 1536 in 8 parts is cut within "
        "blocks of 128 weights; possible are 1, 2, 4, or 8 with vllm_venv_enable_expert_parallel"
    )
    assert check({"tensor_parallel_size": 8, "enable_expert_parallel": True}, model=MINIMAX)[0] == []


def test_a_context_that_is_scaled_or_allowed_is_not_refused():
    yarn = {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 65536}}
    (problem,), _warnings = check({"max_model_len": 262144}, model=MINIMAX)
    assert problem == "vllm_venv_max_model_len: 262144 is more than the 196608 tokens of minimax"
    assert check({"max_model_len": 262144, "hf_overrides": yarn}, model=MINIMAX)[0] == []
    allowed = {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}
    assert check({"max_model_len": 262144}, model=MINIMAX, environment=allowed)[0] == []
