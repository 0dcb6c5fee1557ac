# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings that cost people days, named by the plan and by `up`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from ansible_collections.dsdeploy.llm.plugins.action.model_fit import ActionModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.request import Request
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import fit_report, mistakes, plan_machine, planning
from plan_cases import CATALOG, SEED, engine, plan

R1 = 404430187616


def names(*arguments):
    return [one["name"] for one in mistakes.find(*arguments)]


@pytest.mark.parametrize(
    ("role", "settings", "expected"),
    [
        ("vllm_venv", {"enforce_eager": True}, ["eager"]),
        ("vllm_venv", {"enforce_eager": "true"}, ["eager"]),
        ("vllm_venv", {"extra_args": ["--enforce-eager"]}, ["eager"]),
        ("vllm_venv", {"enforce_eager": False, "extra_args": []}, []),
        ("vllm_venv", {"enforce_eager": None}, []),
        ("sglang", {"disable_cuda_graph": True}, ["eager"]),
        ("ollama", {"gpu_layers": 16}, ["few_layers"]),
        ("ollama", {"gpu_layers": "auto", "parameters": {"num_gpu": 16}}, ["few_layers"]),
        ("ollama", {"gpu_layers": "auto"}, []),
        ("ollama", {"gpu_layers": 62}, []),
        # None on the GPUs at all is somebody's choice.
        ("llama_cpp", {"gpu_layers": 0}, []),
        ("llama_cpp", {"gpu_layers": "61"}, ["few_layers"]),
        ("vllm_venv", {"host": "0.0.0.0"}, ["open"]),
        ("vllm_venv", {"host": "0.0.0.0", "has_api_key": True}, []),
        ("vllm_venv", {"host": "::1"}, []),
        ("ollama", {"host": "127.0.0.1", "environment": {"OLLAMA_HOST": "0.0.0.0:11434"}}, ["open"]),
        ("ollama", {"host": "0.0.0.0", "firewall_networks": ["10.0.0.0/8"]}, []),
        ("ollama", {"keep_alive": "10m"}, ["unloads"]),
        ("ollama", {"keep_alive": "-1"}, []),
        ("ollama", {"keep_alive": "-1", "environment": {"OLLAMA_KEEP_ALIVE": "5m"}}, ["unloads"]),
        ("ollama", {"keep_alive": "0"}, ["unloads"]),
        ("ollama", {"keep_alive": "soon"}, []),
        ("ollama", {}, []),
    ],
)
def test_what_is_found(role, settings, expected):
    assert names(role, settings, R1, 62) == expected


def test_what_is_not_known_is_no_mistake():
    assert names("ollama", {"gpu_layers": 16, "keep_alive": "10m"}, None, None) == []
    assert names("ollama", {"keep_alive": "10m"}, 10**9) == []


def test_keep_alive_in_seconds():
    cases = {
        "10m": 600,
        "1h30m": 5400,
        "600": 600,
        "-1": -1,
        "-5m": -300,
        "500ms": 0.5,
        "x": None,
        "": None,
        "1d": None,
    }
    assert {text: mistakes.seconds(text) for text in cases} == cases


def test_the_seeds_own_settings_are_told_by_the_plan():
    """Its Modelfile and environment: num_gpu 16, 0.0.0.0, ten minutes."""
    seed = {"gpu_layers": 16, "host": "0.0.0.0", "keep_alive": "10m", "context": 8192}
    wish = planning.Wish("ollama", "deepseek-r1-q4_k_m", True)
    found = plan(plan_machine.read(SEED), wish=wish, engines=[engine("ollama", **seed)], catalog=CATALOG)["up"]
    assert [one["name"] for one in found["mistakes"]] == ["few_layers", "open", "unloads"]
    assert "16 layers on the GPUs where 62 fit" in found["mistakes"][0]["what"]
    assert "376.7 GiB after 600 s" in found["mistakes"][2]["what"]
    assert all(one["fix"] for one in found["mistakes"])


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"engine": "ollama", "settings": {"gpu_layers": 16, "keep_alive": "10m"}}, ["few_layers", "unloads"]),
        ({"engine": "ollama", "settings": {"gpu_layers": "auto", "keep_alive": "-1"}}, []),
        ({"engine": "vllm", "settings": {"enforce_eager": True}}, ["eager"]),
        # On a CPU there are no graphs to do without.
        ({"engine": "sglang", "settings": {"disable_cuda_graph": True}, "device": "cpu"}, []),
        ({"engine": "vllm", "settings": {}}, []),
    ],
)
def test_up_names_them_in_its_preflight(more, expected):
    smi = plan_machine.read(SEED).nvidia_smi
    args = {"model": dict(CATALOG["deepseek-r1-q4_k_m"], name="r1"), "nvidia_smi": smi, "device": "gpu", **more}
    found = ActionModule._costly(None, args, Request(gpu_layers=16), ({}, (), False, 1))
    assert [one["name"] for one in found] == expected


def test_a_start_that_may_not_have_room_for_its_cache_is_said_before_it():
    """R1's layers on one H200, of which 0.45 may be used: vLLM 0.32.0 loaded for two minutes and ended."""
    entry = dict(CATALOG["deepseek-r1"], name="r1-5-layers", parameters=48465993728, bytes=None, files=[])
    entry["architecture"] = dict(entry["architecture"], layers=5, dense_layers=1, parameters=48465993728)
    machine = plan_machine.of_gpus("1xH200")
    lean = fit_report.check(entry, machine.nvidia_smi, Request(context=8192, utilization=0.45))
    assert lean["verdict"] == "tight"
    (line,) = fit_report.tight(entry, lean)
    assert line.startswith("r1-5-layers fits only if the engine needs little else")
    assert "weights take 45.1 GiB" in line
    roomy = fit_report.check(entry, machine.nvidia_smi, Request(context=8192, utilization=0.9))
    assert roomy["verdict"] == "fits"
    assert fit_report.tight(entry, roomy) == []
