# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which of DeepGEMM's kernels SGLang compiles at its first start, so that they can be compiled ahead of it. Pure."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.parameters import version_key
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.request import divided, first_instance

# Since when the code that compiles them is as roles/sglang/files/deep-gemm-compile.py takes it.
SINCE = "0.5.23"
# DeepGEMM takes no other shapes of weights in FP8 (layers/quantization/fp8_utils.py).
_ROWS, _COLUMNS = 64, 128


def is_off(environment: Any, name: str) -> bool:
    """Whether a variable switches off what SGLang does by default, as it reads them (environ.py)."""
    return str(dict(environment or {}).get(name)).lower() in ("0", "false", "no", "n")


def memory_mib(gpu: Dict[str, Any]) -> Optional[int]:
    """MiB of a GPU as SGLang sees it, None where that is not known. Where MIG divides it nvidia-smi tells SGLang's user
    nothing, and PyTorch the instance's, the first (utils/common.py, get_nvgpu_memory_capacity)."""
    return (first_instance(gpu) or {} if divided(gpu) else gpu).get("memory_total_mib")


def longest(gpu_mib: Optional[int], chunked: int = 0) -> Optional[int]:
    """Tokens of the largest batch that SGLang warms up for, by the memory of its GPU (arg_groups/memory_hook.py); None
    where that is not known.

    :param gpu_mib: of the smallest GPU; None: not known.
    :param chunked: ``chunked_prefill_size``; 0 where it is not set, below that for none.
    """
    if chunked < 0:
        return 16384
    if not chunked:
        if gpu_mib is None:
            return None
        chunked = 2048 if gpu_mib < 20480 else 4096 if gpu_mib < 61440 else 8192 if gpu_mib < 163840 else 16384
    return min(chunked, 32768)


def dense_products(entry: Dict[str, Any], tensor: int, attention: int) -> List[Tuple[int, int]]:
    """``(N, K)`` of each product with dense weights in FP8 with blocks, as one GPU has it; empty: none is known.

    Seen of 0.5.23 with R1's shapes on an H200: eight in W4AFP8, and six in FP8, where the shared expert goes with the
    others. Experts go through other kernels.

    :param tensor: tensor parallelism.
    :param attention: tensor parallelism of the attention, less with its own data parallelism.
    """
    shape = entry.get("architecture") or {}
    kind = str(entry.get("quantization")).upper()
    if shape.get("name") != "deepseek_v3" or kind not in ("FP8", "W4AFP8") or not shape.get("q_lora_rank"):
        return []
    hidden, heads, latent = shape["hidden_size"], shape["attention_heads"], shape["kv_lora_rank"]
    nope, rope, value = shape["qk_nope_head_dim"], shape["qk_rope_head_dim"], shape["v_head_dim"]
    queries, width = shape["q_lora_rank"], shape.get("intermediate_size") or 0
    shared = (shape.get("moe_intermediate_size") or 0) * (shape.get("shared_experts") or 0)
    found = [
        (queries + latent + rope, hidden),
        (heads * (nope + rope) // attention, queries),
        (heads * (nope + value) // attention, latent),
        (hidden, heads * value // attention),
    ]
    if shape.get("dense_layers") and width:
        found += [(2 * width // tensor, hidden), (hidden, width // tensor)]
    if kind == "W4AFP8" and shared:
        found += [(2 * shared // tensor, hidden), (hidden, shared // tensor)]
    return [(n, k) for n, k in dict.fromkeys(found) if n and k and n % _ROWS == k % _COLUMNS == 0]


def deep_gemm_products(
    entry: Dict[str, Any],
    gpus: Sequence[Dict[str, Any]],
    version: str,
    tensor: int,
    attention_ranks: int = 1,
    chunked: int = 0,
    environment: Any = None,
    extra_args: Sequence[Any] = (),
) -> str:
    """Arguments of ``deep-gemm-compile.py``: products and the largest batch; empty where nothing is compiled ahead.

    That is on Hopper alone, where it was measured, and where SGLang takes its kernels for FP8 from DeepGEMM.
    """
    if not gpus or version_key(version) < version_key(SINCE):
        return ""
    if not all(str(gpu.get("compute_capability") or "").startswith("9.") for gpu in gpus):
        return ""
    if is_off(environment, "SGLANG_ENABLE_JIT_DEEPGEMM") or is_off(environment, "SGLANG_JIT_DEEPGEMM_PRECOMPILE"):
        return ""
    if any(str(word).startswith("--fp8-gemm") for word in extra_args):
        return ""
    tensor = max(1, int(tensor))
    products = dense_products(entry, tensor, max(1, tensor // max(1, int(attention_ranks))))
    if not products:
        return ""
    each = [memory_mib(gpu) for gpu in gpus]
    known = [size for size in each if size is not None]
    size = longest(min(known) if len(known) == len(each) else None, int(chunked or 0))
    if size is None:
        return ""
    return " ".join(["%d,%d" % pair for pair in products] + ["--longest", str(size)])
