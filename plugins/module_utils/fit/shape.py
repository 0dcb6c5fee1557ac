# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The numbers of a model that decide how much memory it takes, from a catalog entry, a config.json or a GGUF header.

Pure functions. Bytes everywhere; every number that is not exact says so (see `number`).

Sources of the formulas: DeepSeek-V2 paper (MLA caches the latent and the rotary key, section 2.1), config.json of
the models, llama.cpp src/llama-kv-cache.cpp (an MLA model caches K only), vLLM's measured KV cache of a 5-layer R1:
5,760 bytes a token.
"""

from __future__ import annotations

import json
import re
import struct
from typing import NamedTuple, Optional, Tuple


def number(value, label, how):
    """A number with where it comes from: label is exact, estimated or measured; ``how`` is the formula or source."""
    return {"value": value, "label": label, "how": how}


class Mla(NamedTuple):
    """Ranks of multi-head latent attention."""

    q_lora: int  # 0: queries are not compressed
    kv_lora: int
    rope: int
    nope: int
    value: int


class Shape(NamedTuple):
    """One model. ``weight_bytes`` is what its files' tensors take."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int  # of a dense layer; 0: unknown
    moe_intermediate: int  # of one expert
    experts: int  # 0: no mixture of experts
    experts_used: int
    shared_experts: int
    dense_layers: int  # layers before the first with experts
    vocabulary: int
    context: int  # longest, tokens
    mla: Optional[Mla]
    latent_cache: bool  # an MLA model whose engine caches the latent
    weight_bytes: int
    weight_label: str  # exact or estimated
    layer_bytes: Tuple[int, ...]  # exact bytes of each layer; empty: unknown


# --- parameters -----------------------------------------------------------------------------------


def attention_parameters(shape):
    """Parameters of one layer's attention, ``(all, the part that tensor parallelism cannot cut)``.

    The down-projections of MLA make the latent that every head reads, so each rank holds them whole.
    """
    if shape.mla:
        mla = shape.mla
        queries = shape.heads * (mla.nope + mla.rope)
        down = shape.hidden * (mla.kv_lora + mla.rope) + mla.kv_lora
        if mla.q_lora:
            down += shape.hidden * mla.q_lora + mla.q_lora
            up = mla.q_lora * queries
        else:
            up = shape.hidden * queries
        up += mla.kv_lora * shape.heads * (mla.nope + mla.value) + shape.heads * mla.value * shape.hidden
        return down + up, down
    width = shape.heads * shape.head_dim
    return 2 * shape.hidden * width + 2 * shape.hidden * shape.kv_heads * shape.head_dim, 0


def layer_parameters(shape, layer):
    """Parameters of layer ``layer`` (0-based): attention, feed-forward and the two norms."""
    attention = attention_parameters(shape)[0] + 2 * shape.hidden
    if shape.experts and layer >= shape.dense_layers:
        one = 3 * shape.hidden * shape.moe_intermediate
        return attention + (shape.experts + shape.shared_experts) * one + shape.hidden * shape.experts
    return attention + 3 * shape.hidden * shape.intermediate


def layer_weights(shape):
    """``(bytes of each layer, bytes of everything else, label)``: embeddings, head and last norm are the rest."""
    if shape.layer_bytes:
        return list(shape.layer_bytes), shape.weight_bytes - sum(shape.layer_bytes), "exact"
    counts = [layer_parameters(shape, layer) for layer in range(shape.layers)]
    rest = 2 * shape.vocabulary * shape.hidden
    each = shape.weight_bytes / float(sum(counts) + rest)
    layers = [int(count * each) for count in counts]
    return layers, shape.weight_bytes - sum(layers), "estimated"


# --- KV cache -------------------------------------------------------------------------------------


def kv_bytes_per_token(shape, kv_bytes=2.0, layers=None):
    """Bytes of KV cache that one token takes in all layers (or ``layers`` of them), as a `number`.

    - MLA, latent cached: ``layers × (kv_lora_rank + qk_rope_head_dim) × bytes``; R1: 61 × 576 × 2 = 70,272.
    - MLA, latent not cached (GGUF files without the split tensors): ``layers × heads × (nope + rope + v) × bytes``.
    - GQA: ``2 × layers × kv_heads × head_dim × bytes``.
    """
    layers = shape.layers if layers is None else layers
    if shape.mla and shape.latent_cache:
        value = layers * (shape.mla.kv_lora + shape.mla.rope) * kv_bytes
        how = "layers × (kv_lora_rank + qk_rope_head_dim) × bytes"
    elif shape.mla:
        value = layers * shape.heads * (shape.mla.nope + shape.mla.rope + shape.mla.value) * kv_bytes
        how = "layers × heads × (qk_nope + qk_rope + v) × bytes: this file has no latent tensors"
    else:
        value = 2 * layers * shape.kv_heads * shape.head_dim * kv_bytes
        how = "2 × layers × kv_heads × head_dim × bytes"
    return number(int(value), "exact", how)


