"""All figures of the command against those of another commit, as one table of ratios; for a quiet machine, as root.

    benchmarks/figures.py                       # all of them: about half an hour on two quiet cores
    benchmarks/figures.py --only help status    # some of them: help, status, converge, vllm, first, fleet, local
    benchmarks/figures.py --out build/figures.md

help      `dsdeploy --help` against `python -c 'import click'`, of the same environment
status    `dsdeploy status` of one host over SSH, after each tree's own `up`
converge  a converged `up` of llama_cpp on a systemd host over SSH (converge.py)
vllm      the same of vllm
first     the first `up` from a fresh clone, with an empty home directory and without caches, on a fresh host each
fleet     20 such hosts, converged; the first `up` on all of them has to end well
local     a converged `up` of llama_cpp on this very machine; not among the default ones, as it deploys there

Trees take turns in every round. The CPU time is that of the command with all its children, in `converge`, `vllm` and
`fleet` with that of the hosts. A figure that could not be taken is said, and the others are taken all the same.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from converge import GOALS, HERE, OLD, deploy, inventory, testhost

KINDS = ("help", "status", "converge", "vllm", "first", "fleet", "local")
# (what, quantity): the most that the ratio may be.
WANTED = {("help", "wall"): 1.3, ("status", "cpu"): 0.6, ("first", "wall"): 0.6}
Row = tuple[str, str, float, float, float]


def timed(command: list[str], cwd: Path, environment: dict[str, str] | None = None) -> tuple[float, float, str]:
    """(CPU seconds, seconds, output) of a command that must end with 0."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wall, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stdout[-2000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall, done.stdout


def rows(what: str, new: list[tuple[float, float]], old: list[tuple[float, float]]) -> list[Row]:
    """Of pairs of (CPU seconds, seconds): the medians, and the median of the ratios of the rounds."""
    found = []
    for place, quantity in enumerate(("cpu", "wall")):
        ours, theirs = [pair[place] for pair in new], [pair[place] for pair in old]
        ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
        found.append((what, quantity, statistics.median(ours), statistics.median(theirs), ratio))
    return found


def tree(directory: Path, commit: str) -> Path:
    subprocess.run(
        ["git", "-C", str(HERE), "worktree", "add", "--quiet", "--detach", str(directory), commit], check=True
    )
    return directory


def remove(directory: Path) -> None:
    subprocess.run(["git", "-C", str(HERE), "worktree", "remove", "--force", str(directory)], check=False)


def take_help(args: argparse.Namespace, _directory: Path) -> list[Row]:
    timed([str(HERE / "dsdeploy"), "--version"], HERE)
    python = str(HERE / ".venv/bin/python")
    new, peer = [], []
    for _round in range(args.rounds * 4):
        peer.append(timed([python, "-c", "import click"], HERE)[:2])
        new.append(timed([str(HERE / ".venv/bin/dsdeploy"), "--help"], HERE)[:2])
    return rows("help", new, peer)


