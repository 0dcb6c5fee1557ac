#!/usr/bin/env python3
"""DeepSeek R1's true shapes without its weights: a host loads, holds and moves what it does with the real model.

    make_r1.py fp8|awq|w4afp8|bf16 DIR [--layers 61] [--dense 3] [--experts 256] [--mtp]

The names, types, sizes and packing are those of deepseek-ai/DeepSeek-R1 (FP8 in blocks of 128 × 128), of the AWQ
that AutoAWQ makes of it (4 bits, groups of 64, `kv_b_proj` in 16 bits) and of W4AFP8 (experts in 4 bits with groups
of 128, the rest as FP8). Weights are zeros, and holes in sparse files: 350 GB take 4 on the disk. The embeddings
and the router are random, so that tokens go to all experts; the head is zero, so that every word of the vocabulary
is as likely and an answer at a temperature is never the same word again. Nothing of what it says means anything.
Standard library only.
"""

from __future__ import annotations

import argparse
import json
import os
import struct

HIDDEN, HEADS, QUERIES, LATENT, ROPE, NOPE, VALUE = 7168, 128, 1536, 512, 64, 128, 128
DENSE, EXPERT, VOCABULARY = 18432, 2048, 129280
BLOCK, GROUP, W4_GROUP = 128, 64, 128  # of FP8, AWQ, W4AFP8
WIDTH = {"BF16": 2, "F16": 2, "F32": 4, "I32": 4, "I8": 1, "F8_E4M3": 1}
PERIOD = 4099  # rows of embeddings before they come again; a prime
BOS, EOS = 0, 1
SPECIALS = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"]
LOW = bytes(byte & 0x7F for byte in range(256))
HIGH = bytes(byte & 0x80 | 0x3C for byte in range(256))
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '<｜User｜>' + message['content'] }}"
    "{% else %}{{ '<｜Assistant｜>' + message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{% endif %}"
)


def noise(count: int, kind: str) -> bytes:
    """So many random numbers between 2^-7 and 2^-6 of either sign, in 16 bits."""
    bits = bytearray(os.urandom(2 * count))
    bits[0::2] = bits[0::2].translate(LOW)
    bits[1::2] = bits[1::2].translate(HIGH if kind == "BF16" else bytes(byte & 0x80 | 0x20 for byte in range(256)))
    return bytes(bits)


def ones(count: int, kind: str) -> bytes:
    return {"BF16": b"\x80\x3f", "F16": b"\x00\x3c"}[kind] * count


class Shard:
    """One safetensors file: what is written is said tensor by tensor, what is not is a hole."""

    def __init__(self, path: str) -> None:
        self.path, self.header, self.filled, self.size = path, {}, [], 0

    def add(self, name: str, kind: str, shape: tuple, content: bytes = b"") -> None:
        count = 1
        for side in shape:
            count *= side
        if content:
            self.filled.append((self.size, content))
        end = self.size + count * WIDTH[kind]
        self.header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [self.size, end]}
        self.size = end

    def write(self) -> dict:
        head = json.dumps(self.header).encode()
        head += b" " * (-len(head) % 8)
        with open(self.path, "wb") as handle:
            handle.write(struct.pack("<Q", len(head)) + head)
            for offset, content in self.filled:
                handle.seek(8 + len(head) + offset)
                handle.write(content)
            handle.truncate(8 + len(head) + self.size)
        return {name: os.path.basename(self.path) for name in self.header}


