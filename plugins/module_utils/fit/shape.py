# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The numbers of a model that decide how much memory it takes, from a catalog entry.

Pure functions. Bytes everywhere; every number that is not exact says so (see `number`).

Sources of the formulas: DeepSeek-V2 paper (MLA caches the latent and the rotary key, section 2.1), config.json of
the models, llama.cpp src/llama-kv-cache.cpp (an MLA model caches K only), vLLM's measured KV cache of a 5-layer R1:
5,760 bytes a token.
"""

from __future__ import annotations

import collections
import functools
import struct
from typing import NamedTuple, Optional, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.kv import Kv
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import reading


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


class Cache(NamedTuple):
    """What one layer keeps of each sequence."""

    kind: str  # one of KINDS
    heads: int  # that tensor parallelism divides; 0: whole on every rank
    numbers: int  # of one token, of all heads
    window: int  # tokens that are kept at most; 0: all
    exact: int  # further bytes of one token, whatever the cache's type: the keys of a sparse indexer
    state: int  # bytes whatever the length; -1: not known
    states: int = 0  # how many of them vLLM holds for a sequence


# full: a key and a value of every token; latent: what both are made of (MLA), indexed: that and an indexer's keys
# (DeepSeek Sparse Attention); sliding: of the last tokens; state: linear attention, Mamba, convolution; shared: another
# layer's; none: no attention.
KINDS = ("full", "latent", "indexed", "sliding", "state", "shared", "none")


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
    weight_bytes: int  # 0: not known
    weight_label: str  # exact or estimated
    caches: Tuple[Cache, ...] = ()  # of each layer
    unknown: Tuple[str, ...] = ()  # keys that may change what is kept, and are not understood
    moe_layers: Optional[Tuple[int, ...]] = None  # layers with experts; None: all but the dense ones
    matrices: int = 3  # of a feed-forward: gate, up, down
    tied: bool = False  # the head is the embedding
    uncounted: str = ""  # what of the weights has no formula here
    block: int = 0  # rows of weights that share one scale (FP8 in blocks of 128 × 128); 0: none
    group: int = 0  # weights of a row that share one scale (AWQ, GPTQ: 128); 0: none


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
    moe = layer >= shape.dense_layers if shape.moe_layers is None else layer in shape.moe_layers
    if shape.experts and moe:
        one = shape.matrices * shape.hidden * shape.moe_intermediate
        return attention + (shape.experts + shape.shared_experts) * one + shape.hidden * shape.experts
    return attention + shape.matrices * shape.hidden * shape.intermediate


def experts_parameters(shape, layer):
    """Parameters of the experts of layer ``layer`` that are chosen from."""
    moe = layer >= shape.dense_layers if shape.moe_layers is None else layer in shape.moe_layers
    return shape.experts * shape.matrices * shape.hidden * shape.moe_intermediate if moe else 0


def parameters(shape):
    """Parameters of the whole model, as a `number`; its value is None where a layer is of a kind without a formula."""
    strange = sorted({cache.kind for cache in shape.caches} & {"state", "none", "indexed"})
    strange += [shape.uncounted] if shape.uncounted else []
    if strange or shape.unknown or not shape.intermediate + shape.moe_intermediate or not shape.vocabulary:
        how = ", ".join(list(shape.unknown) + strange) or "intermediate_size, vocab_size"
        return number(None, "not known", "no formula: %s" % how)
    count = sum(layer_parameters(shape, layer) for layer in range(shape.layers))
    count += (1 if shape.tied else 2) * shape.vocabulary * shape.hidden
    return number(count, "estimated", "attention + feed-forward + norms + embeddings")


@functools.lru_cache(maxsize=256)
def layers_parameters(shape):
    """Parameters of all layers."""
    return sum(layer_parameters(shape, layer) for layer in range(shape.layers))


@functools.lru_cache(maxsize=256)
def layer_weights(shape):
    """``(bytes of each layer, bytes of everything else)``, estimated: embeddings, head and last norm are the rest."""
    counts = [layer_parameters(shape, layer) for layer in range(shape.layers)]
    rest = (1 if shape.tied else 2) * shape.vocabulary * shape.hidden
    each = shape.weight_bytes / float(sum(counts) + rest)
    layers = tuple(int(count * each) for count in counts)
    return layers, shape.weight_bytes - sum(layers)


# --- what is kept of the tokens: KV cache, windows, states ------------------------------------------


def token_bytes(cache, kv_bytes=2.0, tensor_parallel=1):
    """Bytes of one token in one layer on one rank.

    - Grouped queries: ``kv_heads × (key + value) × bytes``, divided by ``min(TP, kv_heads)``.
    - Latent (MLA): ``(kv_lora_rank + qk_rope_head_dim) × bytes``, whole on every rank; R1: 576 × 2.
    - With a sparse indexer (V3.2) 132 bytes more; its latent in fp8 takes 656: 512 + 16 of scales + 64 × 2
      (FlashMLA, "FP8 with scale"; SGLang PR 11309 measured it).
    """
    if cache.kind == "indexed" and cache.numbers and kv_bytes == 1:
        value = cache.numbers + 80
    else:
        value = cache.numbers * kv_bytes
    value = int(value) + cache.exact
    return -(-value // min(tensor_parallel, cache.heads)) if cache.heads else value


def with_kv(shape, kv: Kv):
    """The shape under a type of cache that is more than some bytes a number; others are said by ``kv_bytes``."""
    if kv.unknown:
        return shape._replace(unknown=(*shape.unknown, kv.unknown))
    if not (kv.head or kv.row or kv.ends):
        return shape
    plain = min(kv.ends, shape.layers // 2) if kv.ends and not any(cache.state for cache in shape.caches) else 0

    def weighed(layer, cache):
        if not cache.numbers:
            return cache
        if layer < plain or layer >= shape.layers - plain:
            value = 2 * cache.numbers
        elif kv.row and not cache.heads:
            value = kv.row
        else:
            value = int(cache.numbers * kv.number + cache.heads * kv.head)
        return cache._replace(numbers=0, exact=cache.exact + value)

    return shape._replace(caches=tuple(weighed(*one) for one in enumerate(shape.caches)))


def with_draft(shape):
    """The shape with one layer more that keeps what the last one with a cache keeps: the model's own for further tokens
    (MTP). Its weights are among the files."""
    last = max((layer for layer, cache in enumerate(shape.caches) if cache.numbers or cache.exact), default=None)
    if last is None:
        return shape
    cache = shape.caches[last]
    twice = cache._replace(numbers=2 * cache.numbers, exact=2 * cache.exact)
    return shape._replace(caches=(*shape.caches[:last], twice, *shape.caches[last + 1 :]))


@functools.lru_cache(maxsize=256)
def _stages(caches, size):
    """``(cache, count)`` of each stage of ``size`` layers in a row: most layers of a model keep the same."""
    stages = [collections.Counter(caches[first : first + size]) for first in range(0, len(caches), size)]
    return [tuple(stage.items()) for stage in stages]


def _fullest(shape, pipeline_parallel, weigh):
    """What ``weigh`` makes of the stage that weighs most, of ceil(layers / PP) layers in a row."""
    stages = _stages(shape.caches[: shape.layers], -(-shape.layers // pipeline_parallel))
    return max(sum(count * weigh(cache) for cache, count in stage) for stage in stages)


def kv_bytes_per_token(shape, kv_bytes=2.0, tensor_parallel=1, pipeline_parallel=1):
    """Bytes that each further token takes, in all layers or of the fullest stage and rank, as a `number`.

    Layers with a window and states do not grow (see `kept`). The value is None where keys of the model are not
    understood, which are named.
    """
    if shape.unknown:
        return number(None, "not known", "not understood: %s" % ", ".join(shape.unknown))

    def weigh(cache):
        return 0 if cache.window else token_bytes(cache, kv_bytes, tensor_parallel)

    return number(_fullest(shape, pipeline_parallel, weigh), "exact", _how(shape, tensor_parallel))


@functools.lru_cache(maxsize=256)
def _how(shape, tensor_parallel):
    words = {
        "latent": "(kv_lora_rank + qk_rope_head_dim) × bytes",
        "indexed": "(kv_lora_rank + qk_rope_head_dim) × bytes + indexer",
        "full": "kv_heads × (key + value) × bytes",
    }
    if shape.mla and not shape.latent_cache:
        words["full"] = "heads × (qk_nope + qk_rope + v) × bytes: this file has no latent tensors"
    parts = []
    for kind, formula in words.items():
        count = sum(cache.kind == kind for cache in shape.caches[: shape.layers])
        if count:
            parts.append("%d layers × %s" % (count, formula))
    rest = [kind for kind in KINDS if kind not in words and any(cache.kind == kind for cache in shape.caches)]
    how = " + ".join(parts) or "no layer grows"
    if rest:
        how += "; apart: " + ", ".join("%d %s" % (sum(c.kind == kind for c in shape.caches), kind) for kind in rest)
    if tensor_parallel > 1:
        how += ", whole on every tensor-parallel rank" if shape.latent_cache else ", of one rank"
    return how


@functools.lru_cache(maxsize=256)
def not_known(shape):
    """Why it is not known what the model keeps: keys, and states without a size; empty when it is."""
    count = sum(cache.state < 0 for cache in shape.caches)
    return shape.unknown + (("the size of the states of %d layers" % count,) if count else ())


@functools.lru_cache(maxsize=256)
def filled_up(caches):
    """How many times as much as its layers need each kind of cache takes in vLLM: ``{cache: factor}``.

    Where layers of several kinds share its blocks, it puts those of each kind into groups of one size, that of the
    fewest, and fills the last group up (v1/core/kv_cache_utils.py, _get_kv_cache_groups_uniform_page_size).
    """
    counts = {}
    for cache in caches:
        # A layer with both has one of each (Falcon-H1).
        for part in (cache._replace(state=0) if cache.numbers or cache.exact else None, cache.state or None):
            if part is not None:
                counts[part] = counts.get(part, 0) + 1
    windows = {getattr(part, "window", -1) for part in counts}
    if len(counts) < 2 or len(windows) == 1:
        return {}
    fewest, most = min(counts.values()), max(counts.values())
    size = most if most < 1.5 * fewest else fewest
    return {part: -(-count // size) * size / float(count) for part, count in counts.items()}


# Tokens of vLLM's smallest block (v1/attention/backends/flash_attn.py, platforms/cpu.py).
GPU_BLOCK, CPU_BLOCK = 16, 128


@functools.lru_cache(maxsize=256)
def _paged(shape, block, kv_bytes, tensor_parallel):
    """``(tokens of a block, bytes of a page)`` of vLLM; the bytes are 0 where a state needs no page.

    A state has a page of the size that a block of a layer with attention has: the block grows until a state goes into
    it (platforms/interface.py, _align_hybrid_block_size).
    """
    caches = set(shape.caches[: shape.layers])
    state = max(-(-cache.state // tensor_parallel) for cache in caches)
    token = max(token_bytes(cache, kv_bytes, tensor_parallel) for cache in caches)
    if not block or state <= 0 or not token:
        return block, 0
    block *= -(-state // (block * token))
    return block, block * token


def kept(
    shape, tokens, kv_bytes=2.0, tensor_parallel=1, pipeline_parallel=1, more=0, windows=True, block=0
):  # fmt: skip
    """Bytes of one sequence of ``tokens`` on the fullest rank, as a `number`.

    :param more: tokens that an engine keeps beyond a window while it computes them (its batch).
    :param windows: whether the engine drops what leaves a window; without, it keeps all of it.
    :param block: vLLM's smallest block, tokens: it fills groups of layers (see `filled_up`) and pages up; 0: another
        engine.
    """
    if not_known(shape):
        return number(None, "not known", "not understood: %s" % ", ".join(not_known(shape)))

    def weigh(cache):
        window = cache.window and windows
        length = min(tokens, cache.window + more) if window else tokens
        if block:
            # A window begins anywhere in a block.
            length = (-(-length // one_block) + (1 if window else 0)) * one_block
        state = page * cache.states if page and cache.state else -(-cache.state // tensor_parallel)
        one = token_bytes(cache, kv_bytes, tensor_parallel) * factors.get(cache._replace(state=0), 1)
        return one * length + state * factors.get(cache.state, 1)

    factors = filled_up(shape.caches[: shape.layers]) if block and windows else {}
    one_block, page = _paged(shape, block, kv_bytes, tensor_parallel)
    value = int(round(_fullest(shape, pipeline_parallel, weigh)))
    states = any(cache.state for cache in shape.caches)
    return number(value, "estimated" if states else "exact", "%d tokens: %s" % (tokens, _how(shape, tensor_parallel)))


def bounded(shape, kv_bytes=2.0):
    """``{"window": tokens of the longest window or 0, "bytes": of all full windows, "state": bytes or None}``."""
    windows = [cache for cache in shape.caches if cache.window]
    states = [cache.state for cache in shape.caches if cache.state]
    return {
        "window": max([cache.window for cache in windows] or [0]),
        "bytes": sum(token_bytes(cache, kv_bytes) * cache.window for cache in windows),
        "state": None if -1 in states else sum(states),
    }


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
    latent = entry.get("kv_cache", "latent") == "latent"
    shape = _shape(entry.get("name", "model"), facts, weight_bytes, label, latent)
    if not weight_bytes:
        count = parameters(shape)
        if count["value"] is None:
            raise ValueError("model %s: its weights are not known (%s)" % (shape.name, count["how"]))
        shape = shape._replace(weight_bytes=int(count["value"] * entry["weight_bits"] / 8))
    return shape


def _shape(name, facts, weight_bytes, label, latent):
    mla = None
    if facts.get("kv_lora_rank"):
        lengths = [facts.get(key) for key in ("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")]
        if None in lengths or min(lengths) < 0:
            raise ValueError("model %s: kv_lora_rank without qk_rope_head_dim, qk_nope_head_dim and v_head_dim" % name)
        mla = Mla(facts.get("q_lora_rank") or 0, facts["kv_lora_rank"], *lengths)
    heads = facts["attention_heads"]
    shape = Shape(
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
        unknown=tuple(facts.get("unknown") or ()),
        moe_layers=tuple(facts["moe_layers"]) if facts.get("moe_layers") is not None else None,
        matrices=facts.get("feed_forward_matrices") or 3,
        tied=bool(facts.get("tied_embeddings")),
        uncounted=facts.get("uncounted") or "",
        block=facts.get("weight_block") or 0,
        group=facts.get("weight_group") or 0,
    )
    return shape._replace(caches=_caches(shape, facts))


def _caches(shape, facts):
    """What each layer keeps; layers that ``attention`` does not name are like the rest of the model."""
    index = facts.get("index_head_dim") or 0
    usual = {"kind": "latent" if shape.mla else "full"}
    if index and shape.mla:
        usual["kind"] = "indexed"
    groups = [usual] * shape.layers
    for group in facts.get("attention") or []:
        for layer in group["layers"]:
            if layer >= shape.layers:
                raise ValueError("model %s: attention names layer %d of %d" % (shape.name, layer, shape.layers))
            groups[layer] = group
    found = {}
    return tuple(found.setdefault(id(group), _cache(shape, facts, group, index)) for group in groups)


def _cache(shape, facts, group, index):
    kind, state = group["kind"], group.get("state_bytes") or 0  # both: a cache and a state (Falcon-H1)
    states = group.get("states") or 2
    if kind in ("state", "shared", "none"):
        return Cache(kind, 0, 0, 0, 0, group.get("state_bytes", -1) if kind == "state" else 0, states)
    if kind in ("latent", "indexed") and shape.latent_cache:
        # An indexer keeps a key in fp8 and a scale of 4 bytes for each 128 numbers.
        exact = index + 4 * -(-index // 128) if kind == "indexed" else 0
        return Cache(kind, 0, shape.mla.kv_lora + shape.mla.rope, 0, exact, state, states)
    if shape.mla and kind != "sliding":
        numbers = shape.heads * (shape.mla.nope + shape.mla.rope + shape.mla.value)
        return Cache("full", shape.heads, numbers, 0, 0, state, states)
    heads, key = group.get("kv_heads") or shape.kv_heads, group.get("head_dim") or shape.head_dim
    # Without a length of its own a value is as long as the key.
    value = group.get("v_head_dim") or (0 if group.get("head_dim") else facts.get("v_head_dim")) or key
    return Cache(kind, heads, heads * (key + value), group.get("window") or 0, 0, state, states)


def read_safetensors_header(path, limit=256 * 1024 * 1024):
    """Bytes of tensor data that the header of a safetensors file announces; raises ``ValueError`` with one line.

    Format: 8 bytes little-endian length, then a JSON object whose items have ``data_offsets``.
    """
    with reading(path) as handle:
        head = handle.read(8)
        size = struct.unpack("<Q", head)[0] if len(head) == 8 else limit + 1
        if size > limit:
            raise ValueError("%s is not a safetensors file (header of %d bytes)" % (path, size))
        try:
            header = foreign.parse(handle.read(size), path, limit)
            tensors = [item for key, item in header.entries() if key != "__metadata__"]
            ends = [[offset.count("") for offset in item.values("data_offsets")][1] for item in tensors]
        except (Failure, IndexError):
            raise ValueError("%s is not a safetensors file (its header cannot be read)" % path) from None
        data = max(ends) if ends else 0
        found = handle.seek(0, 2)
    if found != 8 + size + data:
        raise ValueError("%s has %d bytes, its header announces %d" % (path, found, 8 + size + data))
    return data
