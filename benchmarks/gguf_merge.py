#!/usr/bin/env python3
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measure gguf_merge against llama-gguf-split --merge, cp and cat, interleaved, from a warm and a cold page cache.

    python3 benchmarks/gguf_merge.py --reference llama-gguf-split --directory /data/bench

Makes a model with the shapes of Qwen2-7B Q4_K_M (4.7 GB of random bytes in 10 shards) in DIRECTORY, needs three
times its size there, and removes everything at the end. Each variant runs once in each round, in an order that
changes; wall-clock time counts until the data is durable (fsync included), CPU is user + system of the process and
of the fsync, RSS its peak. cp copies the merged file, cat the shards. Prints the medians and minima, and the
ratios of the goals.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO / ".collections"), str(REPO / "tests" / "unit" / "plugins" / "module_utils" / "gguf")]
import gguf_files as files  # noqa: E402

# (variant, against, cache, goal): the ratio of medians until durable.
GOALS = [
    ("dsdeploy", "reference", "warm", 0.40),
    ("dsdeploy", "reference", "cold", 0.28),
    ("dsdeploy", "cp", "warm", 1.0),
    ("dsdeploy", "cp", "cold", 1.0),
]
RSS_GOAL = 64_000_000

# Runs a command, then fsync()s its output, in a process of its own: prints seconds, CPU seconds and peak RSS as JSON.
MEASURE = """
import json, os, resource, subprocess, sys, time
output, command = sys.argv[1], sys.argv[2:]
began = time.monotonic()
subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
ended = time.monotonic()
fd = os.open(output, os.O_RDONLY)
os.fsync(fd)
durable = time.monotonic() - began
usage = [resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)]
print(json.dumps({
    "wall": ended - began, "durable": durable, "cpu": sum(u.ru_utime + u.ru_stime for u in usage),
    "rss": usage[0].ru_maxrss * 1024,
}))
"""
MERGE = """
import sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.merge import merge
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import Progress
merge(sys.argv[2], sys.argv[3], False, False, Progress("merge"))
"""


# Qwen2-7B in Q4_K_M, the base of DeepSeek-R1-Distill-Qwen-7B: (name, shape, ggml type), those of a layer per layer.
LAYERS = 28
EMBEDDING = ("token_embd.weight", (3584, 152064), 12)
OUTPUT = ("output.weight", (3584, 152064), 14)
LAYER = (
    ("attn_norm.weight", (3584,), 0),
    ("attn_q.bias", (3584,), 0),
    ("attn_q.weight", (3584, 3584), 12),
    ("attn_k.bias", (512,), 0),
    ("attn_k.weight", (3584, 512), 12),
    ("attn_v.bias", (512,), 0),
    ("attn_v.weight", (3584, 512), 14),
    ("attn_output.weight", (3584, 3584), 12),
    ("ffn_norm.weight", (3584,), 0),
    ("ffn_gate.weight", (3584, 18944), 12),
    ("ffn_up.weight", (3584, 18944), 12),
    ("ffn_down.weight", (18944, 3584), 14),
)
BLOCKS = {0: (1, 4), 12: (256, 144), 14: (256, 210)}


