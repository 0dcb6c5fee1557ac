# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalog's architecture numbers against the models' own config.json, here and when a model is fetched."""

import json
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import own_numbers
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.catalog import entry_of_config
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.fetch import Fetch
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.download import Remote

ROOT = Path(__file__).resolve().parents[5]
FILES = ROOT / "roles/model/defaults/main"
CATALOG = dict(
    yaml.safe_load((FILES / "catalog_others.yml").read_text())["_model_catalog_others"],
    **yaml.safe_load((FILES / "catalog.yml").read_text())["model_catalog"],
)
# Entries whose model, or the one that it was made of, has its config.json among the fixtures.
KNOWN = {
    "deepseek-r1": "deepseek-r1", "deepseek-r1-awq": "deepseek-r1", "deepseek-r1-0528": "deepseek-r1",
    "deepseek-r1-0528-w4afp8": "deepseek-r1",
    "deepseek-v3.1": "deepseek-r1",
    "deepseek-v4-flash": "deepseek-v4-flash",
    "gpt-oss-20b": "gpt-oss-20b", "gpt-oss-120b": "gpt-oss-120b", "minimax-m2.5": "minimax-m2", "qwen3-8b": "qwen3-8b",
    "qwen3-30b-a3b-fp8": "qwen3-30b-a3b", "qwen3-235b-a22b-fp8": "qwen3-235b-a22b",
    "qwen2.5-72b-instruct": "qwen2.5-72b",
    "deepseek-r1-distill-llama-8b": "llama-3.1-8b", "deepseek-r1-distill-llama-70b": "llama-3.1-70b",
    "deepseek-r1-distill-qwen-7b": "qwen2.5-7b", "smollm2-135m-instruct": "smollm2-135m",
    "deepseek-v3.2": "deepseek-v3.2", "glm-5.1-fp8": "glm-5", "kimi-k2.6": "kimi-k2",
    "qwen3.6-35b-a3b-fp8": "qwen3.5-35b-a3b",
}  # fmt: skip
# Of others, or once more, what is public besides: in configurations of training and simulation.
QUOTED = {
    "deepseek-r1-distill-qwen-1.5b": "qwen2.5-1.5b", "deepseek-r1-distill-qwen-32b": "qwen2.5-32b",
    "glm-4.7-fp8": "glm-4.7", "glm-5.1-fp8": "glm-5", "kimi-k2.6": "kimi-k2-thinking", "minimax-m2.5": "minimax-m2",
    "qwen3-32b-awq": "qwen3-32b", "qwen3-coder-480b-a35b-fp8": "qwen3-coder-480b-a35b",
    "qwen3.5-397b-a17b-gptq-int4": "qwen3.5-397b-a17b", "qwen3.6-27b-fp8": "qwen3.5-27b",
}  # fmt: skip
# Those of which nothing public was found but their names and sizes.
NOT_FOUND = {"deepseek-r1-distill-qwen-14b", "hy3-fp8", "qwen3.5-122b-a10b-fp8"}
# What a config.json calls a number of the catalog.
KEYS = {
    "layers": "num_hidden_layers",
    "attention_heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "experts": "n_routed_experts",
    "experts_used": "num_experts_per_tok",
    "shared_experts": "n_shared_experts",
    "dense_layers": "first_k_dense_replace",
    "vocabulary": "vocab_size",
    "context": "max_position_embeddings",
}
OF_NO_CONFIG = {"name", "parameters", "weight_block", "attention", "unknown", "moe_layers", "tied_embeddings"}


def config(name):
    return json.loads((ROOT / f"tests/unit/fixtures/configs/{name}.json").read_text())["config"]


@pytest.mark.parametrize(("name", "of"), sorted(KNOWN.items()))
def test_the_catalog_is_as_the_models_own_words(name, of):
    assert own_numbers.differences(CATALOG[name], json.dumps(config(of))) == []


@pytest.mark.parametrize(("name", "of"), sorted(QUOTED.items()))
def test_the_catalog_is_as_others_say(name, of):
    quoted = json.loads((ROOT / f"tests/unit/fixtures/configs/quoted/{of}.json").read_text())
    assert own_numbers.differences(CATALOG[name], json.dumps(quoted["config"])) == []
    assert quoted["source"]


def test_every_entry_is_compared_or_said_not_to_be():
    made = {name for name, entry in CATALOG.items() if entry["sources"][0]["kind"] == "generated"}
    found = {name for name, entry in CATALOG.items() if entry.get("architecture")} - made - {"deepseek-r1-q4_k_m"}
    assert found == set(KNOWN) | set(QUOTED) | NOT_FOUND
    for name in ("hy3-fp8", "qwen3.5-122b-a10b-fp8"):
        assert "architecture" in CATALOG[name]["unverified"]


def own_config(entry):
    """The config.json that such a model would have."""
    facts = entry["architecture"]
    found = {KEYS.get(key, key): value for key, value in facts.items() if key not in OF_NO_CONFIG}
    return dict(found, model_type=facts["name"])


