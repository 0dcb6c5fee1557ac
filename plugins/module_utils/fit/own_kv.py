# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The type of KV cache that an engine takes without being told, by what a checkpoint's way of quantising says. Pure.

Sources: vLLM 0.32.0 (utils/torch_utils.py, resolve_kv_cache_dtype_string; layers/attention/attention.py, Attention;
0.19.1 is the same but for NVFP4), SGLang 0.5.23 (srt/mem_cache/kv_cache_dtype.py, configure_kv_cache_dtype;
srt/layers/quantization: modelopt_quant.py, compressed_tensors.py, fp8.py; srt/configs/model_config.py,
_parse_modelopt_quant_config; srt/arg_groups/overrides.py, _dsa_kv_cache_dtype_default).
"""

from __future__ import annotations


def types_of(whole, config, facts):
    """``{engine: its name of the type}`` of a config.json; empty where the engines keep what they compute with.

    :param whole: all of the config.json; ``config``: what of it is about the language model.
    :param facts: its ``kv_lora_rank`` and ``index_head_dim`` are read.
    """
    how = _mapping(whole.get("quantization_config"))
    # Only compressed-tensors is also read where it stands in the language model's part, or under its first name.
    packed = how or _mapping(config.get("quantization_config")) or _mapping(config.get("compression_config"))
    found = {"vllm": _of_vllm(how, packed, facts), "sglang": ""}
    # SGLang decides by itself for a sparse indexer, and asks a model of several parts only where its class says so.
    if config.get("model_type") == whole.get("model_type") and not facts["index_head_dim"]:
        found["sglang"] = _of_sglang(how)
    return {engine: name for engine, name in found.items() if name}


def _mapping(value):
    return value if isinstance(value, dict) else {}


def _is_float(scheme, bits):
    return isinstance(scheme, dict) and scheme.get("type") == "float" and scheme.get("num_bits") == bits


def _of_vllm(how, packed, facts):
    method = how.get("quant_method")
    if isinstance(method, str) and method.startswith("modelopt"):
        inner = _mapping(how.get("quantization", how))
        said = None
        for key in ("kv_cache_scheme", "kv_cache_quant_algo"):
            said = said or inner.get(key) or how.get(key)
        if isinstance(said, dict):
            if _is_float(said, 8):
                return "fp8_e4m3" if said.get("dynamic") is False else ""
            return "nvfp4" if _is_float(said, 4) else ""
        return {"fp8": "fp8_e4m3", "nvfp4": "nvfp4"}.get(str(said).lower(), "")
    # It is the layer that takes it, and that of a latent cache does not. Another scheme it refuses to start with.
    if packed.get("quant_method") == "compressed-tensors" and not facts["kv_lora_rank"]:
        return "fp8" if _is_float(packed.get("kv_cache_scheme"), 8) else ""
    return ""


def _of_sglang(how):
    method, scheme, said = how.get("quant_method"), how.get("kv_cache_scheme"), how.get("kv_cache_quant_algo")
    fp8 = ""
    if method == "compressed-tensors":
        static = _is_float(scheme, 8) and scheme.get("strategy") == "tensor" and not scheme.get("dynamic", False)
        fp8 = "FP8" if static and scheme.get("symmetric", True) else ""
    elif isinstance(method, str) and method.startswith("modelopt"):
        algorithm = str(how.get("quant_algo") or "").upper()
        if not algorithm:  # the form of hf_quant_config.json
            inner = _mapping(how.get("quantization"))
            algorithm, said, scheme = str(inner.get("quant_algo") or "").upper(), inner.get("kv_cache_quant_algo"), None
        if "FP4" in algorithm or algorithm in ("FP8", "MXFP8") or _mixed_with_fp4(algorithm, how):
            if isinstance(scheme, dict):
                fp8 = "FP8" if _is_float(scheme, 8) else ""
            elif isinstance(scheme, str) and "FP4" in algorithm:
                fp8 = "FP8" if scheme.strip().upper() in ("FP8", "FLOAT8") else ""
            else:
                fp8 = said
    elif method in ("fp8", "mxfp8"):
        fp8 = said
    return "fp8_e4m3" if str(fp8).upper() == "FP8" else ""


def _mixed_with_fp4(algorithm, how):
    """Whether some layers of a checkpoint of several types are in NVFP4; without, SGLang reads no cache of it."""
    layers = _mapping(how.get("quantized_layers")).values()
    kinds = [str(one.get("quant_algo")).upper() for one in layers if isinstance(one, dict)]
    return algorithm == "MIXED_PRECISION" and any(kind in ("NVFP4", "W4A16_NVFP4") for kind in kinds)
