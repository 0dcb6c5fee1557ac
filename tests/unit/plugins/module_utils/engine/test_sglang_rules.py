# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from pathlib import Path

import pytest
import yaml
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import parameters as engine_parameters
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import sglang_rules

ROOT = Path(__file__).resolve().parents[5]
CATALOG = yaml.safe_load((ROOT / "roles/model/defaults/main/catalog.yml").read_text(encoding="utf-8"))["model_catalog"]
TABLE = yaml.safe_load((ROOT / "roles/sglang/vars/main/parameters.yml").read_text(encoding="utf-8"))["_sglang_table"]


def check(values, name="deepseek-r1-awq", **facts):
    model = dict(CATALOG[name], name=name)
    facts = {"profile": "cuda", "version": "0.5.23", "gpus": 8, "hosts": 1, "model": model, "environment": [], **facts}
    return sglang_rules.check(values, facts, "sglang")


@pytest.mark.parametrize(
    ("values", "facts", "line"),
    [
        (
            {"tensor_parallel_size": 8},
            {"name": "deepseek-r1-distill-qwen-7b"},
            "sglang_tensor_parallel_size: 8 is not possible for deepseek-r1-distill-qwen-7b: 28 attention heads do not "
            "divide by 8; possible are 1, 2, 4",
        ),
        (
            {"tensor_parallel_size": 8, "data_parallel_size": 2},
            {},
            "sglang_tensor_parallel_size 8 × pipeline 1 × data 2 needs 16 GPUs, this host has 8",
        ),
        (
            {"tensor_parallel_size": 16, "nnodes": 2},
            {"hosts": 2, "gpus": 4, "name": "deepseek-r1"},
            "sglang_tensor_parallel_size 16 × pipeline 1 × data 1 needs 16 GPUs, 2 hosts of this kind have 8",
        ),
        (
            {"tensor_parallel_size": 16, "nnodes": 2},
            {"name": "deepseek-r1"},
            "sglang_nnodes: deepseek-r1 is served by 2 hosts, this run is about 1; name the others in the "
            "inventory too, or, where one host has the memory, set sglang_nnodes to 1 and sglang_tensor_parallel_size "
            "to its GPUs",
        ),
        (
            {"tensor_parallel_size": 8, "nnodes": 3},
            {"hosts": 3},
            "sglang_nnodes: TP 8 × PP 1 cannot be spread evenly over 3 hosts",
        ),
        (
            {"nnodes": 2, "node_rank": 2, "tensor_parallel_size": 16},
            {"hosts": 2},
            "sglang_node_rank: 2 is not below the 2 of nnodes",
        ),
        (
            {"enable_dp_attention": True, "tensor_parallel_size": 8, "data_parallel_size": 3},
            {},
            "sglang_enable_dp_attention needs a data_parallel_size above 1 that divides the tensor-parallel size 8, "
            "found 3",
        ),
        (
            {"enable_dp_attention": True, "tensor_parallel_size": 8, "data_parallel_size": 4},
            {"version": "0.4.3.post2"},
            "sglang_data_parallel_size: with enable_dp_attention it is the tensor-parallel size in this version",
        ),
        (
            {"attn_dp_size": 8, "enable_dp_attention": True, "tensor_parallel_size": 8},
            {},
            "sglang_enable_dp_attention and attn_dp_size are the old and the new name of one thing; set one",
        ),
        (
            {"attn_dp_size": 3, "tensor_parallel_size": 8},
            {},
            "sglang_attn_dp_size: 3 does not divide the tensor-parallel size 8",
        ),
        (
            {"expert_parallel_size": 3, "tensor_parallel_size": 8},
            {},
            "sglang_expert_parallel_size: 3 does not divide the tensor-parallel size 8",
        ),
        (
            {"quantization": "fp8", "tensor_parallel_size": 16, "nnodes": 2},
            {"name": "deepseek-r1", "hosts": 2},
            "sglang_quantization: deepseek-r1 is stored as FP8, found fp8; leave it unset, SGLang reads it there",
        ),
        (
            {"quantization": "gptq"},
            {},
            "sglang_quantization: deepseek-r1-awq is stored as AWQ, found gptq; leave it unset, or use one of awq, "
            "awq_marlin, moe_wna16",
        ),
        ({"quantization": "awq"}, {}, "sglang_quantization: awq serves no experts; use moe_wna16, or awq_marlin"),
        (
            {"quantization": "awq", "dtype": "bfloat16"},
            {"model": {"name": "qwen3-32b-awq", "quantization": "AWQ"}},
            "sglang_dtype: awq computes in float16 only, found bfloat16",
        ),
        (
            {"tensor_parallel_size": 1},
            {},
            "sglang_dtype: with 128 attention heads on one GPU a kernel of SGLang takes bfloat16 only, found none, and "
            "AWQ's files say float16; set bfloat16, or spread the heads over more GPUs",
        ),
        (
            {"dtype": "half", "enable_dp_attention": True, "tensor_parallel_size": 8, "data_parallel_size": 8},
            {"name": "deepseek-r1"},
            "sglang_dtype: with 128 attention heads on one GPU a kernel of SGLang takes bfloat16 only, found half; set "
            "bfloat16, or spread the heads over more GPUs",
        ),
        (
            {"speculative_num_steps": 3},
            {},
            "sglang_speculative_num_steps needs sglang_speculative_algorithm",
        ),
        (
            {"speculative_algorithm": "EAGLE", "speculative_num_steps": 3, "speculative_num_draft_tokens": 4},
            {},
            "sglang_speculative_eagle_topk: set it too; SGLang takes all three numbers or none",
        ),
        (
            {"speculative_algorithm": "EAGLE"},
            {"version": "0.4.3.post2"},
            "sglang_speculative_algorithm: SGLang 0.4.3.post2 needs an sgl-kernel for it that has left the package "
            "index",
        ),
        (
            {"context_length": 200000},
            {},
            "sglang_context_length: 200000 is more than the 163840 tokens of deepseek-r1-awq",
        ),
        ({"ssl_certfile": "/etc/ssl/crt"}, {}, "sglang_ssl_certfile and sglang_ssl_keyfile must be set together"),
    ],
)
def test_what_is_refused(values, facts, line):
    assert check(values, **facts)[0] == [line]


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        ({}, {}),
        (
            {"tensor_parallel_size": 8, "data_parallel_size": 8, "enable_dp_attention": True, "dtype": "bfloat16"},
            {},
        ),
        ({"tensor_parallel_size": 8, "data_parallel_size": 8, "enable_dp_attention": True}, {"name": "deepseek-r1"}),
        # Fewer heads a GPU: another kernel; other releases are not known to have it.
        ({"tensor_parallel_size": 2}, {}),
        ({"tensor_parallel_size": 1}, {"version": "0.5.10.post1"}),
        ({"quantization": "awq_marlin", "dtype": "bfloat16"}, {}),
        ({"tensor_parallel_size": 16, "nnodes": 2}, {"name": "deepseek-r1", "hosts": 2}),
        # Each host by a run of its own.
        ({"tensor_parallel_size": 16, "nnodes": 2, "node_rank": 1}, {"name": "deepseek-r1"}),
        (
            {
                "speculative_algorithm": "EAGLE",
                "speculative_num_steps": 3,
                "speculative_eagle_topk": 1,
                "speculative_num_draft_tokens": 4,
            },
            {},
        ),
        ({"tensor_parallel_size": 1, "disable_cuda_graph": True}, {"name": "tiny-qwen2", "profile": "cpu", "gpus": 0}),
    ],
)
def test_what_is_right(values, facts):
    assert check(values, **facts) == ([], [])


