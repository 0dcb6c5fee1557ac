"""Compile the kernels that SGLang takes from DeepGEMM before its server starts, on all cores at once.

    deep-gemm-compile.py N,K [N,K...] [--longest 8192] [--jobs CORES] [--parent PID]

The server compiles them when it first starts, one after the other, for more than ten minutes. Runs in the environment
of the release with the variables of its service, so that the server finds them in its cache (SGLANG_DG_CACHE_DIR); once
is enough for a cache. N and K are those of a dense product in FP8 with blocks, of one GPU's share. Each is gone through
at the sizes M of SGLang's fast warm-up, by SGLang's own code, in an order by chance: neighbours are mostly one kernel.
Each process takes some 2 GiB of a GPU's memory. Prints how far it is, then as JSON: products, kernels (new), seconds.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import ctypes
import hashlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

AT_ONCE = 32  # sizes that a process takes at a time
EACH = 2 << 30  # bytes of a GPU's memory
ASKING = 120  # s; PyTorch is read from the disk, and a driver that hangs keeps the server from its own attempt


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
    kind = DeepGemmKernelType.GEMM_NT_F8F8BF16
    product = _BaseWarmupExecutor.create(kind, max_m=max(wanted), n=n, k=k, num_groups=1)
    for m in wanted:
        product.execute(m=m)
    torch.cuda.synchronize()


def free() -> int | None:
    """Bytes that the GPU of the processes, the first that CUDA shows, has free; None where that cannot be asked.

    Of CUDA and not of NVML: where MIG divides the GPU, that tells root alone, and of the whole GPU, and it knows
    nothing of CUDA_VISIBLE_DEVICES. In a process of its own, which gives back what it takes of the GPU.
    """
    ask = "import torch; print(torch.cuda.mem_get_info(0)[0])"
    try:
        done = subprocess.run([sys.executable, "-c", ask], capture_output=True, timeout=ASKING, check=True)
        return int(done.stdout.split()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def room() -> int:
    """How many processes the GPU has room for: one where that is not known."""
    found = free()
    if found is None:
        print("DeepGEMM's kernels: how much memory the GPU has free is not known: one process", flush=True)
        return 1
    return found // EACH


def kernels(directory: str) -> int:
    return sum(name.endswith(".cubin") for _base, _below, names in os.walk(directory) for name in names)


def tasks_of(products: list[tuple[int, int]], longest: int) -> list[tuple[int, int, list[int]]]:
    """All sizes of all products, in parts, in an order by chance."""
    tasks = []
    for n, k in products:
        every = sizes(longest)
        random.shuffle(every)
        tasks += [(n, k, every[at : at + AT_ONCE]) for at in range(0, len(every), AT_ONCE)]
    random.shuffle(tasks)
    return tasks


def end_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends, however that ends: none stays that holds a GPU."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def go_through_all(tasks: list[tuple[int, int, list[int]]], jobs: int) -> None:
    """All tasks, some at a time; RuntimeError where a process of it fails or is killed (no memory left)."""
    context = multiprocessing.get_context("spawn")
    # Not multiprocessing's Pool, which waits for ever for what a killed process had in hand.
    with concurrent.futures.ProcessPoolExecutor(jobs, context, end_with, (os.getpid(),)) as pool:
        waiting = [pool.submit(go_through, task) for task in tasks]
        try:
            for count, done in enumerate(concurrent.futures.as_completed(waiting), 1):
                done.result()
                if not count % 10:
                    print(f"DeepGEMM's kernels: {count}/{len(tasks)}", flush=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.kill()
            raise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("products", nargs="+", metavar="N,K", type=lambda word: tuple(map(int, word.split(","))))
    parser.add_argument(
        "--longest", type=int, default=8192, metavar="TOKENS", help="chunked_prefill_size of the server"
    )
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--parent", type=int, metavar="PID", help="who started it, and whose end is its own")
    args = parser.parse_args()
    if args.parent:
        end_with(args.parent)
    cache = os.environ["SGLANG_DG_CACHE_DIR"]
    asked = json.dumps([sorted(args.products), args.longest])
    # Beside the kernels, and gone with them.
    done = os.path.join(cache, "ahead-" + hashlib.sha256(asked.encode()).hexdigest()[:16])
    if os.path.exists(done):
        return
    before, start = kernels(cache), time.monotonic()
    tasks = tasks_of(args.products, args.longest)
    jobs = max(1, min(args.jobs, len(tasks), room()))
    go_through_all(tasks, jobs)
    os.makedirs(cache, exist_ok=True)
    with open(done, "w", encoding="ascii") as handle:
        handle.write(asked + "\n")
    found = {"products": len(args.products), "kernels": kernels(cache) - before, "jobs": jobs}
    print(json.dumps({**found, "seconds": round(time.monotonic() - start, 1)}), flush=True)


if __name__ == "__main__":
    main()
