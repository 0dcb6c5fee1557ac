# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What SGLang takes from DeepGEMM, against what its log said on an H200 (0.5.23, R1's shapes)."""

from pathlib import Path

import pytest
import yaml
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import sglang_kernels

ROOT = Path(__file__).resolve().parents[4]
CATALOG = yaml.safe_load((ROOT / "roles/model/defaults/main/catalog.yml").read_text())["model_catalog"]
W4AFP8, FP8 = CATALOG["deepseek-r1-0528-w4afp8"], CATALOG["deepseek-r1"]
H200 = [{"compute_capability": "9.0", "memory_total_mib": 143771}]
# "Try DeepGEMM JIT Compiling for <GEMM_NT_F8F8BF16> N=…, K=…", in its order; the last with the first long prompt.
ATTENTION = [(2112, 7168), (24576, 1536), (7168, 16384), (32768, 512)]
DENSE, SHARED = [(36864, 7168), (7168, 18432)], [(4096, 7168), (7168, 2048)]


def test_the_products_are_those_that_its_log_named():
    assert sorted(sglang_kernels.dense_products(W4AFP8, 1, 1)) == sorted(ATTENTION + DENSE + SHARED)
    assert sorted(sglang_kernels.dense_products(FP8, 1, 1)) == sorted(ATTENTION + DENSE)


def test_each_gpu_has_its_share():
    assert (3072, 1536) in sglang_kernels.dense_products(FP8, 8, 8)
    assert (7168, 2304) in sglang_kernels.dense_products(FP8, 8, 8)
    # With attention of its own on each rank only the rest is cut.
    own = sglang_kernels.dense_products(FP8, 8, 1)
    assert {(24576, 1536), (7168, 2304)} <= set(own)


@pytest.mark.parametrize("changed", [
    {"version": "0.5.10.post1"}, {"gpus": []}, {"gpus": [{"compute_capability": "10.0", "memory_total_mib": 183359}]},
    {"gpus": [{"compute_capability": None, "memory_total_mib": 81559}]}, {"entry": CATALOG["deepseek-r1-awq"]},
    {"entry": CATALOG["qwen2.5-72b-instruct"]}, {"entry": {}}, {"extra_args": ["--fp8-gemm-backend", "triton"]},
    {"gpus": [dict(H200[0], memory_total_mib=None)]},
    {"gpus": [dict(H200[0], mig={"mode": "Enabled", "instances": []})]},
    {"environment": {"SGLANG_ENABLE_JIT_DEEPGEMM": "0"}}, {"environment": {"SGLANG_JIT_DEEPGEMM_PRECOMPILE": "false"}},
])  # fmt: skip
def test_nothing_is_compiled_ahead_where_sglang_would_not_or_it_was_not_measured(changed):
    asked = {"entry": W4AFP8, "gpus": H200, "version": "0.5.23", "tensor": 1}
    assert sglang_kernels.deep_gemm_products(**asked).startswith("2112,7168 24576,1536 ")
    assert sglang_kernels.deep_gemm_products(**{**asked, **changed}) == ""


@pytest.mark.parametrize(("mib", "chunked", "tokens"), [
    (143771, 0, 8192), (81559, 0, 8192), (183359, 0, 16384), (24564, 0, 4096), (16384, 0, 2048), (81559, 4096, 4096),
    (81559, -1, 16384), (81559, 65536, 32768),
])  # fmt: skip
def test_the_largest_batch_is_the_servers(mib, chunked, tokens):
    assert sglang_kernels.longest(mib, chunked) == tokens


@pytest.mark.parametrize(("gpu", "chunked", "tokens"), [
    ({}, 0, 8192), ({"mig": {"mode": "Enabled", "instances": [{"index": 0, "memory_total_mib": 10112}]}}, 0, 2048),
    ({"memory_total_mib": None}, 4096, 4096), ({"memory_total_mib": None}, -1, 16384),
])  # fmt: skip
def test_of_a_divided_gpu_it_goes_by_the_instance_and_where_it_is_set_by_no_memory(gpu, chunked, tokens):
    asked = {"entry": W4AFP8, "gpus": [{**H200[0], **gpu}], "version": "0.5.23", "tensor": 1, "chunked": chunked}
    assert sglang_kernels.deep_gemm_products(**asked).endswith(f" --longest {tokens}")
