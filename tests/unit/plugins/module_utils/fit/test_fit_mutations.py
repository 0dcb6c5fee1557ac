# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Damaged config.json, GGUF keys and headers, outputs of nvidia-smi: a typed result or one line, and no hang.

500 of each; DSDEPLOY_MUTATIONS=20000 in the slow set.
"""

import json
import random
import sys
from pathlib import Path

import mutations
import pytest
import shapes
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.families import NoText
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.request import Request, gpus_from_facts
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf import header as gguf
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import own_numbers
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.catalog import check_entry
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.facts import build_facts
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.smi import HINTS, Gpu, diagnose
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.smi_xml import parse_xml
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import fit_report

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures"
sys.path.insert(0, str(FIXTURES.parent / "plugins/module_utils/gguf"))
import gguf_files as files  # noqa: E402

COUNT = mutations.COUNT
ODD = [None, True, False, 0, 1, -1, 2, 3, 7, 2**31, 2**63, 10**40, 1.5, 1e308, float("inf"), float("nan"), "", "x", "8",
       "MEM*-", [], [0], [1, 2, 3], ["full_attention"], [None], [[]], {}, {"a": 1}, {"kv_n_heads": "x"}]  # fmt: skip
# Keys that some model has, so that mutations reach what is understood of them.
KEYS = ["per_layer_config", "block_configs", "architectures", "is_encoder_decoder"] + sorted(
    {key for path in (FIXTURES / "configs").glob("*.json") for key in json.loads(path.read_text())["config"]}
)
CONFIGS = [json.loads(path.read_text())["config"] for path in sorted((FIXTURES / "configs").glob("*.json"))]
REQUESTS = [Request(), Request(tensor_parallel=3), Request(kv_bytes=1.0, context=10**7, sequences=64),
            Request(pipeline_parallel=3, data_parallel=2), Request(gpu_layers=5, kv_space=2**30)]  # fmt: skip
GPUS = {"gpus": [{"index": i, "name": "H", "memory_total_mib": 81559, "memory_free_mib": 81555} for i in range(8)]}


def one_line(error):
    assert str(error).strip()
    assert "\n" not in str(error)
    assert len(str(error)) < 1000


def check_plan(entry, dice):
    plan = fit_report.check(entry, GPUS, dice.choice(REQUESTS), on_cpu=dice.random() < 0.2)
    assert plan["verdict"] in ("fits", "tight", "no", "unknown")
    assert isinstance(plan["summary"], str)
    assert plan["summary"]
    json.dumps(plan)


def mutated_config(dice):
    config = json.loads(json.dumps(dice.choice(CONFIGS)))
    for _change in range(dice.randint(1, 4)):
        part = config["text_config"] if isinstance(config.get("text_config"), dict) and dice.random() < 0.7 else config
        key = dice.choice(sorted(part) + [dice.choice(KEYS)]) if part else dice.choice(KEYS)
        kind = dice.random()
        if kind < 0.15:
            part.pop(key, None)
        elif kind < 0.4 and isinstance(part.get(key), int):
            part[key] = part[key] + dice.choice([-1, 1, -part[key], part[key], 10**6])
        elif kind < 0.5 and isinstance(part.get(key), (list, str)) and part[key]:
            at = dice.randrange(len(part[key]))
            part[key] = part[key][:at] + part[key][at + 1 :]
        else:
            part[key] = dice.choice(ODD)
    return config


def test_any_config():
    dice, known = random.Random(13), 0
    for _number in range(COUNT):
        config = mutated_config(dice)
        try:
            added = own_numbers.of_config(json.dumps(config))
            entry = dict(
                {"engines": ["vllm"], "sources": [{"kind": "huggingface", "id": "a/b"}]}, bytes=10**11, **added
            )
            entry["format"] = dice.choice(["gguf", "safetensors"])
            shape = model_shape.from_catalog(dict(entry, name="m"))
        except (ValueError, NoText) as error:
            one_line(error)
            continue
        assert check_entry("m", entry) == [], config
        token = model_shape.kv_bytes_per_token(shape)
        assert (token["value"] is None) == bool(shape.unknown)
        assert token["value"] is None or token["value"] >= 0
        known += token["value"] is not None
        check_plan(dict(entry, name="m"), dice)
    assert known > COUNT / 5


@pytest.mark.parametrize("text", ["[1]", "null", '"x"', "{", "[" * 10**5, '{"num_hidden_layers": 1e999}', "NaN", ""])
def test_what_is_no_object(text):
    with pytest.raises(ValueError, match="config.json"):
        own_numbers.of_config(text)


def mutated_keys(dice):
    keys = json.loads((FIXTURES / "gguf/gemma-4-keys.json").read_text())
    prefix = dice.choice(["gemma4", "llama", "deepseek2", "qwen3next", "jamba"])
    keys = {key.replace("gemma4", prefix): value for key, value in keys.items()}
    keys["general.architecture"] = prefix
    more = ["attention.kv_lora_rank", "full_attention_interval", "ssm.state_size", "attention.shared_kv_layers",
            "rope.dimension_count", "expert_count", "attention.key_length_mla", "attention.chunk_size"]  # fmt: skip
    for _change in range(dice.randint(1, 4)):
        key = dice.choice(sorted(keys) + [f"{prefix}.{one}" for one in more])
        if dice.random() < 0.2:
            keys.pop(key, None)
        else:
            keys[key] = dice.choice(ODD + [4, 64, 512])
    return keys


def test_any_gguf_keys():
    dice = random.Random(13)
    for _number in range(COUNT):
        keys = mutated_keys(dice)
        tensors = ["token_embd.weight", "blk.0.attn_k_b.weight"][: dice.randint(0, 2)]
        try:
            shape = shapes.of_keys(keys, tensors)
        except (ValueError, NoText) as error:
            one_line(error)
            continue
        token = model_shape.kv_bytes_per_token(shape)
        assert (token["value"] is None) == bool(shape.unknown)
        assert len(shape.caches) == shape.layers
        assert model_shape.kept(shape, 10**6)["label"] in ("exact", "estimated", "not known")


def whole_header():
    def key(name, kind, value, *more):
        return files.KV(b"gemma4." + name, kind, value, *more)

    pairs = [files.KV(b"general.architecture", files.STR, b"gemma4"), key(b"block_count", files.U32, 4)]
    pairs += [key(b"embedding_length", files.U32, 256), key(b"attention.head_count", files.U32, 4)]
    pairs += [key(b"attention.head_count_kv", files.ARR, [1, 2, 1, 2], files.U32)]
    pairs += [key(b"attention.sliding_window", files.U32, 64), key(b"attention.key_length", files.U32, 64)]
    pairs += [key(b"attention.sliding_window_pattern", files.ARR, [1, 0], files.BOOL)]
    return files.build(pairs, [files.T(b"token_embd.weight", (8,), 0, bytes(32))])


def test_any_gguf_header(tmp_path):
    dice, content, path = random.Random(13), whole_header(), tmp_path / "m.gguf"
    read = 0
    for _number in range(COUNT):
        damaged = bytearray(content)
        for _change in range(dice.randint(1, 3)):
            at = dice.randrange(len(damaged))
            kind = dice.random()
            if kind < 0.6:
                damaged[at] = dice.choice([0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)])
            elif kind < 0.8:
                del damaged[at : at + dice.randint(1, 9)]
            else:
                damaged[at:at] = dice.choice([b"\0", b"\xff" * 8, b"9" * 100])
        path.write_bytes(damaged)
        try:
            added = own_numbers.of_header(gguf.read_header(str(path), complete=False))
            shape = model_shape.from_catalog(dict(added, name="m", bytes=10**9))
        except (gguf.GGUFError, ValueError, NoText) as error:
            one_line(error)
            continue
        read += 1
        assert model_shape.kv_bytes_per_token(shape)["label"] in ("exact", "not known")
    assert read > COUNT / 20


REAL = ["h100-x1-driver580", "h200-x1", "mig-two-3g20gb", "fabric-unhealthy", "handle-gpu-index-before", "busy-gpu"]
TEXTS = [(FIXTURES / "nvidia_smi" / case / "nvidia-smi-q-x.xml").read_text() for case in REAL]
PIECES = ["", "\0", "<", "&", "]]>", "\udc80", "9" * 400, "N/A", "ERR!", "[GPU is lost]", "Unknown Error", "-1",
          "</gpu>", "<gpu>", "Enabled", " MiB", "\n", "<!--",
          "Unable to determine the device handle for GPU1: "]  # fmt: skip


def mutated_smi(dice):
    text = dice.choice(TEXTS)
    for _change in range(dice.randint(1, 4)):
        at = dice.randrange(len(text))
        if dice.random() < 0.5:
            # Whole values, so that most stay XML.
            at = text.find(">", at) + 1
            end = text.find("<", at)
            text = text[:at] + dice.choice(PIECES) + text[end:] if end > at else text
        else:
            text = text[:at] + dice.choice(PIECES) + text[at + dice.randint(0, 200) :]
    return text


def test_any_output_of_nvidia_smi():
    dice, whole = random.Random(13), 0
    entry = {"name": "m", "format": "safetensors", "engines": ["vllm"], "bytes": 10**10,
             "architecture": {"name": "q", "layers": 4, "hidden_size": 512, "attention_heads": 8, "vocabulary": 9,
                              "intermediate_size": 1024}}  # fmt: skip
    for _number in range(COUNT):
        text = mutated_smi(dice)
        report = parse_xml(text)
        facts = build_facts(diagnose(0, text, "", report), report, "xml")
        json.dumps(facts)
        assert facts["status"] in HINTS
        for line in (facts["reason"], facts["summary"]):
            assert "\n" not in line
        for gpu in facts["gpus"]:
            assert set(gpu) == set(Gpu.__annotations__)
        found, notes = gpus_from_facts(facts)
        assert all(0 <= gpu.free <= gpu.total for gpu in found), text
        assert all("\n" not in note for note in notes)
        for model_format in ("safetensors", "gguf"):
            plan = fit_report.check(dict(entry, format=model_format), facts)
            assert plan["verdict"] in ("fits", "tight", "no", "unknown")
        whole += bool(facts["gpus"])
    assert whole > COUNT / 5
