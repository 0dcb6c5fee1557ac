# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model's config.json as the facts of a catalog entry (``architecture``, README of role model). Pure.

What a key does to the cache is taken from the model's code in transformers and vLLM. A key that looks as if it changed
the cache and is not among those that are understood here goes into ``unknown``: then the cache is not known.
"""

from __future__ import annotations

import re

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import is_whole

LARGEST = 2**40  # of any number of a config: more is no model
MOST_LAYERS = 4096

# catalog name: names in config.json, the first that is there counts
NAMES = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "attention_heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num", "num_query_groups",
                 "num_attention_groups"),
    "head_dim": ("head_dim", "attention_head_dim", "kv_channels"),
    "intermediate_size": ("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim"),
    "moe_intermediate_size": ("moe_intermediate_size", "expert_ffn_hidden_size", "moe_ffn_hidden_size"),
    "experts": ("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts", "num_routed_experts"),
    "experts_used": ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "num_selected_experts",
                     "num_activated_experts", "top_k_experts"),
    "shared_experts": ("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts"),
    "dense_layers": ("first_k_dense_replace", "moe_layer_start_index", "num_dense_layers"),
    "vocabulary": ("vocab_size", "padded_vocab_size"),
    "context": ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx", "max_sequence_length"),
    "q_lora_rank": ("q_lora_rank",),
    "kv_lora_rank": ("kv_lora_rank",),
    "qk_rope_head_dim": ("qk_rope_head_dim",),
    "qk_nope_head_dim": ("qk_nope_head_dim",),
    "v_head_dim": ("v_head_dim",),
    "index_head_dim": ("index_head_dim",),
}  # fmt: skip
_NEEDED = ("layers", "hidden_size", "attention_heads")

# What a layer is, by the words of layer_types and its likes.
_KINDS = {
    "full_attention": "full",
    "attention": "full",
    "global": "full",
    "global_attention": "full",
    "full": "full",
    "sliding_attention": "sliding",
    "sliding_window_attention": "sliding",
    "local": "sliding",
    "local_attention": "sliding",
    "sliding": "sliding",
    "chunked_attention": "chunked",
    "linear_attention": "state",
    "lightning_attention": "state",
    "conv": "state",
    "mamba": "state",
    "mamba1": "state",
    "mamba2": "state",
    "recurrent": "state",
    "mlp": "none",
    "moe": "none",
}
_NEMOTRON = {"M": "state", "*": "full", "-": "none", "E": "none"}
# Which layers slide where only sliding_window is given: every layer but each n-th; 0: all.
_SLIDING_OF = {"gemma2": 2, "gpt_oss": 2, "gemma3_text": 6, "gemma3": 6, "cohere2": 4, "mistral": 0, "mixtral": 0,
               "starcoder2": 0, "phi3": 0, "phimoe": 0}  # fmt: skip
_USE_SLIDING = ("use_sliding_window", "use_swa", "enable_sliding_window")

# Keys that may change the cache, by their names ...
_SUSPECT = re.compile(
    r"window|sliding|swa|layer_types?$|layers?_block|block_types|block_configs|hybrid|mamba|ssm|recurr|rwkv|retention|"
    r"linear_|lightning|delta|conv(?!ers)|compress|sparse(?!_step)|index_|_share|share_|shared_(?:kv|layers)|\bcla_|"
    r"use_cla|yoco|kv_|_kv|key_value|multi_query|local|global|chunk|attn_type|attention_type|attn_layer|full_attn|"
    r"full_attention|nsa|moba|latent|indexer|attention_other|layer_group|encoder_decoder|cross_attention_layers|k_eq_v|"
    r"pattern|group_query|per_layer|state_size",
)
# ... those that are understood below, and those that do not change it.
_UNDERSTOOD = {name for names in NAMES.values() for name in names} | {
    "layer_types", "sliding_window", "sliding_window_pattern", "max_window_layers", *_USE_SLIDING,
    "hybrid_override_pattern", "layers_block_type", "block_types", "_block_types", "attention_window_size",
    "attn_layer_period", "attn_layer_offset", "attn_layer_indices", "full_attention_interval", "hybrid_layer_pattern",
    "swa_num_key_value_heads", "swa_head_dim", "swa_v_head_dim", "swa_num_attention_heads", "sliding_window_size",
    "use_cla", "cla_share_factor", "num_kv_shared_layers", "attn_type_list", "linear_attn_config", "no_rope_layers",
    "no_rope_layer_interval", "attention_chunk_size", "multi_query", "multi_query_attention", "index_head_dim",
    "index_n_heads", "index_topk", "global_head_dim", "num_global_key_value_heads", "attention_k_eq_v", "attn_config",
    "mamba_d_state", "mamba_d_conv", "mamba_expand", "mamba_num_heads", "mamba_n_heads", "mamba_head_dim",
    "mamba_d_head", "ssm_state_size", "mamba_n_groups", "conv_kernel", "conv_L_cache", "linear_num_key_heads",
    "linear_key_head_dim", "linear_num_value_heads", "linear_value_head_dim", "linear_conv_kernel_dim",
}  # fmt: skip
_HARMLESS = {
    "use_cache", "cache_implementation", "rope_local_base_freq", "rope_theta_local", "local_rope_theta",
    "global_rope_theta", "swa_rope_theta", "conv_bias", "use_conv_bias", "conv_use_xavier_init", "conv_dim",
    "conv_dim_out", "mamba_proj_bias", "mamba_conv_bias", "mamba_dt_rank", "mamba_chunk_size", "chunk_size",
    "chunk_size_feed_forward", "mamba_hidden_act", "mamba_ssm_cache_dtype", "mamba_ssm_dtype", "use_mamba_kernels",
    "mamba_inner_layernorms", "mamba_dt_min", "mamba_dt_max", "kv_cache_scheme", "num_shared_expert",
    "num_shared_experts",
    "moe_num_shared_experts", "n_shared_experts", "moe_shared_expert_overlap", "share_expert_dim", "share_expert_dims",
    "moe_shared_expert_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size",
    "kv_lora_rank", "use_shared_expert", "has_shared_expert", "mlp_layer_types", "mlp_only_layers", "sparse_mlp_layers",
    "moe_shared_gate", "activation_sparsity_pattern", "hidden_size_per_layer_input", "vocab_size_per_layer_input",
    "mlp_bias",
    "add_swa_attention_sink_bias", "add_full_attention_sink_bias", "mamba_rms_norm", "mamba_act", "moe_latent_size",
    "attn_layernorms", "num_nextn_predict_layers", "use_kv_cache", "pretraining_tp", "mamba_dropout",
    "moe_layer_pattern", "attention_type", "swa_num_attention_heads", "local_rank", "kv_bias", "parallel_attn",
    "add_qkv_bias", "qkv_bias", "use_qkv_bias", "indexer_rope_interleave",
}  # fmt: skip
# Models that keep something else than their keys say: every head (vLLM's MiniCPM3), two caches a layer.
_STRANGE = {"minicpm3": "kv_lora_rank", "longcat_flash": "num_layers"}
_DBRX = {"ffn_hidden_size": "ffn_hidden_size", "moe_num_experts": "moe_num_experts", "moe_top_k": "num_experts_per_tok"}
_TIED = {"gemma", "gemma2", "gemma3", "gemma3_text", "starcoder2", "cohere", "cohere2", "gpt2", "bloom"}
_TWO_MATRICES = {"gpt2", "gpt_neox", "gptj", "bloom", "falcon", "opt", "mpt", "phi", "starcoder2", "gpt_bigcode",
                 "nemotron", "nemotron_h", "gpt_neo"}  # fmt: skip


def text_config(config):
    """The part of a config.json that is about the language model, with what stands outside it."""
    if not isinstance(config, dict):
        raise ValueError("config.json: expected a mapping, found %s" % type(config).__name__)
    for key in ("text_config", "llm_config", "language_config", "thinker_config"):
        inner = config.get(key)
        if isinstance(inner, dict) and any(name in inner for name in NAMES["layers"] + ("text_config",)):
            return text_config(dict(config, **{key: None}, **{k: v for k, v in inner.items() if k != key}))
    return config


def _whole(config, *names):
    """The first of these that is set; raises ``ValueError`` where it is no whole number, 0 to LARGEST."""
    for name in names:
        value = config.get(name)
        if value is None:
            continue
        if not is_whole(value) or not 0 <= value <= LARGEST:
            raise ValueError("config.json: %s: expected a whole number, found %s" % (name, repr(value)[:60]))
        return value
    return None


def _numbers(config, name, layers):
    """A list of whole numbers, one a layer; None where the key is not such a list."""
    value = config.get(name)
    good = isinstance(value, list) and len(value) == layers
    return value if good and all(isinstance(one, (int, bool)) and 0 <= one <= LARGEST for one in value) else None


def facts_of(config):
    """Facts of a config.json; raises ``ValueError`` with one line where it is none of a language model.

    :returns: a dict with the keys of a catalog entry's ``architecture``; ``attention`` is there unless all layers are
        alike, ``unknown`` only where a key is not understood.
    """
    config = text_config(config)
    how = config.get("attn_config")
    for key, names in (("attn_config", {"kv_n_heads": "num_kv_heads"}), ("ffn_config", _DBRX)):  # DBRX, MPT
        inner = config.get(key)
        if isinstance(inner, dict):
            config = dict(config, **{ours: inner[theirs] for theirs, ours in names.items() if theirs in inner})
            config[key] = None
    per_layer = {}
    for ours, names in NAMES.items():
        for name in names:
            if isinstance(config.get(name), list):
                per_layer[ours] = (name, config[name])
                config = dict(config, **{name: None})
    facts = {ours: _whole(config, *names) for ours, names in NAMES.items()}
    missing = [NAMES[ours][0] for ours in _NEEDED if not facts[ours]]
    if missing:
        raise ValueError("config.json has no %s" % ", ".join(missing))
    if facts["layers"] > MOST_LAYERS:
        raise ValueError("config.json: %d layers are no model" % facts["layers"])
    if isinstance(how, dict) and how.get("attn_type") == "multiquery_attention":  # MPT
        config["multi_query"] = True
    multi_query = config.get("multi_query") and not config.get("new_decoder_architecture")
    if multi_query or (config.get("multi_query_attention") and not facts["kv_heads"]):
        facts["kv_heads"] = 1
    facts["name"] = str(config.get("model_type") or "unknown")
    if config.get("use_mla") is False:
        facts["kv_lora_rank"] = None
    unknown = [_STRANGE[facts["name"]]] if facts["name"] in _STRANGE else []
    if facts["index_head_dim"] and not facts["kv_lora_rank"]:
        unknown.append("index_head_dim")
    if not facts["head_dim"] and not facts["kv_lora_rank"] and facts["hidden_size"] % facts["attention_heads"]:
        unknown.append("head_dim")
    caches = _Caches(config, facts, unknown)
    kinds = caches.kinds()
    facts.update(_experts(config, facts, kinds))
    facts["tied_embeddings"] = bool(config.get("tie_word_embeddings", facts["name"] in _TIED))
    if facts["name"] in _TWO_MATRICES:
        facts["feed_forward_matrices"] = 2
        if not facts["intermediate_size"] and facts["name"] in ("gpt2", "bloom", "falcon", "gptj", "gpt_neo"):
            facts["intermediate_size"] = 4 * facts["hidden_size"]
    for ours, (name, values) in per_layer.items():
        if (
            ours == "kv_heads"
            and len(values) == facts["layers"]
            and all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in values)
        ):
            facts["attention"] = caches.groups(kinds, values)
        elif ours not in ("intermediate_size", "experts_used"):
            unknown.append(name)
    if "attention" not in facts and any(kind != "full" for kind in kinds):
        facts["attention"] = caches.groups(kinds)
    unknown += _suspects(config)
    if unknown:
        facts["unknown"] = sorted(set(unknown))
    return {key: value for key, value in facts.items() if value or isinstance(value, (bool, list))}


def _suspects(config):
    """Keys that look as if they changed the cache, and are not understood."""
    found = []
    for key, value in config.items():
        if not isinstance(key, str) or key in _UNDERSTOOD or key in _HARMLESS or not _SUSPECT.search(key):
            continue
        # Nothing, off, or of another part of the model.
        if value in (None, False, 0, "", [], {}) or isinstance(value, float) or key.endswith(("_config", "_token_id")):
            continue
        found.append(key[:60])
    return found


def _experts(config, facts, kinds):
    """What is different of a mixture of experts: their width, and in which layers they are."""
    if not facts["experts"] or facts["experts"] == 1:
        return {"experts": None}
    found = {}
    layers = range(facts["layers"])
    if not facts["moe_intermediate_size"]:
        found["moe_intermediate_size"] = facts["intermediate_size"]
    if _whole(config, "intermediate_size_mlp"):  # Llama 4: of its dense layers
        found["intermediate_size"] = config["intermediate_size_mlp"]
    shared = _whole(config, "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size",
                    "shared_intermediate_size")  # fmt: skip
    width = found.get("moe_intermediate_size") or facts["moe_intermediate_size"]
    if shared and width:
        found["shared_experts"] = max(1, shared // width)
    elif facts["name"] in ("llama4", "llama4_text"):
        found["shared_experts"] = 1
    step = _whole(config, "decoder_sparse_step", "interleave_moe_layer_step", "expert_layer_period")
    offset = _whole(config, "expert_layer_offset")
    dense = facts["dense_layers"] or 0
    chosen = None
    if "none" in kinds and isinstance(config.get("hybrid_override_pattern"), str):
        chosen = [layer for layer, sign in enumerate(config["hybrid_override_pattern"]) if sign == "E"]
    elif step and step > 1:
        offset = step - 1 if offset is None else offset
        chosen = [layer for layer in layers if layer % step == offset % step]
    often = config.get("moe_layer_freq")
    if isinstance(often, list) and len(often) == facts["layers"]:
        chosen = [layer for layer in layers if often[layer]]
    only = config.get("mlp_only_layers")
    if isinstance(only, list) and only:
        chosen = [layer for layer in (chosen or layers) if layer not in only]
    if chosen is not None:
        found["moe_layers"] = [layer for layer in chosen if layer >= dense]
    return found


class _Caches:
    """What each layer keeps, from the keys of one config.json."""

    def __init__(self, config, facts, unknown):
        self.config, self.facts, self.unknown = config, facts, unknown
        self.layers = facts["layers"]
        self.window = _whole(config, "sliding_window", "attention_window_size", "sliding_window_size")
        if any(config.get(key) is False for key in _USE_SLIDING):
            self.window = None

    def kinds(self):
        """The kind of each layer: full, sliding, chunked, state, none or shared."""
        kinds = self._kinds()
        if "sliding" in kinds and not self.window:
            if self.config.get("layer_types") and any(self.config.get(key) is False for key in _USE_SLIDING):
                kinds = ["full" if kind == "sliding" else kind for kind in kinds]
            else:
                self.unknown.append("sliding_window")
        if "chunked" in kinds and not _whole(self.config, "attention_chunk_size"):
            self.unknown.append("attention_chunk_size")
        return self._shared(kinds)

    def _kinds(self):
        config, layers = self.config, self.layers
        for key in ("layer_types", "layers_block_type", "hybrid_override_pattern"):
            value = config.get(key)
            if value:
                return self._by_words(key, value)
        for key in ("block_types", "_block_types"):  # RecurrentGemma: repeated
            value = config.get(key)
            if isinstance(value, list) and value:
                kinds = self._by_words(key, (value * layers)[:layers])
                return ["sliding" if kind == "full" and self.window else kind for kind in kinds]
        period = _whole(config, "attn_layer_period")
        if period:
            offset = _whole(config, "attn_layer_offset") or 0
            if offset >= period:
                self.unknown.append("attn_layer_offset")
            return ["full" if layer % period == offset else "state" for layer in range(layers)]
        if isinstance(config.get("attn_layer_indices"), list):
            return self._full_at("attn_layer_indices", config["attn_layer_indices"], 0)
        interval = _whole(config, "full_attention_interval")
        if interval:
            return ["full" if (layer + 1) % interval == 0 else "state" for layer in range(layers)]
        for key, kinds in (("hybrid_layer_pattern", ("full", "sliding")), ("attn_type_list", ("state", "full"))):
            if config.get(key):
                numbers = _numbers(config, key, layers)
                if numbers and max(numbers) <= 1:
                    return [kinds[number] for number in numbers]
                self.unknown.append(key)
        linear = config.get("linear_attn_config")
        if isinstance(linear, dict) and isinstance(linear.get("full_attn_layers"), list):
            return self._full_at("linear_attn_config", linear["full_attn_layers"], 1)
        if linear:
            self.unknown.append("linear_attn_config")
        if _whole(config, "attention_chunk_size"):
            return self._chunked()
        return self._sliding() if self.window else ["full"] * layers

    def _full_at(self, key, numbers, first):
        """Full where the layer's number is among these, else a state; the first layer has the number `first`."""
        if any(not is_whole(number) or not first <= number < first + self.layers for number in numbers):
            self.unknown.append(key)
        return ["full" if layer + first in numbers else "state" for layer in range(self.layers)]

    def _by_words(self, key, value):
        words = _NEMOTRON if key == "hybrid_override_pattern" else _KINDS
        if not isinstance(value, (list, str)) or len(value) != self.layers:
            self.unknown.append(key)
            return ["full"] * self.layers
        strange = [word for word in value if not isinstance(word, str) or word not in words]
        if strange:
            self.unknown.append("%s (%s)" % (key, repr(strange[0])[:40]))
        return [words.get(word, "full") if isinstance(word, str) else "full" for word in value]

    def _chunked(self):
        """Llama 4: a layer without rotary positions sees everything, the others a chunk."""
        rope = _numbers(self.config, "no_rope_layers", self.layers)
        interval = _whole(self.config, "no_rope_layer_interval") or 4
        rope = rope or [(layer + 1) % interval != 0 for layer in range(self.layers)]
        return ["chunked" if one else "full" for one in rope]

    def _sliding(self):
        config, layers = self.config, self.layers
        if self.facts.get("context") and self.window >= self.facts["context"]:
            return ["full"] * layers
        pattern = config.get("sliding_window_pattern")
        if isinstance(pattern, str) and pattern and not set(pattern) - set("LG"):
            return ["sliding" if pattern[layer % len(pattern)] == "L" else "full" for layer in range(layers)]
        if pattern is not None and (isinstance(pattern, bool) or not isinstance(pattern, int) or pattern < 0):
            self.unknown.append("sliding_window_pattern")
            return ["full"] * layers
        if any(config.get(key) for key in _USE_SLIDING):
            first = _whole(config, "max_window_layers") or 0
            return ["full" if layer < first else "sliding" for layer in range(layers)]
        every = _SLIDING_OF.get(self.facts["name"]) if pattern is None else pattern
        if every is None:
            self.unknown.append("sliding_window")
            return ["full"] * layers
        return ["full" if every and (layer + 1) % every == 0 else "sliding" for layer in range(layers)]

    def _shared(self, kinds):
        """Layers that read another one's cache keep nothing."""
        factor, last = _whole(self.config, "cla_share_factor") or 0, _whole(self.config, "num_kv_shared_layers") or 0
        if self.config.get("use_cla") and factor > 1:
            return [kind if layer % factor == 0 else "shared" for layer, kind in enumerate(kinds)]
        if last >= self.layers:
            self.unknown.append("num_kv_shared_layers")
        return [kind if layer < self.layers - last else "shared" for layer, kind in enumerate(kinds)]

    def groups(self, kinds, kv_heads=None):
        """The layers by what they keep, as ``attention`` of a catalog entry."""
        found = []
        for layer, kind in enumerate(kinds):
            group = self._one(kind)
            if kv_heads and kind not in ("state", "none", "shared"):
                group["kv_heads"] = kv_heads[layer]
                if not kv_heads[layer]:
                    group = {"kind": "none"}
            for known in found:
                if {key: value for key, value in known.items() if key != "layers"} == group:
                    known["layers"].append(layer)
                    break
            else:
                found.append(dict(group, layers=[layer]))
        return found

    def _one(self, kind):
        config = self.config
        if kind == "sliding":
            group = {
                "kind": "sliding",
                "window": self.window or 0,
                "kv_heads": _whole(config, "swa_num_key_value_heads"),
                "head_dim": _whole(config, "swa_head_dim"),
                "v_head_dim": _whole(config, "swa_v_head_dim"),
            }
        elif kind == "chunked":
            group = {"kind": "sliding", "window": _whole(config, "attention_chunk_size")}
        elif kind == "state":
            group = {"kind": "state", "state_bytes": _state_bytes(config, self.facts["hidden_size"])}
        elif kind == "full":
            group = {
                "kind": "latent" if self.facts["kv_lora_rank"] else "full",
                # Gemma 4: with values that are the keys the full layers have heads of their own; both are kept.
                "kv_heads": _whole(config, "num_global_key_value_heads") if config.get("attention_k_eq_v") else None,
                "head_dim": _whole(config, "global_head_dim"),
            }
        else:
            group = {"kind": kind}
        return {key: value for key, value in group.items() if value}


