# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action deployment_plan: what it makes of a model that the catalog does not have."""

import types

import pytest
from ansible_collections.dsdeploy.llm.plugins.action import deployment_plan
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.catalog import resolve
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import plan_machine

FACTS = {"name": "llama", "layers": 16, "hidden_size": 2048, "attention_heads": 32, "kv_heads": 8,
         "intermediate_size": 8192, "vocabulary": 128256, "context": 131072}  # fmt: skip
CATALOGS = {"format": "safetensors", "engines": ["vllm"], "sources": [{"kind": "huggingface", "id": "x/big"}],
            "bytes": 600 * 10**9, "architecture": dict(FACTS, layers=60)}  # fmt: skip


def plan(model, entry, stored=()):
    action = types.SimpleNamespace(
        _machine=lambda args, _vars: plan_machine.of_gpus("1xH100"),
        _engine=lambda name, role, _vars: deployment_plan.plan_offers.Engine(name, "0.32.0", "13.0", settings={}),
    )
    args = dict(
        users=1, context=0, profile="", download_mb_s=100.0, merge="copy", explain=False, gang=[], facts_file=None,
        gpus=None, deployments=[], model=model, embedded="", engine="vllm", catalog={"model": CATALOGS},
        engines={"vllm": {"role": "vllm_venv", "formats": ["safetensors"]}}, model_entry=entry,
        store={"models": [{"name": name, "bytes": size, "complete": True} for name, size in stored]},
    )  # fmt: skip
    return deployment_plan.ActionModule._plan(action, args, {})["plan"]


@pytest.mark.parametrize("name", ["somebody/model", "/srv/model"])
def test_one_that_has_the_name_of_a_model_of_the_catalog_is_planned_itself(name):
    entry = dict(resolve({}, {}, name), format="safetensors", bytes=2 * 10**9, architecture=FACTS)
    found = plan(name, entry)["up"]
    assert found["row"]["bytes"]["value"] == 2 * 10**9 and found["row"]["verdict"] == "fits"
    assert f"--model {name} " in found["command"] + " "


def test_what_another_owner_has_in_the_store_is_not_this_one():
    entry = dict(resolve({}, {}, "somebody/model"), bytes=2 * 10**9, architecture=FACTS)
    for stored, size in (("model", 2 * 10**9), ("another--model", 2 * 10**9), ("somebody--model", 0)):
        costs = plan("somebody/model", entry, [(stored, 2 * 10**9)])["up"]["costs"]
        assert costs["download"]["value"] == size, stored


def test_a_gang_is_planned_over_all_its_hosts_with_the_least_of_them():
    def facts(free):
        gpu = {"name": "H100", "memory_total_mib": 81559, "memory_free_mib": free, "compute_capability": "9.0"}
        gpus = [dict(gpu, index=index) for index in range(8)]
        return {"nvidia_smi": {"gpus": gpus, "status": "ok"}, "dsdeploy_memory": {}}

    def machine(free):
        action = types.SimpleNamespace(_together=deployment_plan.ActionModule._together)
        args = {"gpus": None, "facts_file": None, "deployments": [], "facts": facts(81000), "gang_hosts": ["a", "b"]}
        hosts = {"a": {"ansible_facts": facts(81000)}, "b": {"ansible_facts": facts(free) if free else {}}}
        return deployment_plan.ActionModule._machine(action, args, {"inventory_hostname": "a", "hostvars": hosts})

    def offer(machine):
        entry = dict(CATALOGS, bytes=700 * 10**9, name="m")
        engine = deployment_plan.plan_offers.Engine("vllm", "0.32.0", "13.0", settings={})
        return deployment_plan.plan_offers.offer("m", entry, engine, machine, deployment_plan.plan_offers.Ask())

    whole = offer(machine(81000))
    assert whole["verdict"] == "fits" and whole["layout"]["pipeline_parallel"] == 2
    busy = offer(machine(40000))
    assert busy["verdict"] == "no" and "on GPU 0 of b 39.1 GiB of 79.6 GiB are free" in busy["why"]
    assert machine(None).hosts == 1  # one that cannot be reached: `up` would refuse, and the lines say so


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("environment", ["a"], "vllm_venv_environment is ['a'], not a mapping"),
        ("extra_args", "--x", "vllm_venv_extra_args is '--x', not a list"),
        ("tensor_parallel_size", "all", "vllm_venv_tensor_parallel_size is 'all', not a whole number"),
        ("data_parallel_size", True, "vllm_venv_data_parallel_size is True, not a whole number"),
    ],
)
def test_a_setting_of_another_kind_is_refused_in_a_line(name, value, said):
    """`up` refuses it in the engine's preflight; of a plan it was a traceback."""
    action = types.SimpleNamespace(_templar=types.SimpleNamespace(template=lambda text: text))
    variables = {f"vllm_venv_{name}": value}
    with pytest.raises(Failure) as caught:
        deployment_plan.ActionModule._engine(action, "vllm", "vllm_venv", variables)
    assert (str(caught.value), caught.value.error_kind) == (said, "usage")
    for good in (None, "", 4, "4"):
        variables = {"vllm_venv_tensor_parallel_size": good, "vllm_venv_environment": {}, "vllm_venv_extra_args": []}
        found = deployment_plan.ActionModule._engine(action, "vllm", "vllm_venv", variables)
        assert found.settings["tensor_parallel_size"] == good
