# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action model_fit: what it makes of an engine's settings."""

import types

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.task import Task
from ansible.template import Templar
from ansible_collections.dsdeploy.llm.plugins.action import model_fit

FACTS = {"name": "qwen3", "layers": 36, "hidden_size": 4096, "attention_heads": 32, "kv_heads": 8, "head_dim": 128,
         "intermediate_size": 12288, "vocabulary": 151936, "context": 40960}  # fmt: skip
MODEL = {"name": "m", "format": "safetensors", "bytes": 16 * 10**9, "weight_bits": 16, "architecture": FACTS}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


def smi(*free, total=81559):
    names = {"name": "H100", "memory_total_mib": total, "memory_reserved_mib": 0}
    return {"gpus": [dict(names, index=index, memory_free_mib=mib) for index, mib in enumerate(free)]}


def fit(engine="vllm", hostvars=None, **args):
    """The result of the action."""
    task = Task()
    task.args = dict({"model": MODEL, "nvidia_smi": smi(80000), "engine": engine, "refuse": False}, **args)
    task.async_val, task.check_mode = 0, False
    hostvars = hostvars or {}
    task_vars = {"inventory_hostname": "gpu1", "hostvars": hostvars, "ansible_play_hosts_all": sorted(hostvars),
                 "groups": {"all": sorted(hostvars)}}  # fmt: skip
    connection = types.SimpleNamespace(_shell=types.SimpleNamespace(tmpdir=None), transport="local")
    loader = DataLoader()
    templar = Templar(loader=loader)
    action = model_fit.ActionModule(task, connection, types.SimpleNamespace(), loader, templar, None)
    result = action.run(task_vars=task_vars)
    assert "fit" in result or result.get("failed"), result
    return result


@pytest.mark.parametrize(
    ("engine", "settings", "context"),
    [
        ("vllm", {}, 40960),
        ("vllm", {"hf_overrides": {"rope_parameters": YARN}}, 131072),
        ("vllm", {"hf_overrides": {"max_position_embeddings": 20480}}, 20480),
        # As far as it was told: that more is allowed does not make it serve more.
        ("vllm", {"environment": {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}}, 40960),
        ("sglang", {"json_model_override_args": {"max_position_embeddings": 65536}}, 65536),
        ("sglang", {"max_total_tokens": 9000}, 9000),
        ("llama_cpp", {}, 8192),
    ],
)
def test_the_context_of_an_engine_that_is_told_none(engine, settings, context):
    bare = dict(MODEL, architecture={key: value for key, value in FACTS.items() if key != "context"})
    assert fit(engine, settings={}, model=bare)["fit"]["context"] == 8192  # it does not say
    longer = {"hf_overrides": {"max_position_embeddings": 16384}}
    assert fit("vllm", settings=longer, model=bare)["fit"]["context"] == 16384
    model = dict(MODEL, format="gguf") if engine == "llama_cpp" else MODEL
    found = fit(engine, settings=settings, model=model)
    assert found["fit"]["context"] == context and found["fit"]["verdict"] == "fits"
    assert fit(engine, settings=settings, context=4096, model=model)["fit"]["context"] == 4096


def test_the_type_of_the_cache_is_the_settings():
    found = fit(settings={"kv_cache_dtype": "int4_per_token_head"})["fit"]["per_gpu"]["kv_bytes_per_token"]["value"]
    assert found == 36 * 8 * (128 + 8)
    assert fit(settings={"kv_cache_dtype": "of_tomorrow"})["fit"]["verdict"] == "unknown"
    assert fit(settings={"dtype": "float32"})["fit"]["per_gpu"]["weights"]["value"] == 2 * MODEL["bytes"]


def gang(*free, records=()):
    """Variables of two hosts, the second with so much free on each of its GPUs."""
    facts = {"nvidia_smi": smi(*free), "dsdeploy_deployments": list(records)}
    return {"gpu1": {}, "gpu2": {"ansible_facts": facts}}