def _state_bytes(config, hidden):
    """Bytes of what a layer keeps of one sequence whatever its length; None where that is not known.

    Numbers of 16 bits, the state itself of 32 where the config says so. An engine rounds them up to its pages.
    Sources: vLLM model_executor/layers/mamba/mamba_utils.py (shapes and types of convolution and state).
    """
    wide = 4 if "float32" in (config.get("mamba_ssm_cache_dtype"), config.get("mamba_ssm_dtype")) else 2

    def get(*names):
        return _whole(config, *names)

    keys = ("linear_num_key_heads", "linear_key_head_dim", "linear_num_value_heads", "linear_value_head_dim")
    kernel = get("linear_conv_kernel_dim")
    numbers = [get(key) for key in keys]
    if kernel and all(numbers):  # gated delta net
        key_heads, key, value_heads, value = numbers
        return 2 * (2 * key_heads * key + value_heads * value) * (kernel - 1) + wide * value_heads * key * value
    heads, width = get("mamba_num_heads", "mamba_n_heads"), get("mamba_head_dim", "mamba_d_head")
    state, kernel = get("ssm_state_size", "mamba_d_state"), get("conv_kernel", "mamba_d_conv")
    groups = get("n_groups", "mamba_n_groups") or 1
    if heads and width and state and kernel:  # Mamba 2
        return 2 * (heads * width + 2 * groups * state) * (kernel - 1) + wide * heads * width * state
    expand = get("mamba_expand", "expand")
    if expand and state and kernel:  # Mamba 1
        return 2 * expand * hidden * (kernel - 1) + wide * expand * hidden * state
    if get("conv_L_cache"):  # LFM2
        return 2 * hidden * (get("conv_L_cache") - 1)
    return None
