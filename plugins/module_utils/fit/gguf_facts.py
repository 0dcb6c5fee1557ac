# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The metadata of a GGUF header as the facts of a catalog entry (``architecture``, README of role model). Pure.

Sources: llama.cpp src/llama-arch.cpp (keys), src/llama-model.cpp (load_hparams: which layers slide where the file does
not say), src/llama-kv-cache-iswa.cpp and llama-memory-hybrid.cpp (what is kept).
"""

from __future__ import annotations

import re

from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.config_facts import LARGEST, MOST_LAYERS
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.families import NoText, no_text_gguf

# catalog name: key below the architecture's prefix
NAMES = {
    "layers": "block_count",
    "hidden_size": "embedding_length",
    "attention_heads": "attention.head_count",
    "kv_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "v_head_dim": "attention.value_length",
    "intermediate_size": "feed_forward_length",
    "moe_intermediate_size": "expert_feed_forward_length",
    "experts": "expert_count",
    "experts_used": "expert_used_count",
    "shared_experts": "expert_shared_count",
    "dense_layers": "leading_dense_block_count",
    "vocabulary": "vocab_size",
    "context": "context_length",
    "q_lora_rank": "attention.q_lora_rank",
    "kv_lora_rank": "attention.kv_lora_rank",
    "qk_rope_head_dim": "rope.dimension_count",
}
_NEEDED = ("layers", "hidden_size", "attention_heads")
# Every n-th layer is full (llama.cpp, set_swa_pattern), where the file has a window and no pattern; 0: none slides.
_FULL_EVERY = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "cohere2": 4, "gpt-oss": 2, "exaone4": 4, "olmo2": 4,
               "smallthinker": 4, "phi3": 0, "llama": 0, "qwen2": 0, "qwen2moe": 0, "qwen3": 0, "qwen3moe": 0,
               "starcoder2": 0}  # fmt: skip
_STATES = ("ssm.", "wkv.", "shortconv.", "kda.", "linear_attention.")
_SUSPECT = re.compile(r"indexer|compress|sparse|shared_kv|chunk|shortconv|recurr|window|pattern|nsa|cross_attention")
_UNDERSTOOD = ("attention.sliding_window", "attention.sliding_window_pattern", "attention.shared_kv_layers",
               "full_attention_interval", "shortconv.l_cache", "attention.chunk_size")  # fmt: skip


def _whole(name, value):
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST:
        raise ValueError("%s: expected a whole number, found %s" % (name, repr(value)[:60]))
    return value


def facts_of(value, keys=()):
    """Facts of a header; raises ``ValueError`` with one line where it is none of a language model, `NoText` where it is
    of one that writes no text.

    :param value: ``key -> value or None`` of the metadata, such as ``Header.value``.
    :param keys: names of all keys; those that may change what is kept and are not understood are named in ``unknown``.
    """
    architecture = value("general.architecture")
    if not isinstance(architecture, str) or not architecture:
        raise ValueError("the GGUF header has no general.architecture")
    why = no_text_gguf(architecture, value)
    if why:
        raise NoText("the GGUF header is of %s, which cannot generate text" % why)
    prefix = architecture + "."
    facts = {"name": architecture}
    lists = {}
    for ours, theirs in NAMES.items():
        found = value(prefix + theirs)
        if isinstance(found, list):
            lists[ours] = [_whole(prefix + theirs, one) for one in found]
            found = max(lists[ours]) if lists[ours] else None
        facts[ours] = _whole(prefix + theirs, found)
    missing = [prefix + NAMES[ours] for ours in _NEEDED if not facts[ours]]
    if missing:
        raise ValueError("the GGUF header has no %s" % ", ".join(missing))
    layers = facts["layers"]
    if layers > MOST_LAYERS:
        raise ValueError("%sblock_count: %d layers are no model" % (prefix, layers))
    unknown = ["%sattention.head_count_kv" % prefix] if len(lists.get("kv_heads", [0] * layers)) != layers else []
    if facts["head_dim"] and not facts["v_head_dim"]:  # llama.cpp's default, whatever the key's length is
        facts["v_head_dim"] = facts["hidden_size"] // facts["attention_heads"]
    if not facts["kv_heads"] and len(lists.get("attention_heads") or []) == layers:
        lists["kv_heads"] = lists["attention_heads"]
    heads = lists.get("kv_heads") or [facts["kv_heads"] or facts["attention_heads"]] * layers
    kinds = _kinds(architecture, value, (heads * layers)[:layers], any(_states(keys, prefix)), unknown)
    groups = _groups(value, prefix, facts, (heads * layers)[:layers], kinds)
    if len(groups) > 1 or groups[0]["kind"] != "full":
        facts["attention"] = groups
    for key in keys:
        key = key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)
        rest = key[len(prefix) :]
        if (
            key.startswith(prefix)
            and _SUSPECT.search(rest)
            and rest not in _UNDERSTOOD
            and value(key) not in (0, False)
        ):
            unknown.append(key[:80])
    if unknown:
        facts["unknown"] = sorted(set(unknown))
    return {key: one for key, one in facts.items() if one or isinstance(one, (bool, list))}


def with_lengths(value, keys, tensors):
    """``(facts, whether the cache holds the latent)``, with what the names of the tensors tell besides.

    :param tensors: names of the tensors of (at least) the first shard; without any the keys alone count.
    :raises ValueError: as `facts_of`.
    """
    facts = facts_of(value, keys)
    names = set(tensors)
    prefix = "%s.attention." % facts["name"]
    if names:
        facts["tied_embeddings"] = "output.weight" not in names
    latent = "blk.0.attn_k_b.weight" in names or (not names and value(prefix + "key_length_mla") is not None)
    if facts.get("kv_lora_rank"):
        # With latent tensors key_length is that of the latent; the head's own lengths have _mla names.
        suffix = "_mla" if latent else ""
        key, length = (_whole(prefix + name, value(prefix + name + suffix)) for name in ("key_length", "value_length"))
        rope = facts.get("qk_rope_head_dim") or 0
        if key is None or length is None or key < rope:
            raise ValueError("%skey_length%s is missing or shorter than the rotary part" % (prefix, suffix))
        facts.update(qk_nope_head_dim=key - rope, qk_rope_head_dim=rope, v_head_dim=length)
        facts["kv_heads"] = facts["attention_heads"]
    return facts, latent


def _states(keys, prefix):
    for key in keys:
        key = key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)
        yield key.startswith(tuple(prefix + state for state in _STATES))


def _kinds(architecture, value, kv_heads, has_states, unknown):
    """The kind of each layer: full, sliding, state, none or shared."""
    prefix, layers = architecture + ".", len(kv_heads)
    window = _whole(prefix + "attention.sliding_window", value(prefix + "attention.sliding_window"))
    pattern = value(prefix + "attention.sliding_window_pattern")
    interval = _whole(prefix + "full_attention_interval", value(prefix + "full_attention_interval"))
    kinds = ["full" if heads else "state" if has_states else "none" for heads in kv_heads]
    if interval:
        kinds = [kind if (layer + 1) % interval == 0 else "state" for layer, kind in enumerate(kinds)]
    elif has_states and all(kv_heads):
        unknown.append(prefix + "ssm")
    if isinstance(pattern, list) and (
        len(pattern) != layers and layers % (len(pattern) or layers + 1) or any(one not in (0, 1) for one in pattern)
    ):
        unknown.append(prefix + "attention.sliding_window_pattern")
    elif window and not isinstance(pattern, list):
        every = pattern if isinstance(pattern, int) and not isinstance(pattern, bool) else _FULL_EVERY.get(architecture)
        if every is None or every < 0:
            unknown.append(prefix + "attention.sliding_window")
        else:
            pattern = [bool(every) and (layer + 1) % every != 0 for layer in range(layers)]
    if window and isinstance(pattern, list) and pattern:
        slides = [bool(pattern[layer % len(pattern)]) for layer in range(layers)]
        kinds = ["sliding" if kind == "full" and slide else kind for kind, slide in zip(kinds, slides)]
    shared = _whole(prefix + "attention.shared_kv_layers", value(prefix + "attention.shared_kv_layers")) or 0
    if shared >= layers:
        unknown.append(prefix + "attention.shared_kv_layers")
    elif shared:
        kinds = kinds[: layers - shared] + ["shared"] * shared
    # The last ones, which predict further tokens (GLM 4.5, Qwen 3.5), keep nothing in the model's own cache.
    further = _whole(prefix + "nextn_predict_layers", value(prefix + "nextn_predict_layers")) or 0
    if further >= layers:
        unknown.append(prefix + "nextn_predict_layers")
    elif further:
        kinds = kinds[: layers - further] + ["none"] * further
    chunk = _whole(prefix + "attention.chunk_size", value(prefix + "attention.chunk_size"))
    if chunk:
        unknown.append(prefix + "attention.chunk_size")
    return kinds


def _groups(value, prefix, facts, kv_heads, kinds):
    window = value(prefix + "attention.sliding_window")
    swa = {
        "head_dim": _whole("key_length_swa", value(prefix + "attention.key_length_swa")),
        "v_head_dim": _whole("value_length_swa", value(prefix + "attention.value_length_swa")),
    }
    found = []
    for layer, kind in enumerate(kinds):
        group = {"kind": kind}
        if kind == "full" and facts["kv_lora_rank"]:
            group["kind"] = "latent"
        elif kind in ("full", "sliding"):
            group["kv_heads"] = kv_heads[layer]
        if kind == "sliding":
            group.update(swa, window=window)
        group = {key: one for key, one in group.items() if one}
        for known in found:
            if {key: one for key, one in known.items() if key != "layers"} == group:
                known["layers"].append(layer)
                break
        else:
            found.append(dict(group, layers=[layer]))
    return found
