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
}  # fmt: skip


def config(name):
    return json.loads((ROOT / f"tests/unit/fixtures/configs/{name}.json").read_text())["config"]


@pytest.mark.parametrize(("name", "of"), sorted(KNOWN.items()))
def test_the_catalog_is_as_the_models_own_words(name, of):
    assert own_numbers.differences(CATALOG[name], json.dumps(config(of))) == []


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
