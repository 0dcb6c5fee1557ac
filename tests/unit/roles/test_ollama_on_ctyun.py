# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What role ollama makes of the inventory ctyun on 8 × H800, which no test host is."""

import sys
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader

sys.path.insert(0, str(Path(__file__).parent))
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.request import Request
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import fit_report
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.value_rules import value_problems
from resolve import ROLES, resolve

CTYUN = DataLoader().load_from_file(str(ROLES.parent / "inventories/ctyun/group_vars/all/main.yml"))
MIRRORS = DataLoader().load_from_file(str(ROLES.parent / "inventories/ctyun/group_vars/all/mirrors.yml"))
TEMPLATE = CTYUN.pop("ollama_template")
R1 = dict(
    DataLoader().load_from_file(str(ROLES / "model/defaults/main/catalog.yml"))["model_catalog"]["deepseek-r1-q4_k_m"],
    name="deepseek-r1-q4_k_m",
)
H800 = {
    "status": "ok",
    "pci_gpu_count": 8,
    "gpus": [
        {"index": i, "name": "NVIDIA H800", "memory_total_mib": 81559, "memory_free_mib": 81555} for i in range(8)
    ],
}
STORE = "/data/dsdeploy/models/deepseek-r1-q4_k_m/main/DeepSeek-R1-Q4_K_M"


def on_ctyun(name, role="ollama", nvidia_smi=None, **variables):
    nvidia_smi = nvidia_smi or H800
    request = Request(context=CTYUN["ollama_context"], sequences=CTYUN["ollama_parallel"], gpu_layers=-1)
    known = {
        **CTYUN,
        **MIRRORS,
        "dsdeploy_model_entry": R1,
        "dsdeploy_model_files": {
            "name": R1["name"],
            "format": "gguf",
            "path": f"{STORE}/DeepSeek-R1-Q4_K_M-00001-of-00009.gguf",
            "bytes": sum(item["bytes"] for item in R1["files"]),
        },
        "_ollama_fit": {"fit": fit_report.check(R1, nvidia_smi, request)},
        **variables,
    }
    return resolve(role, "Ubuntu 22.04", name, {"nvidia_smi": nvidia_smi}, **known)


def test_all_62_layers_go_to_the_gpus_and_none_of_the_model_to_the_cpu():
    assert on_ctyun("_ollama_parameters") == {"num_ctx": 8192, "num_gpu": 62, "temperature": 0.6}
    assert on_ctyun("_ollama_fit.fit.cpu_share") == 0
    assert str(TEMPLATE) == "<｜User｜>{{ .System }} {{ .Prompt }}<｜Assistant｜>"


def test_on_half_of_the_gpus_the_split_is_an_honest_one():
    half = dict(H800, gpus=H800["gpus"][:4])
    layers = on_ctyun("_ollama_parameters", nvidia_smi=half)["num_gpu"]
    assert 20 < layers < 62
    assert 0.3 < on_ctyun("_ollama_fit.fit.cpu_share", nvidia_smi=half) < 0.7


def test_the_shards_become_one_file_beside_them():
    assert on_ctyun("_ollama_shards") is True
    assert on_ctyun("_ollama_model_path") == f"{STORE}/DeepSeek-R1-Q4_K_M.gguf"
    own = {"name": "r1", "format": "gguf", "path": "/srv/r1-00001-of-00002.gguf", "bytes": 1}
    # Nothing is written among the user's own files.
    assert on_ctyun("_ollama_model_path", dsdeploy_model_files=own) == "/data/ollama/models/r1.gguf"
    assert on_ctyun("_ollama_in_store", dsdeploy_model_files=own) is False
    # However the store is written.
    for store in ("/data/dsdeploy/models/", "/data/dsdeploy/models"):
        assert on_ctyun("_ollama_in_store", dsdeploy_models_dir=store) is True
        assert on_ctyun("_ollama_model_path", dsdeploy_models_dir=store) == f"{STORE}/DeepSeek-R1-Q4_K_M.gguf"
    whole = dict(own, path="/srv/r1.gguf")
    assert on_ctyun("_ollama_model_path", dsdeploy_model_files=whole) == "/srv/r1.gguf"


def test_its_environment_is_the_seeds_without_its_faults():
    found = on_ctyun("_ollama_environment")
    assert found["OLLAMA_HOST"] == "127.0.0.1:11434"
    assert found["OLLAMA_MODELS"] == "/data/ollama/models"
    assert found["OLLAMA_KEEP_ALIVE"] == "-1"
    assert found["OLLAMA_FLASH_ATTENTION"] == "1"
    # 404 GB from a cold disk of 100 MB/s, not five minutes.
    assert found["OLLAMA_LOAD_TIMEOUT"] == "4105s"
    assert "OLLAMA_ORIGINS" not in found
    # Without it the server asks ollama.com at every start, and sends prompts to models named -cloud there.
    assert found["OLLAMA_NO_CLOUD"] == "1"


