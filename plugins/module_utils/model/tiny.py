# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tiny model in a real architecture (safetensors, bf16), made on the spot: a model to try an engine with.

It knows one sentence, `SENTENCE`, after one thought, `THOUGHT`: the layers are small random weights, and the head
maps each word of the reply to the next one, so that greedy decoding always gives it and a test can check the text.
The tokenizer is byte-level, the chat template is like DeepSeek-R1's. The same bytes on every machine.
"""

from __future__ import annotations

import json
import os
import random
import struct
from typing import Any, Dict, List, Tuple

THOUGHT = "Okay, the user asks something."
SENTENCE = "Hello from a tiny test model!"

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
USER, ASSISTANT = "<｜User｜>", "<｜Assistant｜>"
REPLY = ["<think>", "\nOkay", ",", " the", " user", " asks", " something", ".", "\n", "</think>", "\n\n"]
REPLY += ["Hello", " from", " a", " tiny", " test", " model", "!", EOS]
SPECIALS = [BOS, EOS, USER, ASSISTANT, "<think>", "</think>"]

CHAT_TEMPLATE = (
    "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] }}"
    "{% elif message['role'] == 'user' %}{{ '<｜User｜>' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '<｜Assistant｜>' + message['content'].split('</think>')[-1] + eos_token }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}"
)

HIDDEN = 256
Shape = Tuple[int, ...]


def _byte_characters() -> Dict[int, str]:
    """The printable character that stands for each byte in a byte-level vocabulary (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    characters = {byte: chr(byte) for byte in plain}
    characters.update({byte: chr(256 + number) for number, byte in enumerate(rest)})
    return characters


def _tokenizer() -> Tuple[Dict[str, Any], Dict[str, int], int]:
    """tokenizer.json, the id of each word of the reply and of each special token, and the number of ids."""
    characters = _byte_characters()
    vocabulary = {characters[byte]: byte for byte in range(256)}
    ids = {}
    for word in REPLY:
        if word not in SPECIALS:
            text = "".join(characters[byte] for byte in word.encode())
            # BPE without merges never makes these of input text, but decodes them. One byte has its id already.
            ids[word] = vocabulary.setdefault(text, len(vocabulary))
    added = []
    for word in SPECIALS:  # they must follow the model's own, or the tokenizers library renumbers them
        ids[word] = len(vocabulary) + len(added)
        token = {"id": ids[word], "content": word, "single_word": False, "lstrip": False, "rstrip": False}
        added.append(dict(token, normalized=False, special=word not in ("<think>", "</think>")))
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None}
    model.update(end_of_word_suffix=None, fuse_unk=False, byte_fallback=False, ignore_merges=False)
    model.update(vocab=vocabulary, merges=[])
    document = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None}
    document.update(
        pre_tokenizer=level,
        post_processor=dict(level, add_prefix_space=True, trim_offsets=False),
        decoder=dict(level, add_prefix_space=True),
        model=model,
    )
    return document, ids, len(vocabulary) + len(added)


# --- tensors: bytes of bf16 -----------------------------------------------------------------------


class _Weights:
    """Random tensors, always the same ones."""

    def __init__(self) -> None:
        self._random = random.Random(0)

    def _bits(self, count: int, keep: int, fixed: int) -> bytes:
        """`count` numbers of 16 bits: random where `keep` has ones, and `fixed` set."""
        repeat = int.from_bytes(b"\x01\x00" * count, "little")
        bits = self._random.getrandbits(16 * count) & (repeat * keep) | (repeat * fixed)
        return bits.to_bytes(2 * count, "little")

    def small(self, *shape: int) -> bytes:
        """±[2^-7, 2^-6): random sign and mantissa under a fixed exponent."""
        return self._bits(_size(shape), 0x807F, 0x3C00)

    def signs(self, *shape: int) -> bytes:
        """±1."""
        return self._bits(_size(shape), 0x8000, 0x3F80)


def _size(shape: Shape) -> int:
    size = 1
    for side in shape:
        size *= side
    return size


