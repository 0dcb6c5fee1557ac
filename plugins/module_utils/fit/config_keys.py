# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keys of a model's config.json: their names by family, and what is known of those that may change the cache."""

from __future__ import annotations

import re

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
    "experts_used": ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k",
                     "num_selected_experts", "num_activated_experts", "top_k_experts"),
    "shared_experts": ("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts"),
    "dense_layers": ("first_k_dense_replace", "moe_layer_start_index", "num_dense_layers"),
    "vocabulary": ("vocab_size", "padded_vocab_size"),
    "context": ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "n_ctx", "max_sequence_length",
                "max_position_embedding", "model_max_length"),
    "q_lora_rank": ("q_lora_rank",),
    "kv_lora_rank": ("kv_lora_rank",),
    "qk_rope_head_dim": ("qk_rope_head_dim",),
    "qk_nope_head_dim": ("qk_nope_head_dim",),
    "v_head_dim": ("v_head_dim",),
    "index_head_dim": ("index_head_dim",),
}  # fmt: skip
NEEDED = ("layers", "hidden_size", "attention_heads")
# Lists, or texts, with one item a layer: where no number of layers stands they tell it.
LAYERS_OF = ("layers_block_type", "hybrid_override_pattern", "block_configs")

# What a layer is, by the words of layer_types and its likes.
KINDS = {
    "full_attention": "full",
    "indexed_attention": "indexed",
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
    "hybrid": "both",  # a state and a cache: Zamba 2
    "mlp": "none",
    "moe": "none",
}
NEMOTRON = {"M": "state", "*": "full", "-": "none", "E": "none"}
# Which layers slide where only sliding_window is given: every layer but each n-th; 0: all.
SLIDING_OF = {"gemma2": 2, "vaultgemma": 2, "gpt_oss": 2, "gemma3_text": 6, "gemma3": 6, "cohere2": 4,
               "mistral": 0, "mixtral": 0, "starcoder2": 0, "phi3": 0, "phimoe": 0}  # fmt: skip
USE_SLIDING = ("use_sliding_window", "use_swa", "enable_sliding_window")

