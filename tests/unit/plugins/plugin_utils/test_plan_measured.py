# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What engines measured, beside the plan: figures of real runs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.figures import of_log
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import plan_machine, plan_text, planning
from plan_cases import CATALOG, engine, plan

GIB, MIB = 1024**3, 1024**2


def beside(machine, record, catalog=None, **settings):
    engines = [engine(record["engine"], **settings)]
    host = planning.Host(True, (record,), {}, 10**12)
    wish = planning.Wish(record["engine"], record["model"], True)
    found = plan(machine, wish=wish, engines=engines, host=host, catalog=catalog or CATALOG)
    (one,) = found["measured"]
    assert any("measured" in line and record["model"] in line for line in plan_text.lines(found))
    return {figure["name"]: figure for figure in one["figures"]}


def test_r1_of_five_layers_on_an_h100():
    """vLLM 0.26.0: 47.08 GiB of weights, 18.85 GiB for 3,513,712 tokens (benchmarks/README.md).

    Its files have 46.88 GiB: 4 × 257 × 3 × 7168 × 2048 + 5 × 187.1 M + 3 × 7168 × 18432 in FP8, 2 × 129280 × 7168 and
    the gates in 16 bits. 0.16 more are kv_b_proj once more, the rest tables of positions.
    """
    five = dict(CATALOG["deepseek-r1"], bytes=int(46.88 * GIB), recipes={})
    five["architecture"] = dict(five["architecture"], layers=5, dense_layers=1)
    measured = {"weights": int(47.08 * GIB), "kv": int(18.85 * GIB), "kv_tokens": 3513712, "source": "log"}
    record = {"engine": "vllm", "model": "five", "device": "gpu", "measured": measured}
    sizes = ["--compilation-config", '{"cudagraph_capture_sizes": [1, 32]}']
    found = beside("1xH100", record, dict(CATALOG, five=five), gpu_memory_utilization=0.85, extra_args=sizes)
    assert found["bytes a token"]["planned"]["value"] == 5760
    assert abs(found["bytes a token"]["error_percent"]) < 0.1
    assert abs(found["weights"]["error_percent"]) < 0.15
    # Two sizes of CUDA graphs, five layers: 1.4 GiB of overhead where 3 are the least that is planned, and it says so.
    assert found["KV tokens"]["error_text"] == "planned -8.4 %"


def test_r1_of_eight_layers_on_two_h200():
    """vLLM 0.26.0 at TP 2: 39.74 GiB and 9.44 million tokens a GPU; the overhead lay in the planned range."""
    eight = dict(CATALOG["deepseek-r1"], bytes=int(79.05 * GIB), recipes={})
    eight["architecture"] = dict(eight["architecture"], layers=8, dense_layers=1)
    measured = {"weights": int(39.74 * GIB), "kv_tokens": 9440000, "kv": 9440000 * 9216, "source": "log"}
    record = {"engine": "vllm", "model": "eight", "device": "gpu", "measured": measured}
    found = beside("2xH200", record, dict(CATALOG, eight=eight), gpu_memory_utilization=0.95, version="0.32.0")
    assert abs(found["weights"]["error_percent"]) < 0.15
    assert found["bytes a token"]["error_percent"] == 0
    low, high = found["KV tokens"]["planned"]["value"]
    assert low < high


def test_r1_of_five_layers_on_two_h200_with_0_32():
    """vLLM 0.32.0 at TP 2, 0.33 of the memory: 23.58 GiB, 11.41 GiB for 2,127,440 tokens a GPU; 11.14 set aside."""
    five = dict(CATALOG["deepseek-r1"], bytes=int(46.88 * GIB), recipes={})
    five["architecture"] = dict(five["architecture"], layers=5, dense_layers=1)
    measured = {"weights": int(23.58 * GIB), "kv": int(11.41 * GIB), "kv_tokens": 2127440, "source": "log"}
    record = {"engine": "vllm", "model": "five", "device": "gpu", "measured": measured}
    found = beside("2xH200", record, dict(CATALOG, five=five), gpu_memory_utilization=0.33, version="0.32.0")
    assert abs(found["weights"]["error_percent"]) < 0.15
    low, high = found["KV tokens"]["planned"]["value"]
    assert low < 2127440 < high


def test_llama_cpp_on_a_cpu():
    """SmolLM2 with a context of 4,096: the log of a real run (llama.cpp b11669)."""
    measured = {"weights": 98349056, "kv": 90 * MIB, "kv_tokens": 4096, "source": "log"}
    record = {"engine": "llama_cpp", "model": "smollm2-135m-instruct", "device": "cpu", "measured": measured}
    memory = {"total_mib": 16000, "available_mib": 12000, "users": {}}
    machine = plan_machine.Machine("host", {"status": "not_installed", "gpus": []}, memory)
    found = beside(machine, record, context=4096, parallel=1)
    assert found["KV cache"]["planned"] == {"value": 90 * MIB, "label": "exact", "how": "context × sequences"}
    assert found["KV cache"]["error_percent"] == 0 and found["KV tokens"]["error_percent"] == 0
    assert abs(found["weights"]["error_percent"]) < 0.1


def test_of_a_model_that_is_not_in_the_catalog_only_what_was_measured_is_shown():
    record = {"engine": "vllm", "model": "mine", "measured": {"kv_tokens": 5, "source": "metrics"}}
    engines = [engine("vllm")]
    wish = planning.Wish("vllm", "deepseek-r1-awq", True)
    found = plan("8xH100", wish=wish, engines=engines, host=planning.Host(True, (record,), {}, None))
    (figure,) = found["measured"][0]["figures"]
    assert figure["planned"] == {"value": None, "label": "not known", "how": "no plan of it"}
    assert figure["measured"]["label"] == "measured" and figure["error_percent"] is None


def test_vllm_on_a_cpu():
    """A line of a real log: 0.32.0, the tiny model in DeepSeek V3's architecture, 1 GiB for its cache."""
    line = (
        "INFO 11-27 19:34:16 [kv_cache_utils.py:2327] CPU KV cache size: 310,656 tokens, Maximum concurrency for 2,048"
    )
    measured = dict(of_log("vllm", [line]), source="log")
    record = {"engine": "vllm", "model": "tiny-deepseek-v3", "device": "cpu", "measured": measured}
    memory = {"total_mib": 24000, "available_mib": 20000, "users": {}}
    machine = plan_machine.Machine("host", {"status": "not_installed", "gpus": []}, memory)
    found = beside(machine, record, cpu_kv_cache_gib=1, max_model_len=2048)
    # 3 layers × (512 + 64) × 2 bytes; the engine rounds down to its blocks of 128 tokens.
    assert found["KV tokens"]["planned"]["value"] == 2**30 // 3456
    assert abs(found["KV tokens"]["error_percent"]) < 0.02