def _bf16(values: List[float]) -> bytes:
    """Rounded to the nearest, ties to even."""
    words = struct.unpack("<%dI" % len(values), struct.pack("<%df" % len(values), *values))
    return struct.pack("<%dH" % len(words), *((word + 0x7FFF + ((word >> 16) & 1)) >> 16 for word in words))


def _ones(count: int) -> bytes:
    return b"\x80\x3f" * count


def _head(embedding: bytes, rows: int, used: int, ids: Dict[str, int]) -> bytes:
    """The output layer: after each token of the reply the next one is far the likeliest, after any other the first."""
    signs = [1.0 if word == 0x3F80 else -1.0 for word in struct.unpack("<%dH" % (rows * HIDDEN), embedding)]
    following = {ids[word]: ids[after] for word, after in zip(REPLY, REPLY[1:])}
    head = [0.0] * (rows * HIDDEN)
    for token in range(used):
        target = following.get(token, ids[REPLY[0]]) * HIDDEN
        weight = 0.25 if token in following or token == ids[ASSISTANT] else 0.02
        for column in range(HIDDEN):
            head[target + column] += signs[token * HIDDEN + column] * weight
    return _bf16(head)


Tensors = Dict[str, Tuple[str, Shape, bytes]]


def _linear(weights: _Weights, tensors: Tensors, name: str, *shape: int) -> None:
    tensors[name + ".weight"] = ("BF16", shape, weights.small(*shape))


def _norm(tensors: Tensors, name: str, width: int) -> None:
    tensors[name + ".weight"] = ("BF16", (width,), _ones(width))


def _feed_forward(weights: _Weights, tensors: Tensors, name: str, width: int) -> None:
    _linear(weights, tensors, name + ".gate_proj", width, HIDDEN)
    _linear(weights, tensors, name + ".up_proj", width, HIDDEN)
    _linear(weights, tensors, name + ".down_proj", HIDDEN, width)


def _deepseek_v3_layer(weights: _Weights, tensors: Tensors, layer: str, number: int, config: Dict[str, Any]) -> None:
    heads, rope = config["num_attention_heads"], config["qk_rope_head_dim"]
    nope, value = config["qk_nope_head_dim"], config["v_head_dim"]
    queries, latent = config["q_lora_rank"], config["kv_lora_rank"]
    attention, mlp = layer + ".self_attn", layer + ".mlp"
    _linear(weights, tensors, attention + ".q_a_proj", queries, HIDDEN)
    _norm(tensors, attention + ".q_a_layernorm", queries)
    _linear(weights, tensors, attention + ".q_b_proj", heads * (nope + rope), queries)
    _linear(weights, tensors, attention + ".kv_a_proj_with_mqa", latent + rope, HIDDEN)
    _norm(tensors, attention + ".kv_a_layernorm", latent)
    _linear(weights, tensors, attention + ".kv_b_proj", heads * (nope + value), latent)
    _linear(weights, tensors, attention + ".o_proj", HIDDEN, heads * value)
    if number < config["first_k_dense_replace"]:
        _feed_forward(weights, tensors, mlp, config["intermediate_size"])
        return
    experts = config["n_routed_experts"]
    _linear(weights, tensors, mlp + ".gate", experts, HIDDEN)
    tensors[mlp + ".gate.e_score_correction_bias"] = ("F32", (experts,), bytes(4 * experts))
    for expert in range(experts):
        _feed_forward(weights, tensors, "%s.experts.%d" % (mlp, expert), config["moe_intermediate_size"])
    _feed_forward(weights, tensors, mlp + ".shared_experts", config["moe_intermediate_size"])


def _grouped_query_layer(weights: _Weights, tensors: Tensors, layer: str, number: int, config: Dict[str, Any]) -> None:
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    width = HIDDEN // heads
    attention = layer + ".self_attn"
    for name, rows in (("q", heads * width), ("k", groups * width), ("v", groups * width)):
        _linear(weights, tensors, "%s.%s_proj" % (attention, name), rows, HIDDEN)
        if config["model_type"] == "qwen2":
            tensors["%s.%s_proj.bias" % (attention, name)] = ("BF16", (rows,), bytes(2 * rows))
    _linear(weights, tensors, attention + ".o_proj", HIDDEN, heads * width)
    _feed_forward(weights, tensors, layer + ".mlp", config["intermediate_size"])


