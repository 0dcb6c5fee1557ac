# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Seventy-five public models, from the values of their own config.json: right, or not known. docs/models.md shows them.

Each file of fixtures/configs holds ``source``, ``config`` (the keys that matter) and ``expected``, which was reckoned
by hand from the model's code and its published number of parameters. To write the table anew:
``DSDEPLOY_WRITE_DOCS=1 pytest tests/unit/plugins/module_utils/fit/test_public_models.py``.
"""

import json
import os
from pathlib import Path

import pytest
import shapes
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.config_facts import facts_of
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.catalog import check_entry

ROOT = Path(__file__).resolve().parents[5]
CONFIGS = {path.stem: json.loads(path.read_text()) for path in (ROOT / "tests/unit/fixtures/configs").glob("*.json")}
TABLE = ROOT / "docs/models.md"


def shape(name):
    return shapes.of_config(CONFIGS[name]["config"])


def test_there_are_at_least_forty():
    assert len(CONFIGS) >= 40


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_public_model(name):
    expected, found = CONFIGS[name]["expected"], shape(name)
    token = model_shape.kv_bytes_per_token(found)
    assert token["value"] == expected["kv_bytes"]
    assert token["label"] == ("not known" if expected["kv_bytes"] is None else "exact")
    assert found.experts == expected["experts"]
    assert model_shape.bounded(found)["window"] == expected["window"]
    parameters = model_shape.parameters(found)["value"]
    if expected["parameters"] is None:
        assert parameters is None
    else:
        assert parameters == pytest.approx(expected["parameters"], rel=0.01)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_the_catalog_can_say_all_of_it(name):
    facts = facts_of(CONFIGS[name]["config"])
    entry = {"format": "safetensors", "engines": ["vllm"], "sources": [{"kind": "huggingface", "id": "a/b"}]}
    assert check_entry("m", dict(entry, bytes=1000, architecture=facts)) == []


def row(name):
    found = shape(name)
    token, rest = model_shape.kv_bytes_per_token(found), model_shape.bounded(found)
    parameters = model_shape.parameters(found)["value"]
    apart = []
    if rest["window"]:
        apart.append(f"windows of {rest['window']:,} tokens: {rest['bytes'] / 2**20:,.1f} MiB")
    if rest["state"] is None:
        apart.append("states: not known")
    elif rest["state"]:
        apart.append(f"states: {rest['state'] / 2**20:,.1f} MiB")
    grows = "not known: " + ", ".join(found.unknown) if token["value"] is None else f"{token['value']:,}"
    cells = [
        f"[{name}]({CONFIGS[name]['source']})",
        "not known" if parameters is None else f"{parameters / 1e9:,.2f}",
        str(found.experts or "–"),
        grows,
        "; ".join(apart) or "–",
    ]
    return "| " + " | ".join(cells) + " |"


HEAD = """\
# What models keep of their tokens

Made by tests/unit/plugins/module_utils/fit/test_public_models.py; the same rules plan a model of your own
(`plugins/module_utils/fit/config_facts.py`). The values were written down from what is public: `config.json` as quoted,
papers, the defaults of the classes in transformers. A name links to the model's own file, which was not fetched for
this table. Where *parameters* are given they agree with the published number, which checks most values; the layer
patterns of Step 3.5 and Zamba 2, the heads of Qwen3.5 and the width of Command A's MLP have no second source yet.

- *Parameters* are those of the language model, in 10⁹, within 1 % of what is published; not known where a kind of layer
  has no formula here. A model's weights are then known from the size of its files.
- *Grows* are the bytes that each further token takes in all layers, in 16-bit numbers, on one GPU without tensor
  parallelism. A checkpoint that sets FP8 or NVFP4 for its cache (`kv_cache_scheme`) takes half, or less, where the
  engine heeds it: vLLM not for a latent cache by compressed-tensors, SGLang not where the model has other parts beside
  the text.
- *Apart* is what has a bound: windows when they are full, and states, for one sequence.

An engine without a cache for windows keeps all tokens of those layers too: what fits for certain is reckoned so.
vLLM puts layers into groups of one size and fills the last one up: for the 52 windows of Gemma 3 27B it takes 60, and
so does a plan for it. It takes whole blocks of tokens. In a model with states a block is as long as a state is large,
and of each state it holds two or three, to find the beginning of a sequence again.

A model that writes no text (BERT, T5, Whisper, a reward or an embedding model, a diffusion model) is refused by name.

Measured with vLLM 0.32.0 on a CPU and tiny models, windows of 8,192: one sequence of 65,536 tokens in batches of 8,192
takes what is planned where layers have windows, and 0.4 % more where half of them keep a state (Qwen3-Next's kind),
0.8 % where each has a state besides its cache (Falcon-H1's): on a CPU states have 32 bits. `molecule/vllm_venv_slow`
repeats it.

| model | parameters, 10⁹ | experts | grows, bytes a token | apart |
| --- | --- | --- | --- | --- |
"""


def test_the_table_in_the_docs_is_this():
    text = HEAD + "".join(row(name) + "\n" for name in sorted(CONFIGS))
    if os.environ.get("DSDEPLOY_WRITE_DOCS"):
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text(text)
    assert TABLE.read_text() == text