def take_status(args: argparse.Namespace, directory: Path) -> list[Row]:
    old = tree(directory / "status-old", args.old)
    name = "figures-status"
    found: dict[Path, list[tuple[float, float]]] = {old: [], HERE: []}
    try:
        testhost("up", name, "bookworm")
        hosts = inventory([name], directory)
        for _round in range(max(2, args.rounds // 2)):
            for which in (old, HERE):
                deploy(which, hosts, "llama_cpp")
                command = [str(which / "dsdeploy"), "status", "-i", str(hosts)]
                found[which].extend(timed(command, which)[:2] for _time in range(3))
    finally:
        testhost("down", name)
        remove(old)
    return rows("status", found[HERE], found[old])


def take_first(args: argparse.Namespace, directory: Path) -> list[Row]:
    found: dict[str, list[tuple[float, float]]] = {args.old: [], "HEAD": []}
    name = "figures-first"
    for number in range(max(2, args.rounds // 2)):
        for commit, pairs in found.items():
            clone, home = directory / f"clone-{number}-{commit}", directory / f"home-{number}-{commit}"
            subprocess.run(["git", "clone", "--quiet", str(HERE), str(clone)], check=True)
            revision = subprocess.run(
                ["git", "-C", str(HERE), "rev-parse", commit], check=True, stdout=subprocess.PIPE, text=True
            ).stdout.strip()
            subprocess.run(["git", "-C", str(clone), "checkout", "--quiet", revision], check=True)
            home.mkdir()
            try:
                testhost("up", name, "bookworm")
                hosts = inventory([name], directory)
                environment = {key: value for key, value in os.environ.items() if not key.startswith("XDG_")}
                environment.update(HOME=str(home), PIP_NO_CACHE_DIR="1", UV_NO_CACHE="1")
                command = [str(clone / "dsdeploy"), "up", "--json", "-i", str(hosts), "--engine", "llama_cpp"]
                cpu, wall, said = timed(command, clone, environment)
                if '"event": "answer"' not in said and '"answers": [{' not in said:
                    raise RuntimeError(f"{commit}: `up` did not answer: {said[-500:]}")
                pairs.append((cpu, wall))
            finally:
                testhost("down", name)
                shutil.rmtree(clone, ignore_errors=True)
                shutil.rmtree(home, ignore_errors=True)
    return rows("first", found["HEAD"], found[args.old])


def converged(what: str, args: argparse.Namespace, *words: str) -> list[Row]:
    """What converge.py finds; its lines are `<engine>, <where>, <kind>: N s against N s, ratio N (...)`."""
    command = [sys.executable, str(HERE / "benchmarks/converge.py"), "--old", args.old, *words]
    found: list[Row] = []
    process = subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout
    for line in process.stdout:
        print(line, end="", flush=True)
        if ", ratio " in line:
            kind = line.split(": ")[0].rpartition(", ")[2]
            numbers = line.split(": ", 1)[1].replace(",", "").split()
            found.append((what, kind, float(numbers[0]), float(numbers[3]), float(numbers[6])))
    if process.wait() not in (0, 1) or not found:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}, see above")
    return found


def take(what: str, args: argparse.Namespace, directory: Path) -> list[Row]:
    rounds = str(args.rounds)
    if what == "help":
        return take_help(args, directory)
    if what == "status":
        return take_status(args, directory)
    if what == "first":
        return take_first(args, directory)
    if what == "converge":
        return converged(what, args, "--hosts", "1", "--rounds", rounds)
    if what == "vllm":
        return converged(what, args, "--hosts", "1", "--engine", "vllm", "--rounds", rounds)
    if what == "fleet":
        return converged(what, args, "--fleet", "20", "--rounds", "1")
    return converged(what, args, "--rounds", rounds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", default=OLD, help="commit to compare with (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=KINDS[:-1], help="%(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="%(default)s")
    parser.add_argument("--out", type=Path, default=HERE / "build/figures.md", help="the table, too (%(default)s)")
    args = parser.parse_args()
    # As on most machines: who has it set compiles each source anew at each start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    table = ["| what | quantity | new, s | old, s | ratio | goal |", "| --- | --- | --- | --- | --- | --- |"]
    failed = []
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="figures-") as temporary:
        for what in args.only:
            load = os.getloadavg()[0]
            print(f"{what} (load {load:.1f})", flush=True)
            try:
                found = take(what, args, Path(temporary))
            except (RuntimeError, OSError, subprocess.CalledProcessError, SystemExit) as error:
                failed.append(what)
                print(f"{what}: not taken: {error}", flush=True)
                table.append(f"| {what} | not taken | | | | |")
                found = []
            for name, quantity, new, old, ratio in found:
                goal = WANTED.get((name, quantity)) or (
                    (0.35 if name == "fleet" and quantity == "controller" else GOALS.get(quantity))
                    if name in ("converge", "vllm", "fleet", "local")
                    else None
                )
                shown = f"{goal:.2f}{'' if ratio <= goal else ' missed'}" if goal else ""
                table.append(f"| {name} | {quantity} | {new:.2f} | {old:.2f} | {ratio:.2f} | {shown} |")
            args.out.write_text("\n".join(table) + "\n", encoding="utf-8")
    print("\n".join(table))
    return int(bool(failed))


if __name__ == "__main__":
    os.environ.pop("ANSIBLE_CONFIG", None)
    sys.exit(main())