def kv_bytes_per_token_per_gpu(shape, kv_bytes=2.0, tensor_parallel=1, pipeline_parallel=1):
    """The same on one GPU: layers are divided by the pipeline; heads by tensor parallelism, the latent never.

    Every rank of a tensor-parallel group keeps the whole latent; GQA is divided by ``min(TP, kv_heads)``.
    """
    layers = -(-shape.layers // pipeline_parallel)
    whole = kv_bytes_per_token(shape, kv_bytes, layers)
    if shape.mla and shape.latent_cache:
        return number(whole["value"], "exact", whole["how"] + ", whole on every tensor-parallel rank")
    heads = shape.heads if shape.mla else shape.kv_heads
    share = min(tensor_parallel, heads)
    return number(-(-whole["value"] // share), "exact", "%s / %d" % (whole["how"], share))


# --- where shapes come from -----------------------------------------------------------------------


def from_catalog(entry):
    """Shape of a catalog entry; raises ``ValueError`` with one line when the entry has not the numbers for it."""
    facts = entry.get("architecture")
    if not facts:
        raise ValueError("model %s: the catalog has no architecture numbers for it" % entry.get("name"))
    sizes = [item.get("bytes") for item in entry.get("files", [])]
    label = "exact"
    if sizes and all(sizes):
        weight_bytes = sum(sizes)
    elif entry.get("bytes"):
        weight_bytes = entry["bytes"]
    elif facts.get("parameters") and entry.get("weight_bits"):
        weight_bytes, label = int(facts["parameters"] * entry["weight_bits"] / 8), "estimated"
    elif entry.get("weight_bits"):
        weight_bytes, label = 0, "estimated"  # filled in below from the shape
    else:
        raise ValueError("model %s: neither its bytes nor parameters and weight_bits are known" % entry.get("name"))
    if "bytes" in entry.get("unverified", []):
        label = "estimated"
    shape = _shape(
        entry.get("name", "model"), facts, weight_bytes, label, entry.get("kv_cache", "latent") == "latent", ()
    )
    if not weight_bytes:
        count = sum(layer_parameters(shape, layer) for layer in range(shape.layers))
        count += 2 * shape.vocabulary * shape.hidden
        shape = shape._replace(weight_bytes=int(count * entry["weight_bits"] / 8))
    return shape


def _shape(name, facts, weight_bytes, label, latent, layer_bytes):
    mla = None
    if facts.get("kv_lora_rank"):
        mla = Mla(
            facts.get("q_lora_rank") or 0,
            facts["kv_lora_rank"],
            facts["qk_rope_head_dim"],
            facts["qk_nope_head_dim"],
            facts["v_head_dim"],
        )
    heads = facts["attention_heads"]
    return Shape(
        name=name,
        layers=facts["layers"],
        hidden=facts["hidden_size"],
        heads=heads,
        kv_heads=facts.get("kv_heads") or heads,
        head_dim=facts.get("head_dim") or facts["hidden_size"] // heads,
        intermediate=facts.get("intermediate_size") or 0,
        moe_intermediate=facts.get("moe_intermediate_size") or 0,
        experts=facts.get("experts") or 0,
        experts_used=facts.get("experts_used") or 0,
        shared_experts=facts.get("shared_experts") or 0,
        dense_layers=facts.get("dense_layers") or 0,
        vocabulary=facts.get("vocabulary") or 0,
        context=facts.get("context") or 0,
        mla=mla,
        latent_cache=bool(mla) and latent,
        weight_bytes=weight_bytes,
        weight_label=label,
        layer_bytes=tuple(layer_bytes),
    )


# catalog name: (config.json of transformers, GGUF key below the architecture's prefix)
_NAMES = {
    "layers": ("num_hidden_layers", "block_count"),
    "hidden_size": ("hidden_size", "embedding_length"),
    "attention_heads": ("num_attention_heads", "attention.head_count"),
    "kv_heads": ("num_key_value_heads", "attention.head_count_kv"),
    "head_dim": ("head_dim", "attention.key_length"),
    "intermediate_size": ("intermediate_size", "feed_forward_length"),
    "moe_intermediate_size": ("moe_intermediate_size", "expert_feed_forward_length"),
    "experts": ("n_routed_experts", "expert_count"),
    "experts_used": ("num_experts_per_tok", "expert_used_count"),
    "shared_experts": ("n_shared_experts", "expert_shared_count"),
    "dense_layers": ("first_k_dense_replace", "leading_dense_block_count"),
    "vocabulary": ("vocab_size", "vocab_size"),
    "context": ("max_position_embeddings", "context_length"),
    "q_lora_rank": ("q_lora_rank", "attention.q_lora_rank"),
    "kv_lora_rank": ("kv_lora_rank", "attention.kv_lora_rank"),
    "qk_rope_head_dim": ("qk_rope_head_dim", "rope.dimension_count"),
    "qk_nope_head_dim": ("qk_nope_head_dim", None),
    "v_head_dim": ("v_head_dim", None),
}
_NEEDED = ("layers", "hidden_size", "attention_heads")


def from_config(name, config, weight_bytes):
    """Shape from a model's config.json (a dict) and the bytes of its safetensors data."""
    facts = dict((ours, config.get(theirs)) for ours, (theirs, _gguf) in _NAMES.items())
    missing = [_NAMES[ours][0] for ours in _NEEDED if not isinstance(facts[ours], int)]
    if missing:
        raise ValueError("model %s: config.json has no %s" % (name, ", ".join(missing)))
    return _shape(name, facts, weight_bytes, "exact", True, ())


def from_gguf(name, value, tensors):
    """Shape from GGUF headers.

    :param value: ``key -> value or None`` of the (first) header's metadata, such as ``Header.value``.
    :param tensors: ``(name, dims, bytes)`` of every tensor of all shards.
    """
    architecture = value("general.architecture")
    facts = {}
    for ours, (_config, theirs) in _NAMES.items():
        found = value("%s.%s" % (architecture, theirs)) if theirs else None
        facts[ours] = found[0] if isinstance(found, list) else found
    missing = ["%s.%s" % (architecture, _NAMES[ours][1]) for ours in _NEEDED if not isinstance(facts[ours], int)]
    if missing:
        raise ValueError("model %s: the GGUF header has no %s" % (name, ", ".join(missing)))
    names = set()
    layers = [0] * facts["layers"]
    for tensor, dims, size in tensors:
        names.add(tensor)
        block = re.match(r"blk\.(\d+)\.", tensor)
        if block and int(block.group(1)) < len(layers):
            layers[int(block.group(1))] += size
        if tensor == "token_embd.weight" and not facts["vocabulary"]:
            facts["vocabulary"] = dims[-1]
    latent = "blk.0.attn_k_b.weight" in names
    if facts["kv_lora_rank"]:
        # With latent tensors key_length is that of the latent; the head's own lengths have _mla names.
        suffix = "_mla" if latent else ""
        key = value("%s.attention.key_length%s" % (architecture, suffix)) or 0
        facts["qk_nope_head_dim"] = key - facts["qk_rope_head_dim"]
        facts["v_head_dim"] = value("%s.attention.value_length%s" % (architecture, suffix)) or 0
        facts["kv_heads"] = facts["attention_heads"]
    total = sum(size for _name, _dims, size in tensors)
    return _shape(name, facts, total, "exact", latent, layers)


def read_safetensors_header(path, limit=256 * 1024 * 1024):
    """Bytes of tensor data that the header of a safetensors file announces; raises ``ValueError`` with one line.

    Format: 8 bytes little-endian length, then a JSON object whose items have ``data_offsets``.
    """
    with open(path, "rb") as handle:
        head = handle.read(8)
        size = struct.unpack("<Q", head)[0] if len(head) == 8 else limit + 1
        if size > limit:
            raise ValueError("%s is not a safetensors file (header of %d bytes)" % (path, size))
        try:
            header = json.loads(handle.read(size).decode("utf-8"))
            ends = [item["data_offsets"][1] for key, item in header.items() if key != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise ValueError("%s is not a safetensors file (its header cannot be read)" % path) from None
        data = max(ends) if ends else 0
        found = handle.seek(0, 2)
    if found != 8 + size + data:
        raise ValueError("%s has %d bytes, its header announces %d" % (path, found, 8 + size + data))
    return data
