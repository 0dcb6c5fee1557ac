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
    task_vars = {"inventory_hostname": "gpu1", "hostvars": hostvars or {}}
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
    model = dict(MODEL, format="gguf") if engine == "llama_cpp" else MODEL
    found = fit(engine, settings=settings, model=model)
    assert found["fit"]["context"] == context and found["fit"]["verdict"] == "fits"
    assert fit(engine, settings=settings, context=4096, model=model)["fit"]["context"] == 4096


def test_the_type_of_the_cache_is_the_settings():
    found = fit(settings={"kv_cache_dtype": "int4_per_token_head"})["fit"]["per_gpu"]["kv_bytes_per_token"]["value"]
    assert found == 36 * 8 * (128 + 8)
    assert fit(settings={"kv_cache_dtype": "of_tomorrow"})["fit"]["verdict"] == "unknown"
    assert fit(settings={"dtype": "float32"})["fit"]["per_gpu"]["weights"]["value"] == 2 * MODEL["bytes"]
