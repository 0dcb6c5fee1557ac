"""Compile the kernels that SGLang takes from DeepGEMM before its server starts, on all cores at once.

    deep-gemm-compile.py N,K [N,K...] [--longest 8192] [--jobs CORES]

The server compiles them itself when it first starts, one after the other. Runs in the environment of the release, with the
variables of its service, so that the server finds the kernels in the same cache (SGLANG_DG_CACHE_DIR). N and K are those of
a dense product in FP8 with blocks, of one GPU's share. Each is gone through at the sizes M that SGLang's fast warm-up takes,
by SGLang's own code, in an order by chance: neighbours are mostly one kernel. Prints what it did as JSON: products, kernels
(files that are new in the cache), seconds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import time

AT_ONCE = 32  # sizes that a process takes at a time


def sizes(longest: int) -> list[int]:
    """M of SGLang's fast warm-up (compile_utils.update_deep_gemm_config): all to 1024, then in steps that double."""
    found, start, step = list(range(1, 1025)), 1024, 2
    while start < longest:
        found += range(start, min(2 * start, longest), step)
        start, step = 2 * start, 2 * step
    return sorted({*found, longest})


def go_through(task: tuple[int, int, list[int]]) -> None:
    """One process: compile, and run once, a product at some sizes."""
    import torch
    from sglang.srt.layers.deep_gemm_wrapper.compile_utils import DeepGemmKernelType, _BaseWarmupExecutor

    n, k, wanted = task
    product = _BaseWarmupExecutor.create(DeepGemmKernelType.GEMM_NT_F8F8BF16, max_m=max(wanted), n=n, k=k, num_groups=1)
    for m in wanted:
        product.execute(m=m)
    torch.cuda.synchronize()


def kernels(directory: str) -> int:
    return sum(name.endswith(".cubin") for _, _, names in os.walk(directory) for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("products", nargs="+", metavar="N,K", type=lambda word: tuple(map(int, word.split(","))))
    parser.add_argument(
        "--longest", type=int, default=8192, metavar="TOKENS", help="chunked_prefill_size of the server"
    )
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    cache = os.environ["SGLANG_DG_CACHE_DIR"]
    before, start = kernels(cache), time.monotonic()
    tasks = []
    for n, k in args.products:
        every = sizes(args.longest)
        random.shuffle(every)
        tasks += [(n, k, every[at : at + AT_ONCE]) for at in range(0, len(every), AT_ONCE)]
    random.shuffle(tasks)
    with multiprocessing.get_context("spawn").Pool(min(args.jobs, len(tasks))) as pool:
        for _ in pool.imap_unordered(go_through, tasks):
            pass
    found = {"products": len(args.products), "kernels": kernels(cache) - before}
    print(json.dumps({**found, "seconds": round(time.monotonic() - start, 1)}))


if __name__ == "__main__":
    main()