# Keys that may change the cache, by their names ...
SUSPECT = re.compile(
    r"window|sliding|(?<![a-z])swa|layer_types?$|layers?_block|block_types|block_configs|hybrid|mamba|ssm|recurr|rwkv|"
    r"retention|linear_|lightning|delta|conv(?!ers)|compress|sparse(?!_step)|index_|_share|share_|shared_(?:kv|layers)|"
    r"\bcla_|use_cla|yoco|kv_|_kv|key_value|multi_query|local|global|chunk|attn_type|attention_type|attn_layer|"
    r"full_attn|full_attention|(?<![a-z])(?:nsa|dsa)(?![a-z])|moba|latent|indexer|attention_other|layer_group|encoder_decoder|"
    r"cross_attention_layers|k_eq_v|pattern|group_query|per_layer|state_size|loop_num",
)
# ... those that are understood below, and those that do not change it.
UNDERSTOOD = {name for names in NAMES.values() for name in names} | {
    "layer_types", "sliding_window", "sliding_window_pattern", "max_window_layers", *USE_SLIDING,
    "hybrid_override_pattern", "layers_block_type", "block_types", "_block_types", "attention_window_size",
    "attn_layer_period", "attn_layer_offset", "attn_layer_indices", "full_attention_interval", "hybrid_layer_pattern",
    "swa_num_key_value_heads", "swa_head_dim", "swa_v_head_dim", "swa_num_attention_heads", "sliding_window_size",
    "use_cla", "cla_share_factor", "num_kv_shared_layers", "attn_type_list", "linear_attn_config", "no_rope_layers",
    "no_rope_layer_interval", "attention_chunk_size", "multi_query", "multi_query_attention", "index_head_dim",
    "index_n_heads", "index_topk", "global_head_dim", "num_global_key_value_heads", "attention_k_eq_v", "attn_config",
    "mamba_d_state", "mamba_d_conv", "mamba_expand", "mamba_num_heads", "mamba_n_heads", "mamba_head_dim",
    "mamba_d_head", "ssm_state_size", "mamba_n_groups", "conv_kernel", "conv_L_cache", "linear_num_key_heads",
    "linear_key_head_dim", "linear_num_value_heads", "linear_value_head_dim", "linear_conv_kernel_dim",
    "linear_num_heads", "linear_head_dim", "_sliding_window_pattern", "attention_types", "attention_layers",
    "full_attn_idxs", "block_configs", "num_key_value_heads_per_layer", "attention_other_setting",
    "indexer_types", "index_topk_freq", "index_topk_pattern", "index_skip_topk_offset", "mamba_headdim",
    "n_mamba_heads", "mamba_ngroups", "state_size", "num_attention_heads_per_layer",
    "num_sliding_attention_heads", "per_layer_config",
}  # fmt: skip
HARMLESS = {
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
    "add_qkv_bias", "qkv_bias", "use_qkv_bias", "indexer_rope_interleave", "share_q_dim", "seconds_per_chunk",
    "mamba_norm_before_gate", "ssm_multipliers", "linear_allow_neg_eigval",
    "full_attn_alpha_factor", "full_attn_beta_factor", "linear_attn_alpha_factor", "linear_attn_beta_factor",
    "layernorm_full_attention_alpha", "layernorm_full_attention_beta", "layernorm_linear_attention_alpha",
    "layernorm_linear_attention_beta", "conv1d_width", "hidden_mamba_act", "downsample_factor", "downsample_rate",
    "mixer_rms_eps", "use_shared_attention_adapter", "index_share_for_mtp_iteration",
    "mtp_layers_block_type", "compression_config", "sparse_config",
    "linear_silu", "use_linear_silu", "linear_attn_norm_type", "linear_scale", "linear_rope", "linear_mode",
}  # fmt: skip
# What one layer may have of its own; None: nothing of the cache.
OF_A_LAYER = {"head_dim": "head_dim", "num_key_value_heads": "kv_heads", "sliding_window": "window",
              "num_attention_heads": None, "intermediate_size": None, "layer_type": None}  # fmt: skip
# Where the kind of each layer is said they say nothing further.
SAID_BY_TYPES = {"prefix_dense_sliding_window_pattern", "hybrid_layer_ids", "global_attn_every_n_layers",
                  "num_mem_blocks"}  # fmt: skip
# Models that keep something else than their keys say: every head (vLLM's MiniCPM3), two caches a layer.
STRANGE = {"minicpm3": "kv_lora_rank", "hrm_text": "num_layers_per_stack", "iquestloopcoder": "loop_num"}
# Nothing of a text but states.
STATES_ONLY = {"mamba", "mamba2", "falcon_mamba"}
# What of the weights has no formula here; the cache is known.
UNCOUNTED = {"longcat_flash": "zero_expert_num", "step3_text": "share_q_dim", "step3p5": "attention_other_setting",
              "laguna": "num_attention_heads_per_layer", "nemotron-nas": "block_configs", "deci": "block_configs",
              "falcon_h1": "mamba_d_ssm", "zamba2": "hybrid"}  # fmt: skip
DBRX = {"ffn_hidden_size": "ffn_hidden_size", "moe_num_experts": "moe_num_experts", "moe_top_k": "num_experts_per_tok"}
TIED = {
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3_text",
    "starcoder2",
    "cohere",
    "cohere2",
    "gpt2",
    "bloom",
    "gpt_neo",
    "gpt_bigcode",
    "opt",
}
TWO_MATRICES = {"gpt2", "gpt_neox", "gptj", "bloom", "falcon", "opt", "mpt", "phi", "starcoder2", "gpt_bigcode",
                 "nemotron", "nemotron_h", "gpt_neo", "apertus", "arcee"}  # fmt: skip