def tensors(scale: float) -> list[files.T]:
    """The tensors, the shapes' last dimensions multiplied by `scale`; of their data only the length."""
    named = [EMBEDDING, *((f"blk.{n}.{name}", *rest) for n in range(LAYERS) for name, *rest in LAYER), OUTPUT]
    found = []
    for name, shape, kind in named:
        if len(shape) > 1:
            shape = (shape[0], max(1, int(shape[1] * scale)))
        block, size = BLOCKS[kind]
        elements = shape[0] * (shape[1] if len(shape) > 1 else 1)
        found.append(files.T(name.encode(), shape, kind, range(elements // block * size)))
    return found


def make_model(directory: Path, scale: float, shards: int) -> list[Path]:
    """The model in `shards` files of about the same size, with a vocabulary of 152,064 tokens, of random bytes."""
    rng = random.Random(1)
    noise = rng.randbytes(32 << 20)
    tokens = [b"token%d" % n for n in range(152064)]
    pairs = [
        files.KV(b"general.architecture", files.STR, b"qwen2"),
        files.KV(b"tokenizer.ggml.tokens", files.ARR, tokens, files.STR),
        files.KV(b"tokenizer.ggml.merges", files.ARR, tokens, files.STR),
    ]
    everything = tensors(scale)
    limit = sum(len(tensor.data) for tensor in everything) / shards
    groups: list[list[files.T]] = [[] for _ in range(shards)]
    written = 0
    for tensor in everything:
        groups[min(shards - 1, int(written / limit))].append(tensor)
        written += len(tensor.data)
    paths = []
    for index, group in enumerate(groups):
        own = [
            *(pairs if index == 0 else []),
            files.KV(b"split.no", files.U16, index),
            files.KV(b"split.tensors.count", files.I32, len(everything)),
            files.KV(b"split.count", files.U16, shards),
        ]
        path = directory / f"synthetic-{index + 1:05d}-of-{shards:05d}.gguf"
        with open(path, "wb") as file:
            file.write(files.header(own, group))
            for tensor in group:
                left = len(tensor.data)
                while left:
                    at = rng.randrange(1 << 20)
                    left -= file.write(memoryview(noise)[at : at + min(left, len(noise) - at)])
                file.write(bytes(files.pad(len(tensor.data)) - len(tensor.data)))
            file.flush()
            os.fsync(file.fileno())
        paths.append(path)
    return paths


def into_cache(paths: list[Path]) -> None:
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while file.read(4 << 20):
                pass


def out_of_cache(paths: list[Path]) -> None:
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def measure(command: list[str], output: Path, sources: list[Path], cache: str) -> dict[str, float]:
    output.unlink(missing_ok=True)
    os.sync()
    (into_cache if cache == "warm" else out_of_cache)(sources)
    done = subprocess.run([sys.executable, "-c", MEASURE, output, *command], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def run(directory: Path, reference: str, scale: float, shards: int, rounds: int, caches: list[str]) -> int:
    model, merged, output = make_model(directory, scale, shards), directory / "merged.gguf", directory / "output"
    subprocess.run([reference, "--merge", model[0], merged], check=True, capture_output=True)
    variants = {
        "dsdeploy": ([sys.executable, "-c", MERGE, str(REPO / ".collections"), str(model[0]), str(output)], model),
        "reference": ([reference, "--merge", str(model[0]), str(output)], model),
        "cp": (["cp", "--reflink=never", str(merged), str(output)], [merged]),
        "cat": (["sh", "-c", 'out=$1; shift; exec cat "$@" > "$out"', "sh", str(output), *map(str, model)], model),
    }
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    rng = random.Random(1)
    for number in range(rounds):
        for cache in caches:
            for name in rng.sample(sorted(variants), len(variants)):
                command, sources = variants[name]
                found.setdefault((name, cache), []).append(measure(command, output, sources, cache))
                if name == "dsdeploy" and not number:
                    subprocess.run(["cmp", output, merged], check=True)
        print(f"round {number + 1} of {rounds}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    return report(found, merged.stat().st_size, rounds, variants, caches)


def report(found, size, rounds, variants, caches) -> int:
    """Print the tables; how many goals were missed."""

    def column(name, cache, what):
        return [one[what] for one in found[name, cache]]

    print(f"{size} bytes, {rounds} interleaved rounds, load at the end {os.getloadavg()[0]:.1f}\n")
    print("| variant | cache | until durable, median s | min s | wall, median s | CPU, median s | peak RSS, MB |")
    print("|---|---|---|---|---|---|---|")
    for cache in caches:
        for name in variants:
            durable, wall, cpu, rss = (column(name, cache, what) for what in ("durable", "wall", "cpu", "rss"))
            print(
                f"| {name} | {cache} | {statistics.median(durable):.2f} | {min(durable):.2f} "
                f"| {statistics.median(wall):.2f} | {statistics.median(cpu):.2f} | {max(rss) / 1e6:.0f} |"
            )
    print("\n| goal | median | min | met |\n|---|---|---|---|")
    missed = 0
    for name, against, cache, goal in GOALS:
        if cache in caches:
            ours, theirs = column(name, cache, "durable"), column(against, cache, "durable")
            ratio = statistics.median(ours) / statistics.median(theirs)
            missed += ratio > goal
            print(
                f"| {name} / {against}, {cache} <= {goal} | {ratio:.2f} | {min(ours) / min(theirs):.2f} "
                f"| {'yes' if ratio <= goal else 'no'} |"
            )
    rss = max(max(column("dsdeploy", cache, "rss")) for cache in caches)
    missed += rss > RSS_GOAL
    print(f"| peak RSS <= {RSS_GOAL / 1e6:.0f} MB | {rss / 1e6:.0f} MB | | {'yes' if rss <= RSS_GOAL else 'no'} |")
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", default=os.environ.get("DSDEPLOY_GGUF_SPLIT", "llama-gguf-split"))
    parser.add_argument("--directory", type=Path, required=True, help="on the disk to measure; it must not exist yet")
    parser.add_argument("--scale", type=float, default=1.0, help="1 is 4.7 GB [1]")
    parser.add_argument("--shards", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", choices=["warm", "cold"], action="append", help="[both]")
    given = parser.parse_args()
    if not shutil.which(given.reference):
        parser.error(f"no {given.reference}: give --reference, Debian's package is llama.cpp-tools-extra")
    given.directory.mkdir(parents=True)
    try:
        run(
            given.directory,
            given.reference,
            given.scale,
            given.shards,
            given.rounds,
            given.cache or ["warm", "cold"],
        )
    finally:
        shutil.rmtree(given.directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
