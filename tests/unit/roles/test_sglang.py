# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What SGLang's role makes of a host, and of several hosts that serve one model."""

import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import parameters as engine_parameters
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import gangs

sys.path.insert(0, str(Path(__file__).parent))
from resolve import ROLES, resolve

CATALOG = yaml.safe_load((ROLES / "model/defaults/main/catalog.yml").read_text(encoding="utf-8"))["model_catalog"]
TABLE = yaml.safe_load((ROLES / "sglang/vars/main/parameters.yml").read_text(encoding="utf-8"))["_sglang_table"]


def gpus(count, cuda):
    found = [{"index": index, "name": "NVIDIA H800"} for index in range(count)]
    return {"nvidia_smi": {"status": "ok", "driver_version": "1", "cuda_version": cuda, "gpus": found}}


def of(name, host_facts, model="deepseek-r1-awq", **inventory):
    inventory = {
        "inventory_hostname": "gpu1",
        "ansible_play_hosts_all": ["gpu1"],
        "hostvars": {"gpu1": {"ansible_host": "10.0.0.1"}, "gpu2": {"ansible_host": "10.0.0.2"}},
        "dsdeploy_model_entry": dict(CATALOG[model], name=model),
        "_sglang_guarded": {"role_files": str(ROLES / "sglang/files")},
        "dsdeploy_model_files": {"name": model, "path": "/models/it", "bytes": 1, "files": [], "format": "safetensors"},
        **inventory,
    }
    return resolve("sglang", "Ubuntu 22.04", name, host_facts, **inventory)


def command_line(host_facts, **more):
    """As rooms preflight and configure make it."""
    version = str(of("sglang_version", host_facts, **more)).strip()
    recipe = engine_parameters.recipe_of(of("_sglang_recipes", host_facts, **more), version)
    checked = {"values": engine_parameters.filled(TABLE, of("_sglang_values", host_facts, **more), recipe)}
    more = {"_sglang_fit": {"fit": {"tensor_parallel": 8}}, **more}
    served = of("_sglang_served_values", host_facts, _sglang_checked=checked, **more)
    served = engine_parameters.filled(TABLE, served, recipe)
    assert engine_parameters.check_values(TABLE, served, "sglang") == []
    return engine_parameters.render(TABLE, served)


@pytest.mark.parametrize(
    ("host_facts", "version", "python"),
    [
        ({}, "0.4.3.post2", "3.11"),
        (gpus(8, "12.4"), "0.5.10.post1", "3.12"),
        (gpus(8, "13.0"), "0.5.23", "3.12"),
    ],
)
def test_the_version_is_the_newest_that_the_host_can_run(host_facts, version, python):
    assert of("sglang_version", host_facts) == version
    assert str(of("sglang_python", host_facts)) == python
    name = of("_sglang_lock_name", host_facts)
    assert (ROLES / f"sglang/files/locks/{name}.lock").exists()


def test_on_a_cpu_it_is_what_serves_there_and_the_user_wins():
    words = command_line({}, model="tiny-qwen2", sglang_mem_fraction_static=0.5, sglang_enable_metrics=False)
    line = " ".join(words)
    assert "--device cpu" in line
    assert "--attention-backend torch_native" in line
    assert "--sampling-backend pytorch" in line
    assert "--mem-fraction-static 0.5" in line
    assert "--enable-metrics" not in line
    assert "--reasoning-parser" not in line


def test_one_host_of_eight_gpus_serves_r1_in_awq():
    assert command_line(gpus(8, "12.4")) == [
        *("--model-path", "/models/it", "--served-model-name", "deepseek-r1-awq"),
        *("--host", "127.0.0.1", "--port", "30000", "--tensor-parallel-size", "8"),
        *("--quantization", "moe_wna16", "--reasoning-parser", "deepseek-r1", "--enable-metrics"),
    ]


@pytest.mark.parametrize(("host", "rank"), [("gpu1", "0"), ("gpu2", "1")])
def test_two_hosts_serve_r1_in_fp8_together(host, rank):
    line = " ".join(
        command_line(
            gpus(8, "12.4"),
            model="deepseek-r1",
            inventory_hostname=host,
            ansible_play_hosts_all=["gpu1", "gpu2"],
            _dsdeploy_gang={"parameters": gangs.placement("sglang", rank, 2, "10.0.0.1", 5000)},
        )
    )
    assert "--tensor-parallel-size 16" in line
    assert f"--nnodes 2 --node-rank {rank} --dist-init-addr 10.0.0.1:5000" in line
    assert "--quantization" not in line


def test_on_gpus_it_compiles_with_what_was_found():
    facts = {**gpus(1, "13.0"), "nvcc": [{"path": "/usr/local/cuda-13.0/bin/nvcc", "version": "13.0.88"}]}
    environment = of("_sglang_profile_environment", facts)["cuda"]
    assert environment["CUDA_HOME"] == "/usr/local/cuda-13.0"
    # What is compiled is kept for the next start, below the service's own directory.
    caches = {value for name, value in environment.items() if name.endswith(("DIR", "_PATH", "BASE"))}
    assert caches and all(path.startswith("/var/lib/dsdeploy/dsdeploy-sglang/compiled/") for path in caches)
    # Not 16,384 sizes of each of DeepGEMM's products before it answers.
    assert environment["SGLANG_JIT_DEEPGEMM_FAST_WARMUP"] == "1"


@pytest.mark.parametrize("host_facts", [{}, gpus(8, "12.4"), gpus(8, "13.0")])
def test_root_asks_for_its_options_without_the_caches_of_its_user(host_facts):
    """CUDA would make them, and their parents for root alone."""
    found = of("_sglang_help_environment", host_facts)
    assert not [value for value in found.values() if "/var/lib" in str(value)], found
    assert found.get("TORCHDYNAMO_DISABLE") == (None if host_facts else "1")
