"""Compile the kernels that SGLang takes from Marlin for weights in AWQ before its server starts, all at once.

    marlin_compile.py DTYPE [--experts]

The server compiles each when it first needs it, one after the other, and nvcc is at each file on one core for many
minutes. Runs in the environment of the release, with its server's cache (SGLANG_JIT_CACHE_DIR), by SGLang's own code,
which takes what is there already. DTYPE is that of the activations, such as bfloat16. Prints the seconds of each, then
all as JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor


def modules(dtype: str, experts: bool) -> dict:
    """What is compiled, by name: the products of all layers, and the two of experts (fused_marlin_moe.py)."""
    import torch
    from sglang.kernels.ops.gemm.gptq_marlin import _jit_gptq_marlin_module
    from sglang.kernels.ops.moe.moe_wna16_marlin import _jit_moe_wna16_marlin_module

    kind = getattr(torch, dtype)
    found = {"gptq_marlin": lambda: _jit_gptq_marlin_module(kind)}
    if experts:
        # Without expert parallelism: the routing is sorted, and says how many blocks it leaves out.
        found["moe up"] = lambda: _jit_moe_wna16_marlin_module(kind, False, False, True, False, True)
        found["moe down"] = lambda: _jit_moe_wna16_marlin_module(kind, False, False, True, True, True)
    return found


def timed(item: tuple) -> tuple[str, float]:
    name, build = item
    start = time.monotonic()
    build()
    took = round(time.monotonic() - start, 1)
    print(f"Marlin's kernels: {name} {took} s", flush=True)
    return name, took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dtype", choices=["float16", "bfloat16"])
    parser.add_argument("--experts", action="store_true")
    args = parser.parse_args()
    wanted = modules(args.dtype, args.experts)
    with ThreadPoolExecutor(len(wanted)) as pool:
        print(json.dumps(dict(pool.map(timed, wanted.items()))), flush=True)


if __name__ == "__main__":
    main()
