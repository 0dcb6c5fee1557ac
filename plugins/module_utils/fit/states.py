# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a layer keeps of one sequence whatever its length: linear attention, Mamba, convolution. Pure; bytes.

Sources: vLLM model_executor/layers/mamba/mamba_utils.py (shapes and types of convolution and state).
"""

from __future__ import annotations

_WIDE = ("mamba_ssm_cache_dtype", "mamba_ssm_dtype")


def state_bytes(get, config, hidden):
    """Bytes of one layer, in numbers of 16 bits, the state itself of 32 where the config says so; None: not known.

    An engine rounds them up to its pages.

    :param get: names of keys -> the first whole number of the config among them, or None.
    """
    wide = _wide(config)
    for found in (
        _delta(get, wide),
        _kimi(get, config),
        _mamba2(get, wide, hidden),
        _mamba1(get, wide, _inner(get, config, hidden)),
    ):
        if found:
            return found
    if get("conv_L_cache"):  # LFM2
        return 2 * hidden * (get("conv_L_cache") - 1)
    if config.get("attn_type_list") or config.get("layer_group_size") or config.get("model_type") == "minimax":
        # Lightning attention: MiniMax-Text, Ling 2.5.
        heads, width = get("num_attention_heads"), get("head_dim")
        width = width or (hidden // heads if heads else 0)
        return 2 * heads * width * width if heads and width else None
    return None


def states_held(get, config, hidden):
    """How many states of a layer vLLM 0.32.0 holds for one sequence, to find its beginning again (prefix caching).

    One that is computed, one to go on from, and of Mamba 2 one of the prompt (mamba/mamba_mixer2.py).
    """
    return 3 if not _delta(get, 2) and not _kimi(get, config) and _mamba2(get, 2, hidden) else 2


def _wide(config):
    return 4 if "float32" in [config.get(name) for name in _WIDE] else 2


def _delta(get, wide):
    """Gated delta net: Qwen3-Next and later, OLMo hybrid."""
    names = ("linear_num_key_heads", "linear_key_head_dim", "linear_num_value_heads", "linear_value_head_dim")
    kernel, numbers = get("linear_conv_kernel_dim"), [get(name) for name in names]
    if not kernel or not all(numbers):
        return None
    key_heads, key, value_heads, value = numbers
    return 2 * (2 * key_heads * key + value_heads * value) * (kernel - 1) + wide * value_heads * key * value


def _kimi(get, config):
    """Kimi delta attention: three convolutions; its state has 32 bits."""
    inner = config.get("linear_attn_config")
    if isinstance(inner, dict):
        numbers = [inner.get(name) for name in ("num_heads", "head_dim", "short_conv_kernel_size")]
    else:
        numbers = [get(name) for name in ("linear_num_heads", "linear_head_dim", "linear_conv_kernel_dim")]
    if not all(isinstance(one, int) and not isinstance(one, bool) and 0 < one < 2**20 for one in numbers):
        return None
    heads, width, kernel = numbers
    return 2 * 3 * heads * width * (kernel - 1) + 4 * heads * width * width


def _mamba2(get, wide, hidden):
    heads = get("mamba_num_heads", "mamba_n_heads", "n_mamba_heads")
    width = get("mamba_head_dim", "mamba_d_head", "mamba_headdim")
    state, kernel = get("ssm_state_size", "mamba_d_state", "state_size"), get("conv_kernel", "mamba_d_conv")
    groups = get("n_groups", "mamba_n_groups", "mamba_ngroups") or 1
    expand = get("mamba_expand", "expand")
    if heads and not width and expand and heads <= expand * hidden:
        width = expand * hidden // heads
    if heads and width and state and kernel:
        return 2 * (heads * width + 2 * groups * state) * (kernel - 1) + wide * heads * width * state
    return None


def _inner(get, config, hidden):
    """Width of a Mamba 1 layer; of models of nothing else it is said (Falcon Mamba: 8192, not expand × hidden)."""
    only = get("intermediate_size") if config.get("model_type") in ("mamba", "falcon_mamba") else None
    return only or (get("mamba_expand", "expand") or 0) * hidden


def _mamba1(get, wide, inner):
    kernel, state = get("conv_kernel", "mamba_d_conv"), get("ssm_state_size", "mamba_d_state", "state_size")
    return 2 * inner * (kernel - 1) + wide * inner * state if inner and state and kernel else None
