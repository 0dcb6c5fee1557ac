# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SGLang's parameters against the `--help` of its releases: fixtures/sglang_help has the lines of their options."""

from pathlib import Path

import pytest
import yaml
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import parameters

ROOT = Path(__file__).resolve().parents[5]
TABLE = yaml.safe_load((ROOT / "roles/sglang/vars/main/parameters.yml").read_text(encoding="utf-8"))["_sglang_table"]
HELPS = ROOT / "tests/unit/fixtures/sglang_help"
# What each release does not know, by the table.
UNKNOWN = {
    "0.4.3.post2": {
        "ssl_keyfile",
        "ssl_certfile",
        "pipeline_parallel_size",
        "attn_dp_size",
        "reasoning_parser",
        "moe_runner_backend",
    },
    "0.5.10.post1": {"attn_dp_size", "enable_flashinfer_mla"},
    "0.5.23": {"enable_flashinfer_mla", "cuda_graph_max_bs"},
}
# A value for each parameter of the table, one that all releases take.
VALUES = {
    "model_path": "/models/tiny",
    "served_model_name": "tiny",
    "device": "cpu",
    "host": "127.0.0.1",
    "port": 30000,
    "ssl_keyfile": "/etc/ssl/key",
    "ssl_certfile": "/etc/ssl/crt",
    "tensor_parallel_size": 16,
    "pipeline_parallel_size": 1,
    "data_parallel_size": 8,
    "expert_parallel_size": 8,
    "enable_dp_attention": True,
    "attn_dp_size": 8,
    "nnodes": 2,
    "node_rank": 1,
    "dist_init_addr": "10.0.0.1:5000",
    "mem_fraction_static": 0.85,
    "context_length": 65536,
    "max_running_requests": 64,
    "max_total_tokens": 65536,
    "chunked_prefill_size": -1,
    "max_prefill_tokens": 16384,
    "cpu_offload_gb": 0,
    "schedule_policy": "lpm",
    "schedule_conservativeness": 1.0,
    "disable_radix_cache": True,
    "disable_overlap_schedule": True,
    "dtype": "bfloat16",
    "quantization": "awq_marlin",
    "kv_cache_dtype": "fp8_e4m3",
    "load_format": "safetensors",
    "trust_remote_code": True,
    "json_model_override_args": {"rope_theta": 1000000},
    "chat_template": "/models/template.jinja",
    "reasoning_parser": "deepseek-r1",
    "tool_call_parser": "qwen25",
    "attention_backend": "triton",
    "sampling_backend": "pytorch",
    "grammar_backend": "xgrammar",
    "moe_runner_backend": "triton",
    "enable_flashinfer_mla": True,
    "disable_cuda_graph": True,
    "cuda_graph_max_bs": 64,
    "disable_custom_all_reduce": True,
    "enable_torch_compile": True,
    "speculative_algorithm": "EAGLE",
    "speculative_draft_model_path": "/models/draft",
    "speculative_num_steps": 3,
    "speculative_eagle_topk": 1,
    "speculative_num_draft_tokens": 4,
    "enable_metrics": True,
    "log_level": "info",
    "log_requests": True,
    "watchdog_timeout": 600,
    "random_seed": 1,
}
RELEASES = sorted(UNKNOWN)


def known(release):
    return parameters.parse_help((HELPS / f"{release}.txt").read_text(encoding="utf-8"))


@pytest.mark.parametrize("release", RELEASES)
def test_the_table_says_of_each_parameter_what_the_release_says(release):
    assert set(VALUES) == set(TABLE)
    assert parameters.check_values(TABLE, VALUES, "sglang") == []
    by_table = {name for name in TABLE if parameters.is_outside(TABLE, name, release)}
    by_help = {name for name in TABLE if parameters.flag_of(name, TABLE[name]) not in known(release)}
    assert by_table == by_help == UNKNOWN[release]


@pytest.mark.parametrize("release", RELEASES)
def test_every_parameter_that_a_release_knows_is_rendered_for_it(release):
    values = {name: value for name, value in VALUES.items() if name not in UNKNOWN[release]}
    assert parameters.check_help(TABLE, values, "sglang", "SGLang", release, known(release)) == []
    words = parameters.render(TABLE, values)
    flags = [word for word in words if word.startswith("--")]
    assert len(flags) == len(values)
    assert set(flags) <= set(known(release))


@pytest.mark.parametrize("release", RELEASES)
def test_what_a_release_offers_is_not_refused(release):
    for name in {name for name, row in TABLE.items() if row.get("choices") or row.get("known")} - {"device"}:
        offered = known(release).get(parameters.flag_of(name, TABLE[name]), parameters.Known(())).choices
        for choice in set(offered) - {"...", "None"}:
            assert parameters.check_values(TABLE, {name: choice}, "sglang") == []


@pytest.mark.parametrize("name", ["load_format", "quantization", "attention_backend", "schedule_policy"])
def test_a_word_that_no_release_knows_is_refused_before_one_is_installed(name):
    (line,) = parameters.check_values(TABLE, {name: "bogus"}, "sglang")
    assert line.startswith(f"sglang_{name}: expected one of ")
    assert parameters.check_values(TABLE, {name: "bogus"}, "sglang", own_lock=True) == []


@pytest.mark.parametrize(
    ("release", "name", "value", "line"),
    [
        (
            "0.4.3.post2",
            "quantization",
            "moe_wna16",
            "sglang_quantization: SGLang 0.4.3.post2 does not know --quantization moe_wna16",
        ),
        ("0.4.3.post2", "speculative_eagle_topk", 3, "does not know --speculative-eagle-topk 3; it knows 1, 2, 4, 8"),
        ("0.5.23", "attention_backend", "flashinfr", "flashinfr; did you mean flashinfer?"),
    ],
)
def test_a_value_that_a_release_does_not_know_is_refused_by_name(release, name, value, line):
    problems = parameters.check_help(TABLE, {name: value}, "sglang", "SGLang", release, known(release))
    assert len(problems) == 1
    assert line in problems[0]


def test_what_has_left_is_refused_with_what_replaced_it():
    problems = parameters.check_version(TABLE, {"enable_flashinfer_mla": True}, "sglang", "SGLang", "0.5.23")
    assert problems == [
        "sglang_enable_flashinfer_mla: SGLang 0.5.23 does not know --enable-flashinfer-mla any more: set "
        "sglang_attention_backend to flashinfer"
    ]