@pytest.mark.parametrize(
    ("variables", "is_on"),
    [
        ({}, False),
        ({"ollama_cloud": True}, True),
        ({"ollama_environment": {"OLLAMA_NO_CLOUD": "0"}}, True),
        ({"ollama_environment": {"OLLAMA_NO_CLOUD": False}}, True),
        ({"ollama_environment": {"OLLAMA_NO_CLOUD": "yes"}}, False),
    ],
)
def test_the_cloud_is_on_only_where_something_says_so(variables, is_on):
    assert on_ctyun("_ollama_cloud_on", **variables) is is_on


def test_the_context_that_is_planned_is_the_one_that_is_loaded():
    assert on_ctyun("_ollama_context") == 8192
    assert on_ctyun("_ollama_context", ollama_parameters={"num_ctx": 1024}) == 1024


@pytest.mark.parametrize(("version", "copies"), [("0.24.0", 1), ("0.32.15", 3)])
def test_the_disk_is_asked_for_ollamas_own_copies_too(version, copies):
    (extra,) = on_ctyun("model_extra_disk", role="model", model_engine="ollama", ollama_version=version)
    assert extra["path"] == "/data/ollama/models"
    assert extra["bytes"] == copies * sum(item["bytes"] for item in R1["files"])
    assert on_ctyun("model_extra_disk", role="model", model_engine="llama_cpp") == []


@pytest.mark.parametrize(
    ("version", "archive"),
    [
        ("0.24.0", "v0.24.0/ollama-linux-amd64.tar.zst"),
        ("0.13.5", "v0.13.5/ollama-linux-amd64.tgz"),
    ],
)
def test_the_archive_of_a_version_comes_through_the_proxy(version, archive):
    url = on_ctyun("_ollama_url", ollama_version=version)
    assert url == f"https://gh-proxy.com/https://github.com/ollama/ollama/releases/download/{archive}"


def test_only_the_default_versions_sha256_is_known():
    assert len(on_ctyun("ollama_sha256")) == 64
    assert on_ctyun("ollama_sha256", ollama_version="0.23.0") == ""


def test_shards_of_the_user_s_own_are_never_consumed():
    (merge,) = [
        task["dsdeploy.llm.gguf_merge"]
        for task in DataLoader().load_from_file(str(ROLES / "ollama/tasks/configure.yml"))
        if "dsdeploy.llm.gguf_merge" in task
    ]

    def consumes(path, **variables):
        files = {"name": "r1", "format": "gguf", "path": path, "bytes": 1}
        known = {"dsdeploy_model_files": files, "_consume": merge["consume"], **variables}
        return on_ctyun("_consume", **known)

    shard = "DeepSeek-R1-Q4_K_M-00001-of-00009.gguf"
    assert consumes(f"{STORE}/{shard}", ollama_merge="consume") is True
    assert consumes(f"{STORE}/{shard}", ollama_merge="copy") is False
    # They were removed, and the next run did not find the model.
    assert consumes(f"/srv/{shard}", ollama_merge="consume") is False


@pytest.mark.parametrize(
    ("entry", "served", "wrong"),
    [
        ("deepseek-r1-q4_k_m", "", False),
        # Of /srv/Qwen3 8B (Q4).gguf; it was refused once Ollama was installed and ran.
        ("Qwen3 8B (Q4)", "", True),
        ("Qwen3 8B (Q4)", "qwen3:8b", False),
    ],
)
def test_a_name_that_ollama_does_not_take_is_refused_first(entry, served, wrong):
    tasks = DataLoader().load_from_file(str(ROLES / "ollama/tasks/preflight.yml"))
    values = tasks[0]["dsdeploy.llm.engine_guards"]["values"]
    (name,) = [one for one in values if one["name"] == "ollama_served_model_name"]
    known = {"_it": name["value"], "dsdeploy_model_entry": {"name": entry}, "ollama_served_model_name": served}
    problems = value_problems([dict(name, value=on_ctyun("_it", **known))])
    assert bool(problems) is wrong
    assert not wrong or "ollama_served_model_name" in problems[0]


def test_false_as_the_command_line_gives_it_is_false():
    environment = on_ctyun("_ollama_environment", ollama_flash_attention="false", ollama_sched_spread="no")
    assert (environment["OLLAMA_FLASH_ATTENTION"], environment["OLLAMA_SCHED_SPREAD"]) == ("0", "0")