@pytest.mark.parametrize("name", sorted(name for name, entry in CATALOG.items() if entry.get("architecture")))
def test_of_every_entry_each_number_that_differs_is_an_error_by_its_name_when_fetched(name, tmp_path):
    entry = dict(CATALOG[name], name=name)
    config = own_config(entry)
    assert own_numbers.differences(entry, json.dumps(config)) == []
    told = set()
    for key, word in {**{key: key for key in entry["architecture"]}, **KEYS}.items():
        if key in OF_NO_CONFIG | {"context"} or key not in entry["architecture"]:
            continue
        other = dict(config, **{word: config[word] + 1})
        lines = own_numbers.differences(entry, json.dumps(other))
        told |= {line.partition(" is ")[0] for line in lines}
        if lines:
            part = tmp_path / "part"
            part.write_text(json.dumps(other))
            fetch = Fetch(entry, str(tmp_path / "store"), {}, warn=lambda line: None)
            remote = Remote("config.json", part.stat().st_size, "http://127.0.0.1/config.json", {})
            with pytest.raises(Failure, match=f"model {name} is not what the catalog says: .*{key} is "):
                fetch.publish(remote, str(part), "0" * 64)
    assert told >= {"layers", "hidden_size", "attention_heads", "vocabulary"}
    silent = set(entry["architecture"]) - told - OF_NO_CONFIG - {"context"}
    assert silent == set(), silent


def test_each_difference_is_said_by_name():
    other = dict(config("deepseek-r1"), num_hidden_layers=60, kv_lora_rank=256)
    found = own_numbers.differences(CATALOG["deepseek-r1"], json.dumps(other))
    assert found == [
        "kv_lora_rank is 256 in config.json, 512 in the catalog",
        "layers is 60 in config.json, 61 in the catalog",
    ]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model_type": "x"}', "\x00"])
def test_a_config_that_says_nothing_is_no_difference(text):
    assert own_numbers.differences(CATALOG["deepseek-r1"], text) == []


def test_a_model_without_numbers_is_not_compared():
    assert own_numbers.differences({"name": "m"}, json.dumps(config("deepseek-r1"))) == []


def test_another_model_is_refused_when_its_config_has_come(tmp_path):
    """Before its weights are there: they may be hundreds of gigabytes."""
    entry = dict(CATALOG["qwen3-8b"], name="qwen3-8b")
    fetch = Fetch(entry, str(tmp_path / "store"), {}, warn=lambda line: None)
    (tmp_path / "store").mkdir()
    for name, wrong in (("qwen3-8b", False), ("qwen3-0.6b", True)):
        part = tmp_path / "part"
        part.write_text(json.dumps(config(name)))
        remote = Remote("config.json", part.stat().st_size, "http://127.0.0.1/config.json", {})
        if wrong:
            with pytest.raises(Failure, match="model qwen3-8b is not what the catalog says: attention_heads is 16 in"):
                fetch.publish(remote, str(part), "0" * 64)
        else:
            fetch.publish(remote, str(part), "0" * 64)
    assert json.loads(Path(fetch.directory, "config.json").read_text()) == config("qwen3-8b")


@pytest.mark.parametrize(
    ("url", "name", "base"),
    [
        ("https://huggingface.co/Qwen/Qwen3-8B/raw/main/config.json", "Qwen3-8B", "https://huggingface.co/Qwen/Qwen3-8B/raw/main"),
        ("http://127.0.0.1:8000/config.json", "model", "http://127.0.0.1:8000"),
    ],
)  # fmt: skip
def test_the_url_of_a_config_names_a_model(url, name, base):
    entry = entry_of_config(url)
    assert (entry["name"], entry["sources"]) == (name, [{"kind": "url", "base": base}])


@pytest.mark.parametrize(
    "url", ["https://h/x.json", "https://u:p@h/config.json", "ftp://h/config.json", "https://h/config.json?"]
)
def test_other_urls_name_none(url):
    with pytest.raises(Failure, match="is not the URL of a config.json"):
        entry_of_config(url)


def test_the_config_of_a_url_is_read(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(dict(config("qwen3-8b"), torch_dtype="bfloat16")))
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        entry = entry_of_config(f"http://127.0.0.1:{server.server_port}/config.json")
        added, problems = own_numbers.look(entry, Fetch(entry, str(tmp_path / "store"), {}, warn=lambda line: None))
        gone = entry_of_config(f"http://127.0.0.1:{server.server_port}/no/config.json")
        nothing = own_numbers.look(gone, Fetch(gone, str(tmp_path / "store"), {"retries": 0}, warn=lambda line: None))
        server.shutdown()
    assert (added["architecture"]["layers"], added["weight_bits"], problems) == (36, 16, [])
    assert nothing[0] == {} and "404" in nothing[1][0]