BIG = dict(MODEL, bytes=240 * 10**9)


def test_a_gang_is_planned_with_what_each_of_its_hosts_has_free():
    """The first host's free memory was taken for that of all of them."""
    here = smi(*[80000] * 4)
    both = {"nodes": 2, "pipeline_parallel": 2, "nvidia_smi": here, "utilization": 0.9, "context": 8192, "model": BIG}
    found = fit(hostvars=gang(*[80000] * 4), **both)["fit"]
    assert (found["verdict"], found["tensor_parallel"], found["gpus"]) == ("fits", 4, 8)
    found = fit(hostvars=gang(80000, 80000, 30000, 80000), **both)["fit"]
    assert found["verdict"] == "no"
    assert "on GPU 2 of gpu2 29.3 GiB of 79.6 GiB are free" in found["problems"][0]
    # SGLang takes its share of what is free: of the least.
    least = fit("sglang", gang(*[60000] * 4), **both)["fit"]["per_gpu"]["usable"]["value"]
    assert least == int(60000 * 2**20 * 0.9)


def test_of_a_gang_as_many_gpus_of_each_host_are_taken():
    here = smi(*[80000] * 4)
    both = {"nodes": 2, "tensor_parallel": 4, "nvidia_smi": here, "model": MODEL, "context": 8192}
    assert fit(hostvars=gang(80000, 80000, 30000, 30000), **both)["fit"]["verdict"] == "fits"
    assert fit(hostvars=gang(30000, 80000, 80000, 80000), **both)["fit"]["verdict"] == "no"


def test_what_a_host_of_a_gang_gives_back_counts_as_free():
    held = [{"pid": 7, "user": "dsdeploy-sglang", "used_memory_mib": 50000, "type": "C"}]
    hosts = gang(30000, records=[{"engine": "sglang", "user": "dsdeploy-sglang", "device": "gpu", "api": "openai"}])
    facts = hosts["gpu2"]["ansible_facts"]
    facts["nvidia_smi"]["gpus"][0]["processes"] = held
    both = {"nodes": 2, "pipeline_parallel": 2, "nvidia_smi": smi(80000), "context": 8192}
    assert fit(hostvars=hosts, **both)["fit"]["verdict"] == "fits"
    facts["dsdeploy_deployments"] = []
    assert fit(hostvars=hosts, **both)["fit"]["verdict"] == "no"


def test_a_host_without_facts_counts_as_this_one():
    both = {"nodes": 2, "pipeline_parallel": 2, "nvidia_smi": smi(80000), "context": 8192}
    assert fit(hostvars={"gpu1": {}, "gpu2": {}}, **both)["fit"]["verdict"] == "fits"
    refused = fit(hostvars={"gpu1": {}, "gpu2": {}, "gpu3": {}}, **both)
    assert refused["failed"] and refused["error_kind"] == "usage"
    assert "the model is served by 2 hosts, this run is about 3" in refused["msg"]


def test_a_draft_model_of_its_own_is_said_not_to_be_counted():
    settings = {"speculative_algorithm": "EAGLE3", "speculative_draft_model_path": "/srv/draft"}
    assert any("draft model" in line for line in fit("sglang", settings=settings)["fit"]["notes"])
    assert fit("sglang", settings={})["fit"]["notes"] == []
    model = dict(MODEL, format="gguf")
    for words, said in ((["-md", "/srv/draft.gguf"], True), ([], False)):
        notes = fit("llama_cpp", settings={"extra_args": words}, model=model)["fit"]["notes"]
        assert any("draft model" in line for line in notes) is said


def test_the_type_of_ollamas_cache_is_the_settings():
    model = dict(MODEL, format="gguf")
    for kind, size in (("f16", 2), ("q8_0", 1.0625), ("q4_0", 0.5625), (None, 2)):
        found = fit("ollama", settings={"kv_cache_type": kind}, model=model)["fit"]
        assert found["kv_bytes_per_token"]["value"] == 36 * 2 * 8 * 128 * size