class R1:
    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.plain = "F16" if kind == "awq" else "BF16"  # AutoAWQ leaves what it does not quantise in float16

    def linear(self, shard: Shard, name: str, rows: int, columns: int, expert: bool = False) -> None:
        if self.kind == "awq" and not name.endswith("kv_b_proj"):
            shard.add(name + ".qweight", "I32", (columns, rows // 8))
            shard.add(name + ".qzeros", "I32", (columns // GROUP, rows // 8))
            shard.add(name + ".scales", "F16", (columns // GROUP, rows))
        elif self.kind == "w4afp8" and expert:
            shard.add(name + ".weight", "I8", (rows, columns // 2))
            shard.add(name + ".weight_scale_inv", "F32", (rows, columns // W4_GROUP))
        elif self.kind in ("fp8", "w4afp8"):
            shard.add(name + ".weight", "F8_E4M3", (rows, columns))
            shard.add(name + ".weight_scale_inv", "F32", (-(-rows // BLOCK), -(-columns // BLOCK)))
        else:
            shard.add(name + ".weight", self.plain, (rows, columns))

    def norm(self, shard: Shard, name: str, width: int) -> None:
        shard.add(name + ".weight", self.plain, (width,), ones(width, self.plain))

    def feed_forward(self, shard: Shard, name: str, width: int, expert: bool = False) -> None:
        for part, rows, columns in (("gate", width, HIDDEN), ("up", width, HIDDEN), ("down", HIDDEN, width)):
            self.linear(shard, "%s.%s_proj" % (name, part), rows, columns, expert)

    def layer(self, shard: Shard, name: str, experts: int) -> None:
        self.norm(shard, name + ".input_layernorm", HIDDEN)
        self.norm(shard, name + ".post_attention_layernorm", HIDDEN)
        attention, mlp = name + ".self_attn", name + ".mlp"
        self.linear(shard, attention + ".q_a_proj", QUERIES, HIDDEN)
        self.norm(shard, attention + ".q_a_layernorm", QUERIES)
        self.linear(shard, attention + ".q_b_proj", HEADS * (NOPE + ROPE), QUERIES)
        self.linear(shard, attention + ".kv_a_proj_with_mqa", LATENT + ROPE, HIDDEN)
        self.norm(shard, attention + ".kv_a_layernorm", LATENT)
        self.linear(shard, attention + ".kv_b_proj", HEADS * (NOPE + VALUE), LATENT)
        self.linear(shard, attention + ".o_proj", HIDDEN, HEADS * VALUE)
        if not experts:
            self.feed_forward(shard, mlp, DENSE)
            return
        shard.add(mlp + ".gate.weight", self.plain, (experts, HIDDEN), noise(experts * HIDDEN, self.plain))
        shard.add(mlp + ".gate.e_score_correction_bias", "F32", (experts,))
        for number in range(experts):
            expert = "%s.experts.%d" % (mlp, number)
            self.feed_forward(shard, expert, EXPERT, expert=True)
            if self.kind == "w4afp8":
                for word in ("w1", "w2", "w3"):
                    shard.add("%s.%s.input_scale" % (expert, word), "BF16", (1,), ones(1, "BF16"))
        self.feed_forward(shard, mlp + ".shared_experts", EXPERT)

    def embeddings(self, shard: Shard, name: str) -> None:
        block = noise(PERIOD * HIDDEN, self.plain)
        content = (block * -(-VOCABULARY // PERIOD))[: VOCABULARY * HIDDEN * 2]
        shard.add(name, self.plain, (VOCABULARY, HIDDEN), content)


def config(options: argparse.Namespace) -> dict:
    """config.json of DeepSeek R1, with other numbers of layers and experts."""
    quantization = {
        "fp8": {
            "activation_scheme": "dynamic",
            "fmt": "e4m3",
            "quant_method": "fp8",
            "weight_block_size": [BLOCK, BLOCK],
        },
        "w4afp8": {"activation_scheme": "dynamic", "quant_method": "w4afp8", "weight_block_size": [BLOCK, BLOCK]},
        "awq": {
            "bits": 4,
            "group_size": GROUP,
            "modules_to_not_convert": ["self_attn.kv_b_proj"],
            "quant_method": "awq",
            "version": "gemm",
            "zero_point": True,
        },
    }
    told = {
        "architectures": ["DeepseekV3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "ep_size": 1,
        "first_k_dense_replace": options.dense,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": DENSE,
        "kv_lora_rank": LATENT,
        "max_position_embeddings": 163840,
        "model_type": "deepseek_v3",
        "moe_intermediate_size": EXPERT,
        "moe_layer_freq": 1,
        "n_group": 8,
        "n_routed_experts": options.experts,
        "n_shared_experts": 1,
        "norm_topk_prob": True,
        "num_attention_heads": HEADS,
        "num_experts_per_tok": 8,
        "num_hidden_layers": options.layers,
        "num_key_value_heads": HEADS,
        "num_nextn_predict_layers": 1 if options.mtp else 0,
        "q_lora_rank": QUERIES,
        "qk_nope_head_dim": NOPE,
        "qk_rope_head_dim": ROPE,
        "rms_norm_eps": 1e-06,
        "rope_scaling": {
            "beta_fast": 32,
            "beta_slow": 1,
            "factor": 40,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 4096,
            "type": "yarn",
        },
        "rope_theta": 10000,
        "routed_scaling_factor": 2.5,
        "scoring_func": "sigmoid",
        "tie_word_embeddings": False,
        "topk_group": 4,
        "topk_method": "noaux_tc",
        "torch_dtype": "float16" if options.kind == "awq" else "bfloat16",
        "use_cache": True,
        "v_head_dim": VALUE,
        "vocab_size": VOCABULARY,
    }
    if options.kind in quantization:
        told["quantization_config"] = quantization[options.kind]
    return told


def tokenizer() -> tuple:
    """tokenizer.json and tokenizer_config.json: the specials, every byte, and invented words up to R1's vocabulary."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    characters = {byte: chr(byte) for byte in plain}
    characters.update({byte: chr(256 + number) for number, byte in enumerate(rest)})
    first = len(SPECIALS)
    vocabulary = {word: number for number, word in enumerate(SPECIALS)}
    vocabulary.update({characters[byte]: first + byte for byte in range(256)})
    for number in range(len(vocabulary), VOCABULARY):
        vocabulary["\u0120w%d" % number] = number  # a space before it, as byte-level vocabularies write it
    added = [
        {
            "id": number,
            "content": word,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": number < 4,
        }
        for number, word in enumerate(SPECIALS)
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None}
    model.update(end_of_word_suffix=None, fuse_unk=False, byte_fallback=False, ignore_merges=False)
    model.update(vocab=vocabulary, merges=[])
    document = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None}
    document.update(pre_tokenizer=level, post_processor=level, decoder=level, model=model)
    words = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIALS[BOS],
        "eos_token": SPECIALS[EOS],
        "pad_token": SPECIALS[EOS],
        "add_bos_token": False,
        "add_eos_token": False,
        "model_max_length": 163840,
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }
    return document, words


def make(options: argparse.Namespace) -> int:
    """Write the model; returns the bytes of its weights."""
    os.makedirs(options.directory, exist_ok=True)
    r1, count = R1(options.kind), options.layers + bool(options.mtp) + 1
    where, total = {}, 0
    for number in range(count):
        shard = Shard(os.path.join(options.directory, "model-%05d-of-%05d.safetensors" % (number + 1, count)))
        if number == count - 1:
            r1.embeddings(shard, "model.embed_tokens.weight")
            r1.norm(shard, "model.norm", HIDDEN)
            shard.add("lm_head.weight", r1.plain, (VOCABULARY, HIDDEN))
        else:
            name = "model.layers.%d" % number
            r1.layer(shard, name, 0 if number < options.dense else options.experts)
            if number == options.layers:
                # The layer that guesses the next token but one (MTP).
                r1.norm(shard, name + ".enorm", HIDDEN)
                r1.norm(shard, name + ".hnorm", HIDDEN)
                shard.add(name + ".eh_proj.weight", r1.plain, (HIDDEN, 2 * HIDDEN))
                r1.norm(shard, name + ".shared_head.norm", HIDDEN)
                shard.add(name + ".shared_head.head.weight", r1.plain, (VOCABULARY, HIDDEN))
                shard.add(name + ".embed_tokens.weight", r1.plain, (VOCABULARY, HIDDEN))
        where.update(shard.write())
        total += shard.size
    document, words = tokenizer()
    ends = {"bos_token_id": BOS, "eos_token_id": EOS, "do_sample": True, "temperature": 1.0}
    for name, content in (
        ("config.json", config(options)),
        ("generation_config.json", ends),
        ("tokenizer.json", document),
        ("tokenizer_config.json", words),
        ("model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": where}),
    ):
        with open(os.path.join(options.directory, name), "w", encoding="utf-8") as handle:
            json.dump(content, handle, ensure_ascii=False)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["fp8", "awq", "w4afp8", "bf16"])
    parser.add_argument("directory")
    parser.add_argument("--layers", type=int, default=61)
    parser.add_argument("--dense", type=int, default=3)
    parser.add_argument("--experts", type=int, default=256)
    parser.add_argument("--mtp", action="store_true", help="with the layer for speculative decoding")
    options = parser.parse_args()
    print("%s: %.2f GiB of weights" % (options.directory, make(options) / 2**30))


if __name__ == "__main__":
    main()
