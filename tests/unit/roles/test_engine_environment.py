# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engines are told of the network, of a shared NVSwitch, and where they are asked."""

import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import gangs

sys.path.insert(0, str(Path(__file__).parent))
from resolve import ROLES, resolve

GPU = {"nvidia_smi": {"status": "ok", "driver_version": "1", "cuda_version": "13.0", "gpus": [{"index": 0}]}}
MODEL = {"name": "it", "path": "/models/it", "bytes": 1, "files": [], "format": "safetensors"}
SGLANG = dict.fromkeys(["nnodes", "node_rank", "attn_dp_size", "data_parallel_size", "enable_dp_attention"])
CHECKED = {"_vllm_venv_checked": {"values": {}}, "_sglang_checked": {"values": SGLANG}}
MULTICAST_OFF = {"NCCL_NVLS_ENABLE": "0", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1", "NVSHMEM_DISABLE_NVLS": "1"}


def of(role, name, facts=GPU, **inventory):
    known = {
        "dsdeploy_model_files": MODEL,
        "dsdeploy_model_entry": {"name": "it"},
        "_dsdeploy_release": {"version": "1"},
        "inventory_hostname": "gpu1",
        "ansible_play_hosts_all": ["gpu1"],
        f"_{role}_guarded": {"role_files": str(ROLES / role / "files")},
        **CHECKED,
    }
    return resolve(role, "Ubuntu 24.04", name, facts, **{**known, **inventory})


@pytest.mark.parametrize(("role", "own"), [("vllm_venv", "VLLM_HOST_IP"), ("sglang", "SGLANG_HOST_IP")])
def test_the_processes_of_an_engine_talk_over_loopback(role, own):
    environment = of(role, f"_{role}_service")["environment"]
    found = {name: environment.get(name) for name in (own, "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")}
    assert found == {own: "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}


@pytest.mark.parametrize(("role", "engine"), [("vllm_venv", "vllm"), ("sglang", "sglang")])
@pytest.mark.parametrize("rank", [0, 1])
def test_over_several_hosts_the_processes_use_their_network(role, engine, rank):
    record = {"hosts": ["gpu1", "gpu2"], "rank": rank}
    gang = {"environment": gangs.environment(engine, "10.0.0.1", "eth0"), "record": record, "parameters": {}}
    gang["guard"] = gangs.guard(rank, 2, "10.0.0.2", "10.0.0.1", 29401)
    checked = {f"_{role}_checked": {"values": {**SGLANG, "nnodes": 2, "dist_init_addr": ""}}}
    service = of(role, f"_{role}_service", _dsdeploy_gang=gang, **checked)
    own = {"vllm": "VLLM_HOST_IP", "sglang": "SGLANG_HOST_IP"}[engine]
    found = {name: service["environment"].get(name) for name in (own, "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")}
    assert found == {own: "10.0.0.1", "GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": "eth0"}
    assert "network" in service["needs"]
    assert service["record"]["gang"] == record
    words = service["exec"]
    assert words[1].endswith("/gang-guard.py")
    assert words[2:12] == [
        *("--rank", str(rank), "--size", "2", "--head", "10.0.0.1"),
        *("--own", "10.0.0.2", "--port", "29401"),
    ]
    assert words[12:15] == ["--key-variable", service["api_key_variable"], "--"]
    assert words[15:17] == of(role, f"_{role}_service")["exec"][:2], "the engine as it is started alone"
    assert "gang" not in of(role, f"_{role}_service")["record"]


def test_what_deepgemm_compiles_for_r1_on_hopper_is_compiled_ahead():
    catalog = yaml.safe_load((ROLES / "model/defaults/main/catalog.yml").read_text())["model_catalog"]
    entry = {**catalog["deepseek-r1-0528-w4afp8"], "name": "it"}
    hopper = {"index": 0, "compute_capability": "9.0", "memory_total_mib": 143771}

    def environment(**more):
        facts = {"nvidia_smi": {**GPU["nvidia_smi"], "gpus": [hopper] * 8}}
        checked = {"_sglang_checked": {"values": {**SGLANG, "tensor_parallel_size": 8}}}
        known = {"dsdeploy_model_entry": entry, "sglang_version": "0.5.23", **checked, **more}
        return of("sglang", "_sglang_service", facts, **known)["environment"]

    assert environment()["DSDEPLOY_DEEP_GEMM"] == (
        "2112,7168 3072,1536 4096,512 7168,2048 4608,7168 7168,2304 512,7168 7168,256 --longest 8192"
    )
    assert "DSDEPLOY_DEEP_GEMM" not in environment(sglang_compile_ahead=False)
    assert "DSDEPLOY_DEEP_GEMM" not in environment(dsdeploy_model_entry={"name": "it"})


def test_preflight_is_told_of_the_model_that_is_served():
    files = {"path": "/w/it"}
    given = {"dsdeploy_models_dir": "/srv/models", "ansible_run_tags": ["all"], "dsdeploy_model_entry": {"name": "it"}}
    facts = {**GPU, "service_mgr": "systemd"}
    found = resolve("vllm_venv", "Ubuntu 24.04", "_dsdeploy_deployment", facts, **given, dsdeploy_model_files=files)
    assert (found["models_dir"], found["model"], found["model_path"]) == ("/srv/models", {"name": "it"}, "/w/it")
    assert resolve("vllm_venv", "Ubuntu 24.04", "_dsdeploy_deployment", facts, **given)["model_path"] == ""
    assert resolve("vllm_venv", "Ubuntu 24.04", "_dsdeploy_reads", facts, **given) == []
    own = {**given, "dsdeploy_model_entry": {"name": "it", "path": "/w/it"}}
    assert resolve("vllm_venv", "Ubuntu 24.04", "_dsdeploy_reads", facts, **own) == ["/w/it"]


@pytest.mark.parametrize("role", ["vllm_venv", "sglang"])
def test_multicast_is_off_on_a_shared_nvswitch_alone(role):
    service = of(role, f"_{role}_service", **{f"{role}_shared_nvswitch": True})
    assert {name: service["environment"].get(name) for name in MULTICAST_OFF} == MULTICAST_OFF
    alone = of(role, f"_{role}_service")
    assert not set(MULTICAST_OFF) & set(alone["environment"])
    (fusion,) = set(service["exec"]) - set(alone["exec"])
    assert "allreduce" in fusion
    if role == "vllm_venv":
        assert service["environment"]["VLLM_ALLREDUCE_USE_FLASHINFER"] == "0"
        assert service["environment"]["VLLM_ALLREDUCE_USE_SYMM_MEM"] == "0"


def test_a_recipe_s_variable_is_taken_away_by_null():
    command = {"argv": [], "environment": {"VLLM_X": "1", "VLLM_Y": "1"}}
    service = of("vllm_venv", "_vllm_venv_service", _vllm_venv_command=command, vllm_venv_environment={"VLLM_X": None})
    assert "VLLM_X" not in service["environment"]
    assert service["environment"]["VLLM_Y"] == "1"


@pytest.mark.parametrize(
    ("role", "url"),
    [
        ("vllm_venv", "http://[::1]:8000"),
        ("sglang", "http://[::1]:30000"),
        ("llama_cpp", "http://[::1]:8080"),
        ("ollama", "http://[::1]:11434"),
    ],
)
def test_an_engine_on_ipv6_loopback_is_asked_there(role, url):
    assert of(role, f"_{role}_endpoint", **{f"{role}_host": "::1"}) == url


def test_web_pages_of_other_origins_may_not_ask_llama_cpp():
    """Whatever a release allows by itself: some every origin, with credentials."""
    found = of("llama_cpp", "_llama_cpp_own_environment")
    assert found == {"LLAMA_ARG_CORS_ORIGINS": "http://localhost", "LLAMA_ARG_CORS_CREDENTIALS": "0"}
    named = of("llama_cpp", "_llama_cpp_own_environment", llama_cpp_allowed_origins=["https://a", "https://b"])
    assert named["LLAMA_ARG_CORS_ORIGINS"] == "https://a,https://b"
    service = (ROLES / "llama_cpp/tasks/service.yml").read_text(encoding="utf-8")
    assert "{{ _llama_cpp_own_environment | combine(llama_cpp_environment)" in service


def test_llama_cpp_with_tls_is_no_wheel():
    tls = {"llama_cpp_ssl_certfile": "/c", "llama_cpp_ssl_keyfile": "/k"}
    host = {"nvidia_smi": {"status": "not_installed", "gpus": []}, "architecture": "x86_64", "python_version": "3.11.2"}
    known = {"dsdeploy_model_files": dict(MODEL, format="gguf"), "dsdeploy_model_entry": {"name": "it"}}
    assert resolve("llama_cpp", "Debian 12", "_llama_cpp_method", host, **known) == "wheel"
    assert resolve("llama_cpp", "Debian 12", "_llama_cpp_method", host, **known, **tls) == "source"
