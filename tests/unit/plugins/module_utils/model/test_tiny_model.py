# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import hashlib
import json
import struct
from pathlib import Path

import pytest
import shapes
import yaml
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import fetch
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import tiny as tiny_model

ROOT = Path(__file__).resolve().parents[5]
CATALOG = yaml.safe_load((ROOT / "roles/model/defaults/main/catalog.yml").read_text(encoding="utf-8"))["model_catalog"]
NAMES = {"deepseek_v3": "tiny-deepseek-v3", "qwen2": "tiny-qwen2", "llama": "tiny-llama"}
architectures = pytest.mark.parametrize("architecture", tiny_model.ARCHITECTURES)


def matrix(raw, header, name):
    """Rows of a BF16 tensor, as floats."""
    begin, end = header[name]["data_offsets"]
    words = struct.unpack(f"<{(end - begin) // 2}H", raw[begin:end])
    values = struct.unpack(f"<{len(words)}f", struct.pack(f"<{len(words)}I", *(word << 16 for word in words)))
    width = header[name]["shape"][1]
    return [values[start : start + width] for start in range(0, len(values), width)]


def opened(architecture):
    content = tiny_model.files(architecture)["model.safetensors"]
    size = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + size]), content[8 + size :]


@architectures
def test_the_bytes_are_those_of_the_catalog(architecture):
    made = tiny_model.files(architecture)
    listed = {item["path"]: (item["bytes"], item["sha256"]) for item in CATALOG[NAMES[architecture]]["files"]}
    assert {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in made.items()} == listed


@architectures
def test_its_shape_is_that_of_the_catalog(architecture):
    config = json.loads(tiny_model.files(architecture)["config.json"])
    entry = dict(CATALOG[NAMES[architecture]], name="tiny")
    ours, theirs = model_shape.from_catalog(entry), shapes.of_config(config)
    for field in ("layers", "hidden", "heads", "kv_heads", "head_dim", "experts", "vocabulary", "context", "mla"):
        assert getattr(ours, field) == getattr(theirs, field), field


@architectures
def test_each_word_of_the_reply_is_followed_by_the_next(architecture):
    """The head's answer to an embedding alone: the layers between add too little to change it."""
    header, raw = opened(architecture)
    embedding = matrix(raw, header, "model.embed_tokens.weight")
    head = matrix(raw, header, "lm_head.weight")
    document = json.loads(tiny_model.files(architecture)["tokenizer.json"])
    ids = {token["content"]: token["id"] for token in document["added_tokens"]}
    spelled = {"Ġ": " ", "Ċ": "\n"}
    for text, number in document["model"]["vocab"].items():
        ids.setdefault("".join(spelled.get(letter, letter) for letter in text), number)
    said, token = [], ids[tiny_model.ASSISTANT]
    words = {number: text for text, number in ids.items()}
    while words[token] != tiny_model.EOS:
        logits = [sum(a * b for a, b in zip(row, embedding[token], strict=True)) for row in head]
        best, second = sorted(logits, reverse=True)[:2]
        assert best > 2 * abs(second)
        token = logits.index(best)
        said.append(words[token])
    assert "".join(said[:-1]) == f"<think>\n{tiny_model.THOUGHT}\n</think>\n\n{tiny_model.SENTENCE}"


@pytest.mark.parametrize(("name", "expected"), [("tiny-deepseek-v3", 3456), ("tiny-qwen2", 1024), ("tiny-llama", 1024)])
def test_its_kv_cache_is_planned_as_vllm_logs_it(name, expected):
    """molecule/vllm_venv and vllm_venv_slow compare these with the real vLLM's log."""
    shape = model_shape.from_catalog(dict(CATALOG[name], name=name))
    assert model_shape.kv_bytes_per_token(shape)["value"] == expected


def test_it_is_made_into_the_store(tmp_path):
    entry = dict(CATALOG["tiny-qwen2"], name="tiny-qwen2")
    one = fetch.Fetch(entry, str(tmp_path), {}, warn=lambda line: pytest.fail(line))
    manifest = one.run()
    assert manifest["source"]["kind"] == "generated"
    assert one.is_complete()
    assert one.transferred == 0