# --- the architectures ----------------------------------------------------------------------------

_ROPE = {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1}
_GROUPED = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 512}
_GROUPED.update(max_position_embeddings=131072, rope_theta=10000.0)
ARCHITECTURES: Dict[str, Tuple[Any, Dict[str, Any]]] = {
    "deepseek_v3": (
        _deepseek_v3_layer,
        {
            "architectures": ["DeepseekV3ForCausalLM"],
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "q_lora_rank": 64,
            "kv_lora_rank": 512,
            "qk_rope_head_dim": 64,
            "qk_nope_head_dim": 128,
            "v_head_dim": 128,
            "intermediate_size": 256,
            "moe_intermediate_size": 128,
            "n_routed_experts": 8,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "n_group": 2,
            "topk_group": 1,
            "topk_method": "noaux_tc",
            "scoring_func": "sigmoid",
            "norm_topk_prob": True,
            "routed_scaling_factor": 2.5,
            "first_k_dense_replace": 1,
            "moe_layer_freq": 1,
            "num_nextn_predict_layers": 0,
            "ep_size": 1,
            "attention_bias": False,
            "max_position_embeddings": 163840,
            "rope_theta": 10000,
            "rope_scaling": dict(_ROPE, mscale=1.0, mscale_all_dim=1.0),
        },
    ),
    "qwen2": (_grouped_query_layer, dict(_GROUPED, architectures=["Qwen2ForCausalLM"], use_sliding_window=False)),
    "llama": (
        _grouped_query_layer,
        dict(_GROUPED, architectures=["LlamaForCausalLM"], head_dim=64, attention_bias=False, mlp_bias=False),
    ),
}


def files(architecture: str) -> Dict[str, bytes]:
    """The model's files, by name.

    :param architecture: a key of `ARCHITECTURES`.
    """
    layer, own = ARCHITECTURES[architecture]
    tokenizer, ids, used = _tokenizer()
    rows = -(-used // 64) * 64
    ends = {"bos_token_id": ids[BOS], "eos_token_id": ids[EOS]}
    config = dict(ends, vocab_size=rows, hidden_size=HIDDEN, hidden_act="silu", rms_norm_eps=1e-6)
    config.update(initializer_range=0.02, tie_word_embeddings=False, torch_dtype="bfloat16", use_cache=True)
    config.update(own, attention_dropout=0.0, model_type=architecture)
    weights = _Weights()
    embedding = weights.signs(rows, HIDDEN)
    tensors: Tensors = {"model.embed_tokens.weight": ("BF16", (rows, HIDDEN), embedding)}
    for number in range(config["num_hidden_layers"]):
        name = "model.layers.%d" % number
        _norm(tensors, name + ".input_layernorm", HIDDEN)
        _norm(tensors, name + ".post_attention_layernorm", HIDDEN)
        layer(weights, tensors, name, number, config)
    _norm(tensors, "model.norm", HIDDEN)
    tensors["lm_head.weight"] = ("BF16", (rows, HIDDEN), _head(embedding, rows, used, ids))
    words = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": EOS, "pad_token": EOS}
    words.update(add_bos_token=False, add_eos_token=False, model_max_length=16384)
    words.update(clean_up_tokenization_spaces=False, chat_template=CHAT_TEMPLATE)
    return {
        "model.safetensors": _safetensors(tensors),
        "config.json": _json(config),
        "generation_config.json": _json(dict(ends, do_sample=True, temperature=0.6, top_p=0.95)),
        "tokenizer.json": _json(tokenizer),
        "tokenizer_config.json": _json(words),
    }


def write(architecture: str, directory: str) -> None:
    """Write the model's files into a directory, which is made."""
    os.makedirs(directory, exist_ok=True)
    for name, content in files(architecture).items():
        with open(os.path.join(directory, name), "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())


def _json(document: Dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, indent=1).encode("utf-8")


def _safetensors(tensors: Tensors) -> bytes:
    """8 bytes of length, a JSON header, then the tensors' bytes."""
    header: Dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + len(raw)]}
        end += len(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(raw for _dtype, _shape, raw in tensors.values())
