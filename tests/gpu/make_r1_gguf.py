#!/usr/bin/env python3
"""DeepSeek R1's true shapes as a GGUF in Q4_K_M without its weights, for llama.cpp and Ollama.

    make_r1_gguf.py FILE.gguf [--layers 61] [--dense 3] [--experts 256] [--shards 1]

Names, types and sizes are those that llama.cpp gives the model: 4 bits, and 6 bits for the head and, in every second
layer or so, for the experts' last matrix. What make_r1.py says of its weights holds here, too: zeros in a sparse
file, embeddings and router random, an answer means nothing. With more than one shard the files are called as
llama-gguf-split calls them, FILE-00001-of-00009.gguf. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import struct

from make_r1 import (
    BOS,
    DENSE,
    EOS,
    EXPERT,
    HEADS,
    HIDDEN,
    LATENT,
    NOPE,
    PERIOD,
    QUERIES,
    ROPE,
    SPECIALS,
    TEMPLATE,
    VALUE,
    VOCABULARY,
    tokenizer,
)

ALIGNMENT = 32  # bytes
# Name: number of the type, weights and bytes of a block (ggml.h).
TYPES = {"F32": (0, 1, 4), "Q4_K": (12, 256, 144), "Q6_K": (14, 256, 210), "Q8_0": (8, 32, 34)}
UINT32, FLOAT32, BOOL, STRING, ARRAY, INT32, UINT16 = 4, 6, 7, 8, 9, 5, 2
PLAIN = {UINT32: "<I", FLOAT32: "<f", BOOL: "<?", INT32: "<i", UINT16: "<H"}
Q4_K_M = 15  # general.file_type


def text(word: str) -> bytes:
    data = word.encode()
    return struct.pack("<Q", len(data)) + data


def pair(key: str, kind: int, value: object) -> bytes:
    """A key with its value; a list is an array of that kind."""
    head = text(key)
    if isinstance(value, list):
        packed = b"".join(text(item) if kind == STRING else struct.pack(PLAIN[kind], item) for item in value)
        return head + struct.pack("<IIQ", ARRAY, kind, len(value)) + packed
    return head + struct.pack("<I", kind) + (text(value) if kind == STRING else struct.pack(PLAIN[kind], value))


def keys(options: argparse.Namespace) -> list:
    """What describes the model, packed, one item a key."""
    document, _words = tokenizer()
    vocabulary = document["model"]["vocab"]
    number = {
        "block_count": options.layers,
        "context_length": 163840,
        "embedding_length": HIDDEN,
        "feed_forward_length": DENSE,
        "attention.head_count": HEADS,
        "attention.head_count_kv": 1,  # one latent for all heads
        "attention.q_lora_rank": QUERIES,
        "attention.kv_lora_rank": LATENT,
        "attention.key_length": LATENT + ROPE,
        "attention.value_length": LATENT,
        "attention.key_length_mla": NOPE + ROPE,
        "attention.value_length_mla": VALUE,
        "leading_dense_block_count": options.dense,
        "vocab_size": VOCABULARY,
        "expert_feed_forward_length": EXPERT,
        "expert_count": options.experts,
        "expert_used_count": 8,
        "expert_shared_count": 1,
        "expert_group_count": 8,
        "expert_group_used_count": 4,
        "expert_gating_func": 2,  # sigmoid
        "rope.dimension_count": ROPE,
        "rope.scaling.original_context_length": 4096,
    }
    made = [
        pair("general.architecture", STRING, "deepseek2"),
        pair("general.name", STRING, "R1's shapes, %d layers" % options.layers),
        pair("general.file_type", UINT32, Q4_K_M),
        pair("general.quantization_version", UINT32, 2),
    ]
    made += [pair("deepseek2." + key, UINT32, value) for key, value in number.items()]
    made += [
        pair("deepseek2.attention.layer_norm_rms_epsilon", FLOAT32, 1e-6),
        pair("deepseek2.rope.freq_base", FLOAT32, 10000.0),
        pair("deepseek2.rope.scaling.type", STRING, "yarn"),
        pair("deepseek2.rope.scaling.factor", FLOAT32, 40.0),
        pair("deepseek2.rope.scaling.yarn_log_multiplier", FLOAT32, 0.1),
        pair("deepseek2.expert_weights_scale", FLOAT32, 2.5),
        pair("deepseek2.expert_weights_norm", BOOL, True),
        pair("tokenizer.ggml.model", STRING, "gpt2"),
        pair("tokenizer.ggml.pre", STRING, "deepseek-v3"),
        pair("tokenizer.ggml.tokens", STRING, sorted(vocabulary, key=vocabulary.__getitem__)),
        pair("tokenizer.ggml.token_type", INT32, [3 if n < len(SPECIALS) else 1 for n in range(VOCABULARY)]),
        pair("tokenizer.ggml.merges", STRING, []),
        pair("tokenizer.ggml.bos_token_id", UINT32, BOS),
        pair("tokenizer.ggml.eos_token_id", UINT32, EOS),
        pair("tokenizer.ggml.add_bos_token", BOOL, False),
        pair("tokenizer.chat_template", STRING, TEMPLATE),
    ]
    return made


def more_bits(layer: int, layers: int) -> bool:
    """Whether Q4_K_M spends 6 bits here (llama.cpp, use_more_bits)."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def ones(count: int) -> bytes:
    return struct.pack("<f", 1.0) * count