@pytest.mark.parametrize(
    ("values", "word"), [({"disable_cuda_graph": True}, "CUDA graphs"), ({"trust_remote_code": True}, "Python code")]
)
def test_what_is_warned_of(values, word):
    problems, warnings = check(values)
    assert problems == []
    assert [word in line for line in warnings] == [True]


def test_more_than_one_rank_on_cpus_wants_what_no_lock_has():
    problems, (warning,) = check({"tensor_parallel_size": 2}, "tiny-qwen2", profile="cpu", gpus=0)
    assert problems == []
    assert "intel_extension_for_pytorch" in warning
    (lock,) = (ROOT / "roles/sglang/files/locks").glob("*-cpu.lock")
    assert "intel-extension-for-pytorch" not in lock.read_text(encoding="utf-8")


@pytest.mark.parametrize("version", ["0.4.3.post2", "0.5.10.post1", "0.5.23"])
@pytest.mark.parametrize("name", [name for name in CATALOG if "sglang" in CATALOG[name].get("engines", [])])
def test_the_recipes_of_the_catalog_hold(name, version):
    """Each is of parameters that its releases know, and right on as many hosts of 8 GPUs as it asks for."""
    recipe = engine_parameters.recipe_of(CATALOG[name].get("recipes", {}).get("sglang", []), version)
    values = engine_parameters.filled(TABLE, {}, recipe)
    assert engine_parameters.check_values(TABLE, values, "sglang") == []
    assert engine_parameters.check_version(TABLE, values, "sglang", "SGLang", version) == []
    assert check(values, name, version=version, hosts=values.get("nnodes") or 1) == ([], [])


def test_a_host_without_gpus_is_refused_by_the_role_alone():
    assert check({"tensor_parallel_size": 1}, "deepseek-r1", gpus=0) == ([], [])


def test_whole_experts_make_a_size_possible_and_are_named():
    model = {
        "name": "qwen3", "weight_bits": 8,
        "architecture": {
            "name": "qwen3_moe", "parameters": 235090000000, "layers": 94, "hidden_size": 4096, "attention_heads": 64,
            "kv_heads": 4, "head_dim": 128, "moe_intermediate_size": 1536, "experts": 128, "experts_used": 8,
            "weight_block": 128, "vocabulary": 151936, "context": 40960,
        },
    }  # fmt: skip
    (problem,), _warnings = check({"tensor_parallel_size": 8}, model=model)
    assert problem.endswith("; possible are 1, 2, 4, or 8 with expert_parallel_size 8")
    assert check({"tensor_parallel_size": 8, "expert_parallel_size": 8}, model=model)[0] == []
    (problem,), _warnings = check({"context_length": 131072}, model=model)
    assert problem == "sglang_context_length: 131072 is more than the 40960 tokens of qwen3"
    allowed = {"SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN": "1"}
    assert check({"context_length": 131072}, model=model, environment=allowed)[0] == []
