# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model's config.json as the facts of a catalog entry (``architecture``, README of role model). Pure.

What a key does to the cache is taken from the model's code in transformers and vLLM. A key that looks as if it changed
the cache and is not among those that are understood here goes into ``unknown``: then the cache is not known.
"""

from __future__ import annotations

import re

from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import config_keys as known
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import families, own_kv, rope, states
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import is_whole

LARGEST = 2**40  # of any number of a config: more is no model
MOST_LAYERS = 4096

# Of what stands around the language model's part only this is about it.
_AROUND = ("architectures", "quantization_config", "compression_config", "dtype", "torch_dtype", "tie_word_embeddings",
           "vocab_size", "max_position_embeddings", "is_encoder_decoder")  # fmt: skip
# Where the language model's part stands, of a model that has others.
INNER = ("text_config", "llm_config", "language_config", "thinker_config", "lm_config", "language_model_config")


def text_config(config, nested=False):
    """The part of a config.json that is about the language model, with what its class sets and the file does not."""
    if not isinstance(config, dict):
        raise ValueError("config.json: expected a mapping, found %s" % type(config).__name__)
    for key in INNER:
        inner = config.get(key)
        if not isinstance(inner, dict):
            continue
        if inner.get("model_type") in families.WHOLE if isinstance(inner.get("model_type"), str) else False:
            inner = families.completed(inner, True)
        if any(name in inner for name in known.NAMES["layers"] + known.LAYERS_OF + INNER):
            return text_config(dict({name: config[name] for name in _AROUND if name in config}, **inner), True)
    return families.completed(config, nested)


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
    whole, config = config, dict(text_config(config))
    why = families.no_text(whole, any(isinstance(whole.get(key), dict) for key in INNER)) or families.no_text(config)
    if why:
        raise families.NoText("config.json is of %s, which cannot generate text" % why)
    how = config.get("attn_config")
    for key, names in (("attn_config", {"kv_n_heads": "num_kv_heads"}), ("ffn_config", known.DBRX)):  # DBRX, MPT
        inner = config.get(key)
        if isinstance(inner, dict):
            config = dict(config, **{ours: inner[theirs] for theirs, ours in names.items() if theirs in inner})
            config[key] = None
    per_layer = {}
    for ours, names in known.NAMES.items():
        for name in names:
            value = config.get(name)
            if isinstance(value, list):
                # Hunyuan: a list of one number, said for each layer.
                same = ours != "kv_heads" and value and is_whole(value[0]) and all(one == value[0] for one in value)
                if not same:
                    per_layer[ours] = (name, value)
                config = dict(config, **{name: value[0] if same else None})
    facts = {ours: _whole(config, *names) for ours, names in known.NAMES.items()}
    for name in known.LAYERS_OF:
        if not facts["layers"] and isinstance(config.get(name), (list, str)):
            facts["layers"] = len(config[name])
    kind = str(config.get("model_type"))
    if kind in known.STATES_ONLY and facts["hidden_size"]:
        _states_only(config, facts)
    elif kind == "longcat_flash" and facts["layers"]:
        facts["layers"] *= 2  # each has two attentions
    missing = [known.NAMES[ours][0] for ours in known.NEEDED if not facts[ours]]
    if missing:
        raise ValueError("config.json has no %s" % ", ".join(missing))
    if facts["layers"] > MOST_LAYERS:
        raise ValueError("config.json: %d layers are no model" % facts["layers"])
    if isinstance(how, dict) and how.get("attn_type") == "multiquery_attention":  # MPT
        config["multi_query"] = True
    groups = config.get("multi_query_group_num")
    if kind == "chatglm" and not config.get("multi_query_attention") and facts["kv_heads"] == groups:
        facts["kv_heads"] = None  # without it, as its class has it, the number of groups is of nothing
    multi_query = config.get("multi_query") and not config.get("new_decoder_architecture")
    if multi_query or (config.get("multi_query_attention") and not facts["kv_heads"]):
        facts["kv_heads"] = 1
    facts["name"] = str(config.get("model_type") or "unknown")
    if config.get("use_mla") is False:
        facts["kv_lora_rank"] = None
    unknown = [known.STRANGE[facts["name"]]] if facts["name"] in known.STRANGE else []
    if facts["index_head_dim"] and not facts["kv_lora_rank"]:
        unknown.append("index_head_dim")
    if facts["kv_heads"] == 0:
        unknown.append("num_key_value_heads")
    if not facts["head_dim"] and not facts["kv_lora_rank"] and facts["hidden_size"] % facts["attention_heads"]:
        unknown.append("head_dim")
    caches = _Caches(config, facts, unknown)
    kinds = caches.kinds()
    facts.update(_experts(config, facts, kinds))
    facts["tied_embeddings"] = bool(config.get("tie_word_embeddings", facts["name"] in known.TIED))
    facts["weight_block"] = _weight_block(config.get("quantization_config"))
    facts["weight_group"] = _weight_group(config.get("quantization_config"))
    facts["own_kv_cache"] = own_kv.types_of(whole, config, facts)
    if facts["context"]:
        facts["context"], facts["scaled_context"] = rope.contexts(config, facts["context"])
    if facts["name"] in known.TWO_MATRICES:
        facts["feed_forward_matrices"] = 2
        if not facts["intermediate_size"] and facts["name"] in ("gpt2", "bloom", "falcon", "gptj", "gpt_neo"):
            facts["intermediate_size"] = 4 * facts["hidden_size"]
    if facts["name"] in known.UNCOUNTED:
        facts["uncounted"] = known.UNCOUNTED[facts["name"]]
    for name in known.UNCOUNTED_KEYS:
        if config.get(name):
            facts["uncounted"] = name
    if "kv_heads" not in per_layer:
        found = _kv_heads_of(config, facts, unknown)
        if found:
            per_layer["kv_heads"] = found
    for ours, (name, values) in per_layer.items():
        if (
            ours == "kv_heads"
            and len(values) == facts["layers"]
            and all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in values)
        ):
            facts["attention"] = caches.groups(kinds, values)
        elif ours not in ("intermediate_size", "experts_used"):
            unknown.append(name)
    usual = "indexed" if facts["kv_lora_rank"] and facts["index_head_dim"] else "full"
    if "attention" not in facts and (any(kind != usual for kind in kinds) or config.get("per_layer_config")):
        facts["attention"] = caches.groups(kinds)
    unknown += _suspects(config)
    if unknown:
        facts["unknown"] = sorted(set(unknown))
    # A latent cache may have nothing of positions (GLM 5 Next).
    said = ("qk_rope_head_dim",) if facts["kv_lora_rank"] and facts["qk_rope_head_dim"] == 0 else ()
    return {key: value for key, value in facts.items() if value or isinstance(value, (bool, list)) or key in said}


def _states_only(config, facts):
    """Mamba has no heads that attend; what its states are cut by takes their place."""
    heads = _whole(config, "num_heads")
    expand = _whole(config, "expand") or 2
    if config.get("model_type") == "mamba2" and heads:
        facts.update(attention_heads=heads, kv_heads=heads, head_dim=facts["head_dim"] or 1)
        config.setdefault("mamba_num_heads", heads)
        config.setdefault("mamba_head_dim", facts["head_dim"])
    elif config.get("model_type") != "mamba2":
        facts.update(attention_heads=facts["intermediate_size"] or expand * facts["hidden_size"], head_dim=1)


def _kv_heads_of(config, facts, unknown):
    """``(key, KV heads of each layer)`` of Nemotron's searched models, whose layers differ; 0: none there."""
    name, values = "num_key_value_heads_per_layer", config.get("num_key_value_heads_per_layer")
    blocks = config.get("block_configs")
    if isinstance(blocks, list):
        name, values = "block_configs", []
        for block in blocks:
            inner = block.get("attention") if isinstance(block, dict) else None
            inner = inner if isinstance(inner, dict) else {}
            group = inner.get("n_heads_in_group")
            if inner.get("no_op") or inner.get("replace_with_linear"):
                values.append(0)
            elif is_whole(group) and 0 < group <= facts["attention_heads"]:
                values.append(facts["attention_heads"] // group)
            else:
                values.append(None)
    if not values:
        return None
    if not isinstance(values, list) or len(values) != facts["layers"] or None in values:
        unknown.append(name)
        return None
    return name, values


def _weight_block(how):
    """Rows and columns of weights in FP8 that share a scale; None where there are none."""
    block = how.get("weight_block_size") if isinstance(how, dict) else None
    if isinstance(block, list) and len(block) == 2 and all(is_whole(one) and 1 <= one <= LARGEST for one in block):
        return max(block)
    return None


# Ways of quantising whose layers all have groups along what goes in; others say it for some, or cut as they like.
_GROUPED = ("awq", "gptq", "auto-round", "compressed-tensors")


def _weight_group(how):
    """Weights of a row that share a scale; None where there are none, or it is not said for all of them alike."""
    if not isinstance(how, dict) or how.get("quant_method") not in _GROUPED or how.get("desc_act"):
        return None
    left_out = how.get("modules_to_not_convert") or how.get("ignore")
    if any("attn" in str(one) or "mlp" in str(one) for one in (left_out if isinstance(left_out, list) else ())):
        return None
    size = how.get("group_size")
    groups = how.get("config_groups")
    if isinstance(groups, dict):
        sizes = [one.get("weights") for one in groups.values() if isinstance(one, dict)]
        sizes = [
            one.get("group_size") if one.get("type", "int") == "int" else None for one in sizes if isinstance(one, dict)
        ]
        size = sizes[0] if sizes and all(one == sizes[0] for one in sizes) else None
    return size if is_whole(size) and 1 < size <= LARGEST else None


def _suspects(config):
    """Keys that look as if they changed the cache, and are not understood."""
    found = []
    for key, value in config.items():
        if (
            not isinstance(key, str)
            or key in known.UNDERSTOOD
            or key in known.HARMLESS
            or not known.SUSPECT.search(key)
        ):
            continue
        if key in known.SAID_BY_TYPES and (config.get("layer_types") or config.get("layers_block_type")):
            continue
        # Nothing, off, or of another part of the model.
        once = key in known.LOOPS and value == 1
        if once or value in (None, False, 0, "", [], {}) or isinstance(value, float) or key.endswith("_token_id"):
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
        listed = config.get("sliding_window")
        if isinstance(listed, list):  # PLaMo 3: one a layer, none where the layer sees everything
            self.window = None
        else:
            self.window = _whole(config, "sliding_window", "attention_window_size", "sliding_window_size")
        if facts["name"] == "gpt_neo":
            self.window = _whole(config, "window_size")
            config["window_size"] = None
        if any(config.get(key) is False for key in known.USE_SLIDING):
            self.window = None

    def kinds(self):
        """The kind of each layer: full, indexed, sliding, chunked, state, both, none or shared."""
        kinds = self._kinds()
        self._other("full")  # so that a strange one is named
        if "indexed" in kinds and not (self.facts["kv_lora_rank"] and self.facts["index_head_dim"]):
            self.unknown.append("layer_types ('indexed_attention')")
        if "sliding" in kinds and not self.window:
            if self.config.get("layer_types") and any(self.config.get(key) is False for key in known.USE_SLIDING):
                kinds = ["full" if kind == "sliding" else kind for kind in kinds]
            else:
                self.unknown.append("sliding_window")
        if self.facts["kv_lora_rank"] and self.facts["index_head_dim"]:
            kinds = self._indexes(kinds)
        if "chunked" in kinds and not _whole(self.config, "attention_chunk_size"):
            self.unknown.append("attention_chunk_size")
        return self._shared(kinds)

    def _kinds(self):
        config, layers = self.config, self.layers
        if self.facts["name"] in known.STATES_ONLY:
            return ["state"] * layers
        if self.facts["name"] == "falcon_h1":
            config["mamba_d_ssm"] = None
            return ["both"] * layers
        for key in ("layer_types", "layers_block_type", "hybrid_override_pattern"):
            value = config.get(key)
            if value:
                more = _whole(config, "num_nextn_predict_layers") or 0
                if isinstance(value, list) and layers < len(value) <= layers + more:
                    value = value[:layers]  # Step 3.5: those that predict further tokens stand at the end
                return self._by_words(key, value)
        if config.get("attention_types"):
            return self._gpt_neo(config["attention_types"])
        if isinstance(config.get("full_attn_idxs"), list):
            return self._full_at("full_attn_idxs", config["full_attn_idxs"], 0)
        group = _whole(config, "layer_group_size")
        if group and group > 1 and self.facts["name"].startswith("bailing"):
            config["layer_group_size"] = None
            return ["full" if (layer + 1) % group == 0 else "state" for layer in range(layers)]
        every = _whole(config, "global_attn_every_n_layers")
        if every and self.facts["name"] == "afmoe":
            config["global_attn_every_n_layers"] = None
            return ["full" if (layer + 1) % every == 0 else "sliding" for layer in range(layers)]
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
        if self.facts["name"] == "bamba":
            return ["state"] * layers
        if any(config.get(key) for key in ("mamba_d_state", "ssm_state_size", "state_size", "linear_conv_kernel_dim")):
            self.unknown.append("which layers keep a state")
        if _whole(config, "attention_chunk_size"):
            return self._chunked()
        if isinstance(config.get("sliding_window"), list):
            return self._listed(config["sliding_window"])
        return self._sliding() if self.window else ["full"] * layers

    def _gpt_neo(self, value):
        """``[[[kinds], times], ...]``: a row of kinds, so many times."""
        words = []
        for item in value if isinstance(value, list) else ():
            good = isinstance(item, list) and len(item) == 2 and isinstance(item[0], list) and is_whole(item[1])
            words += item[0] * min(item[1], MOST_LAYERS) if good and len(item[0]) <= MOST_LAYERS else [None]
            if len(words) > MOST_LAYERS:
                break
        return self._by_words("attention_types", words)

    def _full_at(self, key, numbers, first):
        """Full where the layer's number is among these, else a state; the first layer has the number `first`."""
        if any(not is_whole(number) or not first <= number < first + self.layers for number in numbers):
            self.unknown.append(key)
        return ["full" if layer + first in numbers else "state" for layer in range(self.layers)]

    def _by_words(self, key, value):
        words = known.NEMOTRON if key == "hybrid_override_pattern" else known.KINDS
        if not isinstance(value, (list, str)) or len(value) != self.layers:
            self.unknown.append(key)
            return ["full"] * self.layers
        strange = [word for word in value if not isinstance(word, str) or word not in words]
        if "hybrid" in value and not self.facts["name"].startswith("zamba"):
            strange = ["hybrid"]
        if strange:
            self.unknown.append("%s (%s)" % (key, repr(strange[0])[:40]))
        return [words.get(word, "full") if isinstance(word, str) else "full" for word in value]

    def _chunked(self):
        """Llama 4: a layer without rotary positions sees everything, the others a chunk."""
        rope = _numbers(self.config, "no_rope_layers", self.layers)
        interval = _whole(self.config, "no_rope_layer_interval") or 4
        rope = rope or [(layer + 1) % interval != 0 for layer in range(self.layers)]
        return ["chunked" if one else "full" for one in rope]

    def _listed(self, windows):
        sizes = {one for one in windows if is_whole(one) and 0 < one <= LARGEST}
        odd = any(one is not None and not is_whole(one) for one in windows)
        if len(windows) != self.layers or len(sizes) != 1 or odd:
            self.unknown.append("sliding_window")
            return ["full"] * self.layers
        (self.window,) = sizes
        return ["sliding" if one else "full" for one in windows]

    def _sliding(self):
        config, layers = self.config, self.layers
        if self.facts.get("context") and self.window >= self.facts["context"]:
            return ["full"] * layers
        pattern = config.get("sliding_window_pattern")
        pattern = config.get("_sliding_window_pattern") if pattern is None else pattern
        if isinstance(pattern, str) and pattern and not set(pattern) - set("LG"):
            return ["sliding" if pattern[layer % len(pattern)] == "L" else "full" for layer in range(layers)]
        if pattern is not None and (isinstance(pattern, bool) or not isinstance(pattern, int) or pattern < 0):
            self.unknown.append("sliding_window_pattern")
            return ["full"] * layers
        if any(config.get(key) for key in known.USE_SLIDING):
            first = _whole(config, "max_window_layers") or 0
            return ["full" if layer < first else "sliding" for layer in range(layers)]
        every = known.SLIDING_OF.get(self.facts["name"]) if pattern is None else pattern
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
            group = dict(self._one(kind), **self._own_of(layer, kind))
            if kv_heads and kind not in ("state", "none", "shared"):
                group["kv_heads"] = kv_heads[layer]
                if not kv_heads[layer]:
                    group = {"kind": "none"}
            for same in found:
                if {key: value for key, value in same.items() if key != "layers"} == group:
                    same["layers"].append(layer)
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
            group = dict(self._state(), kind="state")
        elif kind == "both":
            group = dict(self._state(), kind="latent" if self.facts["kv_lora_rank"] else "full")
            if not group["state_bytes"]:
                self.unknown.append("the size of its states")
        elif kind == "full":
            group = {
                "kind": "latent" if self.facts["kv_lora_rank"] else "full",
                # Gemma 4: with values that are the keys the full layers have heads of their own; both are kept.
                "kv_heads": _whole(config, "num_global_key_value_heads") if config.get("attention_k_eq_v") else None,
                "head_dim": _whole(config, "global_head_dim"),
            }
        else:
            group = {"kind": kind}
        group.update(self._other(kind))
        return {key: value for key, value in group.items() if value}

    def _own_of(self, layer, kind):
        """What ``per_layer_config`` of transformers 5 says of one layer: ``{"05": {"head_dim": 512}}`` (Gemma 4)."""
        said = self.config.get("per_layer_config") or {}
        if not isinstance(said, dict) or any(
            not (isinstance(key, str) and re.match(r"[0-9]{1,4}\Z", key) and int(key) < self.layers) for key in said
        ):
            self.unknown.append("per_layer_config")
            return {}
        found = {}
        for key, values in said.items():
            if int(key) != layer or kind in ("state", "none", "shared"):
                continue
            if not isinstance(values, dict) or set(values) - set(known.OF_A_LAYER):
                self.unknown.append("per_layer_config")
                continue
            numbers = {known.OF_A_LAYER[name]: _whole(values, name) for name in values}
            found.update((name, number) for name, number in numbers.items() if name and number)
        return found

    def _state(self):
        def get(*names):
            return _whole(self.config, *names)

        sizes = get, self.config, self.facts["hidden_size"]
        return {"state_bytes": states.state_bytes(*sizes), "states": states.states_held(*sizes)}

    def _other(self, kind):
        """Step 3.5: what layers of one kind have otherwise than the model."""
        other = self.config.get("attention_other_setting")
        if not other:
            return {}
        word = other.get("attention_type") if isinstance(other, dict) else None
        numbers = {"kv_heads": "num_attention_groups", "head_dim": "head_dim"}
        if not isinstance(word, str) or word not in known.KINDS:
            self.unknown.append("attention_other_setting")
            return {}
        if known.KINDS[word] != kind:
            return {}
        return {ours: _whole(other, theirs) for ours, theirs in numbers.items()}

    def _indexes(self, kinds):
        """Layers with a sparse indexer keep its keys, those that take another one's choice do not (vLLM)."""
        config = self.config
        own, pattern = config.get("indexer_types"), config.get("index_topk_pattern")
        often, offset = _whole(config, "index_topk_freq") or 1, _whole(config, "index_skip_topk_offset")
        offset = 2 if offset is None else offset
        if own is not None:
            if (
                not isinstance(own, list)
                or len(own) != self.layers
                or any(one not in ("full", "shared") for one in own)
            ):
                self.unknown.append("indexer_types")
                return kinds
            keeps = [one == "full" for one in own]
        elif isinstance(pattern, str) and pattern:
            keeps = [(pattern[layer : layer + 1] or "F") != "S" for layer in range(self.layers)]
        elif pattern:
            self.unknown.append("index_topk_pattern")
            return kinds
        else:
            keeps = [max(layer - offset + 1, 0) % often == 0 for layer in range(self.layers)]
        kinds = ["full" if kind == "indexed" else kind for kind in kinds]
        return [("indexed" if keep else "latent") if kind == "full" else kind for kind, keep in zip(kinds, keeps)]
