# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an engine's type of KV cache takes of a token, scales and all. Pure; bytes.

Sources: vLLM 0.32.0 (v1/attention/backends/triton_attn.py and flashinfer.py, customize_spec; utils/torch_utils.py,
nvfp4_kv_cache_full_dim; layers/quantization/turboquant/config.py; v1/attention/ops/ultraquant/format.py;
layers/attention/mla_attention.py, get_kv_cache_spec), SGLang 0.5.23 (srt/model_executor/pool_configurator.py,
_compute_cell_size; srt/layers/quantization/fp4_kv_cache_quant_method.py, compute_cell_size).
"""

from __future__ import annotations

from typing import NamedTuple


class Kv(NamedTuple):
    """A type of KV cache."""

    number: float = 2.0  # of one number of a key or a value
    head: float = 0.0  # beside that, of a head's key and value together
    row: int = 0  # of a whole latent row (MLA), where that is not its numbers × `number`; 0: it is
    ends: int = 0  # layers at each end that keep 16 bits all the same, unless the model has states
    unknown: str = ""  # why it is not known


_BLOCK_16 = 0.5 + 1 / 16.0  # 4 bits, and a byte for 16 of them
# A float of 4 bytes for each key and each value of a head.
_OF_HEADS = {"int8_per_token_head": Kv(1.0, 8), "fp8_per_token_head": Kv(1.0, 8), "int4_per_token_head": Kv(0.5, 8)}
# TurboQuant: a key's norm takes 2 bytes, unless it is in FP8; a value's scale and zero 4.
_TURBO = {
    "turboquant_k8v4": Kv((1 + 0.5) / 2, 4, ends=2),
    "turboquant_4bit_nc": Kv(0.5, 6, ends=2),
    "turboquant_k3v4_nc": Kv((3 / 8.0 + 0.5) / 2, 6, ends=2),
    "turboquant_3bit_nc": Kv(3 / 8.0, 6, ends=2),
    "ultraquant_4bit": Kv(0.5 + 1 / 32.0, ends=2),
}
_PLAIN = {"float16": 2.0, "half": 2.0, "bfloat16": 2.0, "bf16": 2.0, "float32": 4.0, "float": 4.0}
_FP8 = {"fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0, "fp8_inc": 1.0}
_TYPES = {
    "vllm": dict(_OF_HEADS, **_TURBO, nvfp4=Kv(_BLOCK_16), nvfp4_4over6=Kv(_BLOCK_16)),
    "sglang": {name: Kv(_BLOCK_16) for name in ("nvfp4", "fp4_mx_block16", "fp4_e2m1")},
}
_TYPES["sglang"]["mxfp8"] = Kv(1 + 1 / 32.0)
# Of a latent row: 512 numbers in FP8 with 4 scales of 4 bytes and 64 in 16 bits; 512 in 4 bits with 32 scales and 64 in
# FP8. SGLang halves a row, and adds a byte for 16 numbers.
_ROWS = {"vllm": {"fp8_ds_mla": Kv(1.0, row=656), "nvfp4_ds_mla": Kv(0.5, row=352)}, "sglang": {}}
_ROWS["sglang"].update((name, _TYPES["sglang"][name]) for name in ("fp4_mx_block16", "fp4_e2m1"))


def compute_bytes(dtype: object) -> int:
    """Bytes of a number that vLLM and SGLang compute with: 4 where they are told so. A model in 32 bits they take in 16
    by themselves (vLLM config/model.py, _resolve_auto_dtype; SGLang configs/model_config.py, _get_and_verify_dtype)."""
    return 4 if str(dtype or "").lower() in ("float", "float32") else 2


def kv_of(
    engine: str, name: object, dtype: object = None, latent: bool = False, window: bool = False, own: str = ""
) -> Kv:
    """What vLLM or SGLang keep of a token with ``--kv-cache-dtype`` name.

    :param name: empty or auto: what the checkpoint says (``own``), else the type that it computes with.
    :param dtype: ``--dtype``.
    :param latent: whether the model caches what keys and values are made of (MLA).
    :param window: whether some of its layers see the last tokens alone.
    """
    word = str(name or "auto").lower()
    if word == "auto":
        word = own or word
    if word == "auto":
        return Kv(float(compute_bytes(dtype)))
    if word in _PLAIN:
        return Kv(_PLAIN[word])
    if word in _FP8:
        return Kv(_FP8[word])
    found = (_ROWS if latent else _TYPES)[engine].get(word)
    if found is None:
        return Kv(unknown="kv_cache_dtype %s%s" % (word, " with MLA" if latent and word in _TYPES[engine] else ""))
    if engine == "sglang" and window and found.number < 1:
        # Its pool for windows is reckoned as if a number took a byte.
        return Kv(unknown="kv_cache_dtype %s with a sliding window" % word)
    return found
