# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model of which the catalog knows nothing is planned from its own config.json or header, before it is fetched."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.families import NoText
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.request import Request
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import own_numbers
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import tiny as tiny_model
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.catalog import check_entry
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.fetch import Fetch
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import fit_report

ROOT = Path(__file__).resolve().parents[5]
sys.path.insert(0, str(ROOT / "tests/standins"))
sys.path.insert(0, str(ROOT / "tests/unit/plugins/module_utils/gguf"))
import gguf_files as files  # noqa: E402
import hub as standin  # noqa: E402

GIVEN = ROOT / "tests/unit/fixtures/configs/given"
GPUS = {"gpus": [{"index": 0, "name": "H100", "memory_total_mib": 81559, "memory_free_mib": 81555}]}


def gguf_bytes(tokens=100, latent=False):
    def key(name, value):
        return files.KV(b"deepseek2." + name, files.U32, value)

    pairs = [files.KV(b"general.architecture", files.STR, b"deepseek2"), key(b"block_count", 2)]
    pairs += [key(b"embedding_length", 256), key(b"attention.head_count", 4), key(b"attention.head_count_kv", 4)]
    pairs += [key(b"attention.kv_lora_rank", 512), key(b"rope.dimension_count", 64), key(b"context_length", 4096)]
    pairs += [key(b"attention.key_length", 192), key(b"attention.value_length", 128)]
    pairs += [key(b"attention.key_length_mla", 192), key(b"attention.value_length_mla", 128)]
    pairs.append(files.KV(b"tokenizer.ggml.tokens", files.ARR, [b"token %d" % n for n in range(tokens)], files.STR))
    names = [b"blk.0.attn_k_b.weight"] if latent else []
    tensors = [files.T(name, (8,), 0, bytes(32)) for name in [b"token_embd.weight", *names]]
    return files.build(pairs, tensors)


@pytest.fixture
def hub(tmp_path):
    root = tmp_path / "hub"
    (root / "owner/model").mkdir(parents=True)
    with standin.served(root) as hub:
        hub.folder = root / "owner/model"
        yield hub


def look(entry, tmp_path, **mirrors):
    options = {"mirrors": {kind: [url] for kind, url in mirrors.items()}, "retries": 0, "timeout": 10}
    fetch = Fetch(entry, str(tmp_path / "models"), options, [].append)
    added, problems = own_numbers.look(entry, fetch)
    assert not (tmp_path / "models").exists()  # nothing is fetched into the store
    # What is added is sound as an entry.
    if added:
        whole = dict({"engines": ["vllm"], "sources": [{"kind": "huggingface", "id": "a/b"}]}, **added)
        assert check_entry("m", whole) == []
    return dict(added, **entry), problems


@pytest.mark.parametrize("kind", ["huggingface", "modelscope"])
@pytest.mark.parametrize(
    ("config", "grows"), [("deepseek-v3.2", 78324), ("gpt-oss-120b", 36864), ("mimo-v2-flash", 23040)]
)
def test_a_repository_of_a_hub(kind, config, grows, hub, tmp_path):
    (hub.folder / "config.json").write_bytes((GIVEN / f"{config}.json").read_bytes())
    for number in (1, 2):
        (hub.folder / f"model-0000{number}-of-00002.safetensors").write_bytes(bytes(70000))
    (hub.folder / "original").mkdir()
    (hub.folder / "original/model.safetensors").write_bytes(bytes(140000))
    entry = {"name": "mine", "format": "safetensors", "sources": [{"kind": kind, "id": "owner/model"}]}
    entry, problems = look(entry, tmp_path, **{kind: hub.url})
    assert (problems, entry["bytes"]) == ([], 140000)
    shape = model_shape.from_catalog(entry)
    assert model_shape.kv_bytes_per_token(shape)["value"] == grows
    plan = fit_report.check(entry, GPUS, Request(tensor_parallel=1))
    assert plan["per_gpu"]["kv"]["value"] > 0