def router(count: int) -> bytes:
    """So many random float32 between 2^-7 and 2^-6 of either sign."""
    bits = bytearray(os.urandom(4 * count))
    bits[3::4] = bytes(byte & 0x80 | 0x3C for byte in bits[3::4])
    bits[2::4] = bytes(byte & 0x7F for byte in bits[2::4])
    return bytes(bits)


def rows_of_words() -> bytes:
    """Random embeddings in Q4_K: a scale of about 2^-10 with random quants, PERIOD rows again and again."""
    blocks = HIDDEN // 256
    row = b"".join(struct.pack("<HH", 0x1400, 0) + os.urandom(140) for _ in range(PERIOD * blocks))
    return (row * -(-VOCABULARY // PERIOD))[: VOCABULARY * blocks * 144]


def tensors(options: argparse.Namespace) -> list:
    """[(name, type, shape with the innermost dimension first, function that makes what is not zero, or None)]."""

    def norm(name: str, width: int) -> tuple:
        return name, "F32", (width,), lambda: ones(width)

    made = [("token_embd.weight", "Q4_K", (HIDDEN, VOCABULARY), rows_of_words)]
    for layer in range(options.layers):
        more = "Q6_K" if more_bits(layer, options.layers) else "Q4_K"
        part = [
            norm("attn_norm.weight", HIDDEN),
            norm("attn_q_a_norm.weight", QUERIES),
            norm("attn_kv_a_norm.weight", LATENT),
            ("attn_q_a.weight", "Q4_K", (HIDDEN, QUERIES), None),
            ("attn_q_b.weight", "Q4_K", (QUERIES, HEADS * (NOPE + ROPE)), None),
            ("attn_kv_a_mqa.weight", "Q4_K", (HIDDEN, LATENT + ROPE), None),
            ("attn_k_b.weight", "Q8_0", (NOPE, LATENT, HEADS), None),
            ("attn_v_b.weight", more, (LATENT, VALUE, HEADS), None),
            ("attn_output.weight", "Q4_K", (HEADS * VALUE, HIDDEN), None),
            norm("ffn_norm.weight", HIDDEN),
        ]
        if layer < options.dense:
            part += [("ffn_%s.weight" % word, "Q4_K", (HIDDEN, DENSE), None) for word in ("gate", "up")]
            part.append(("ffn_down.weight", more, (DENSE, HIDDEN), None))
        else:
            count = options.experts
            part.append(("ffn_gate_inp.weight", "F32", (HIDDEN, count), lambda: router(HIDDEN * options.experts)))
            part.append(("exp_probs_b.bias", "F32", (count,), None))
            for word in ("gate", "up"):
                part.append(("ffn_%s_exps.weight" % word, "Q4_K", (HIDDEN, EXPERT, count), None))
                part.append(("ffn_%s_shexp.weight" % word, "Q4_K", (HIDDEN, EXPERT), None))
            part.append(("ffn_down_exps.weight", more, (EXPERT, HIDDEN, count), None))
            part.append(("ffn_down_shexp.weight", more, (EXPERT, HIDDEN), None))
        made += [("blk.%d.%s" % (layer, name), kind, shape, content) for name, kind, shape, content in part]
    return [
        *made,
        norm("output_norm.weight", HIDDEN),
        ("output.weight", "Q6_K", (HIDDEN, VOCABULARY), None),
    ]


def size_of(kind: str, shape: tuple) -> int:
    """Bytes."""
    _number, weights, width = TYPES[kind]
    count = 1
    for side in shape:
        count *= side
    return count // weights * width


def write(path: str, described: list, part: list) -> int:
    """One file; returns the bytes of its weights."""
    infos, offset, filled = b"", 0, []
    for name, kind, shape, content in part:
        infos += text(name) + struct.pack("<I%dQIQ" % len(shape), len(shape), *shape, TYPES[kind][0], offset)
        if content:
            filled.append((offset, content))
        offset += -(-size_of(kind, shape) // ALIGNMENT) * ALIGNMENT
    head = b"GGUF" + struct.pack("<IQQ", 3, len(part), len(described)) + b"".join(described) + infos
    head += bytes(-len(head) % ALIGNMENT)
    with open(path, "wb") as handle:
        handle.write(head)
        for start, content in filled:
            handle.seek(len(head) + start)
            handle.write(content())
        handle.truncate(len(head) + offset)
    return offset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--layers", type=int, default=61)
    parser.add_argument("--dense", type=int, default=3)
    parser.add_argument("--experts", type=int, default=256)
    parser.add_argument("--shards", type=int, default=1)
    options = parser.parse_args()
    os.makedirs(os.path.dirname(os.path.abspath(options.file)), exist_ok=True)
    wanted, described, total = tensors(options), keys(options), 0
    if options.shards == 1:
        total = write(options.file, described, wanted)
    else:
        step = -(-len(wanted) // options.shards)
        for number in range(options.shards):
            split = [
                pair("split.no", UINT16, number),
                pair("split.count", UINT16, options.shards),
                pair("split.tensors.count", INT32, len(wanted)),
            ]
            name = "%s-%05d-of-%05d.gguf" % (options.file[: -len(".gguf")], number + 1, options.shards)
            part = wanted[number * step : (number + 1) * step]
            total += write(name, split if number else described + split, part)
    print("%s: %.2f GiB of weights" % (options.file, total / 2**30))


if __name__ == "__main__":
    main()