def test_a_key_that_is_not_understood_reaches_the_plan(hub, tmp_path):
    (hub.folder / "config.json").write_bytes((GIVEN / "deepseek-v4-flash.json").read_bytes())
    (hub.folder / "model.safetensors").write_bytes(bytes(70000))
    entry = {"name": "v4", "format": "safetensors", "sources": [{"kind": "huggingface", "id": "owner/model"}]}
    entry, _problems = look(entry, tmp_path, huggingface=hub.url)
    plan = fit_report.check(entry, GPUS, Request(tensor_parallel=1))
    assert plan["verdict"] == "unknown"
    assert "compress_ratios" in plan["summary"]


@pytest.mark.parametrize("tokens", [100, 200000])
def test_of_a_gguf_file_on_a_hub_only_the_header_is_read(tokens, hub, tmp_path):
    """Its 200,000 words take several reads of the growing start; the file itself is 8 MB longer."""
    content = gguf_bytes(tokens, latent=True)
    path = hub.folder / "m-00001-of-00002.gguf"
    path.write_bytes(content)
    os.truncate(path, len(content) + 8 * 1024 * 1024)
    (hub.folder / "m-00002-of-00002.gguf").write_bytes(bytes(1000))
    entry = {"name": "mine", "format": "gguf", "sources": [{"kind": "huggingface", "id": "owner/model"}]}
    entry, problems = look(entry, tmp_path, huggingface=hub.url)
    assert problems == []
    assert entry["bytes"] == len(content) + 8 * 1024 * 1024 + 1000
    assert (entry["kv_cache"], entry["architecture"]["vocabulary"]) == ("latent", tokens)
    assert model_shape.kv_bytes_per_token(model_shape.from_catalog(entry))["value"] == 2 * 576 * 2


def test_a_gguf_file_without_latent_tensors(tmp_path):
    path = tmp_path / "mine.gguf"
    path.write_bytes(gguf_bytes())
    entry = {"name": "mine", "format": "gguf", "sources": [{"kind": "path", "path": str(path)}]}
    entry, _problems = look(entry, tmp_path)
    assert entry["kv_cache"] == "full"
    assert model_shape.kv_bytes_per_token(model_shape.from_catalog(entry))["value"] == 2 * 4 * (192 + 128) * 2


def test_the_file_that_sees_pictures_is_not_the_model(tmp_path):
    """It stands before the model in the alphabet, and is of the architecture clip."""
    (tmp_path / "gguf").mkdir()
    (tmp_path / "gguf/z-model.gguf").write_bytes(gguf_bytes())
    eyes = files.build([files.KV(b"general.architecture", files.STR, b"clip")], [files.T(b"v", (8,), 0, bytes(32))])
    (tmp_path / "gguf/mmproj-f16.gguf").write_bytes(eyes)
    entry = {"name": "mine", "format": "gguf", "sources": [{"kind": "path", "path": str(tmp_path / "gguf")}]}
    assert look(entry, tmp_path)[0]["architecture"]["name"] == "deepseek2"
    (tmp_path / "gguf/z-model.gguf").unlink()
    with pytest.raises(NoText, match="the GGUF header is of an encoder .clip."):
        look(entry, tmp_path)


def test_a_repository_of_a_model_that_writes_no_text_is_refused(hub, tmp_path):
    (hub.folder / "config.json").write_text(json.dumps({"model_type": "bert", "num_hidden_layers": 2}))
    (hub.folder / "model.safetensors").write_bytes(bytes(70000))
    entry = {"name": "mine", "format": "safetensors", "sources": [{"kind": "huggingface", "id": "owner/model"}]}
    with pytest.raises(NoText, match="config.json is of an encoder .bert."):
        look(entry, tmp_path, huggingface=hub.url)


@pytest.mark.parametrize("architecture", ["deepseek_v3", "qwen2", "llama"])
def test_a_directory_of_the_user_s_own(architecture, tmp_path):
    tiny_model.write(architecture, str(tmp_path / "mine"))
    entry, problems = look({"name": "mine", "sources": [{"kind": "path", "path": str(tmp_path / "mine")}]}, tmp_path)
    assert (problems, entry["format"], entry["weight_bits"]) == ([], "safetensors", 16)
    assert entry["bytes"] == os.path.getsize(tmp_path / "mine/model.safetensors")
    expected = {"deepseek_v3": 3 * 576 * 2}.get(architecture, 2 * 2 * 2 * 64 * 2)
    assert model_shape.kv_bytes_per_token(model_shape.from_catalog(entry))["value"] == expected


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.json", b"<html>", "config.json is not JSON"),
        ("config.json", b"[" * 100000, "config.json"),
        ("config.json", b'{"num_hidden_layers": "x"}', "num_hidden_layers: expected a whole number"),
        ("README.txt", b"x", "neither a GGUF file nor a config.json beside .safetensors is there"),
    ],
)
def test_what_does_not_tell_is_one_line_and_no_failure(name, content, says, hub, tmp_path):
    (hub.folder / name).write_bytes(content)
    (hub.folder / "model.safetensors").write_bytes(bytes(70000))
    entry = {"name": "mine", "format": "safetensors", "sources": [{"kind": "huggingface", "id": "owner/model"}]}
    found, (problem,) = look(entry, tmp_path, huggingface=hub.url)
    assert found == entry
    assert says in problem
    assert "\n" not in problem


def test_a_hub_that_does_not_answer_is_one_line(tmp_path):
    entry = {"name": "mine", "format": "safetensors", "sources": [{"kind": "huggingface", "id": "owner/model"}]}
    _found, (problem,) = look(entry, tmp_path, huggingface="http://127.0.0.1:9")
    assert problem.startswith("huggingface (127.0.0.1): ")


def test_a_missing_path_is_left_to_the_fetch(tmp_path):
    entry = {"name": "mine", "sources": [{"kind": "path", "path": str(tmp_path / "nowhere.gguf")}]}
    assert look(entry, tmp_path) == (entry, [])


@pytest.mark.parametrize(
    ("keys", "bits"),
    [
        ({}, 16),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, 4),
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, 8),
        ({"quantization_config": {"quant_method": "mxfp4"}}, 4.25),
        # What is not said for all of them, or not as a number, is not known.
        ({"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {}}}, None),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, None),
        ({"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}, None),
        ({"quantization_config": {"quant_method": "w4afp8"}}, None),
        ({"quantization_config": {"bits": "4"}}, None),
        ({"quantization_config": {"bits": [4, 8]}}, None),
        ({"quantization_config": "awq"}, None),
        ({"compression_config": {"config_groups": {}}}, None),
        ({"quantization": {"bits": 4, "group_size": 64}}, 4),
        ({"dtype": "float32", "torch_dtype": None}, 32),
        ({"text_config": {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2, "vocab_size": 9},
          "quantization_config": {"quant_method": "gptq", "bits": 8}}, 8),
    ],
)  # fmt: skip
def test_bits_of_a_weight(keys, bits):
    config = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2, "vocab_size": 9,
              "intermediate_size": 128, "torch_dtype": "bfloat16", **keys}  # fmt: skip
    assert own_numbers.of_config(json.dumps(config)).get("weight_bits") == bits


def test_one_mirror_may_be_named_without_brackets(hub, tmp_path):
    (hub.folder / "config.json").write_bytes((GIVEN / "gpt-oss-120b.json").read_bytes())
    (hub.folder / "model.safetensors").write_bytes(bytes(70000))
    entry = {"name": "mine", "sources": [{"kind": "huggingface", "id": "owner/model"}]}
    fetch = Fetch(entry, str(tmp_path / "models"), {"mirrors": {"huggingface": hub.url}, "retries": 0}, [].append)
    added, problems = own_numbers.look(entry, fetch)
    assert problems == [] and added["architecture"]["layers"] == 36


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "model.gguf"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path, name):
    """The directory of a model may be another user's, who holds up whoever reads there: root."""
    names = ["config.json", "model.safetensors"] if name != "model.gguf" else ["model.gguf"]
    for one in names:
        (tmp_path / one).write_bytes(b"{}")
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    code = (
        "import sys\nfrom ansible_collections.dsdeploy.llm.plugins.module_utils.model import own_numbers, store\n"
        "try: own_numbers.of_files(sys.argv[1], sys.argv[3:])\nexcept (ValueError, OSError) as error: print(error)\n"
        "print(store.wrong_weights(sys.argv[1] + '/' + sys.argv[2]))"
    )
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    argv = [sys.executable, "-c", code, str(tmp_path), name, *names]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert "not a" in done.stdout or "is an empty file" in done.stdout, done.stdout
