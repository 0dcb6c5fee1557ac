"""What a converged `up` costs, against the same of another commit: CPU seconds and wall time, as ratios.

    benchmarks/converge.py                                  # llama_cpp on this very machine, as root
    benchmarks/converge.py --hosts 1 --engine vllm          # on a systemd host in podman, over SSH
    benchmarks/converge.py --fleet 20 --rounds 3            # 20 such hosts

In every round each tree in turn deploys twice: the first run takes the hosts over from the other tree, the second, with
nothing left to change, is measured. Counted are user and system time of the command with all its children, and of what
they start on the hosts, without the engines themselves. Medians are compared, with the spread of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
OLD = "66024bd"
GOALS = {"cpu": 0.33, "wall": 0.40}
# Of a systemd host in podman: its own cgroup is the root of what it sees. The engines' shares are taken off.
HOST_CPU = (
    "import glob; get = lambda path: int(open(path).read().split()[1]); root = '/sys/fs/cgroup'; "
    "print(get(root + '/cpu.stat') - sum(map(get, glob.glob(root + '/system.slice/dsdeploy-*/cpu.stat'))))"
)


def testhost(*words: str) -> str:
    command = [str(HERE / "tests" / "hosts" / "testhost"), *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def wheels() -> list[str]:
    """Directories that pip's find-links name on this machine: PyTorch for CPU is on no index but PyTorch's own."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    said = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True).stdout
    return [word for found in re.findall("find-links='([^']*)'", said) for word in found.split() if Path(word).is_dir()]


def inventory(names: list[str], directory: Path, links: bool = False) -> Path:
    """An inventory of test hosts, or of this machine where there are none. With `links` they have /srv/wheels."""
    shared: dict[str, object] = {"ansible_python_interpreter": "/usr/bin/python3"}
    if links:
        shared["vllm_venv_find_links"] = shared["sglang_find_links"] = ["/srv/wheels"]
    # As in molecule/vllm_venv: a context and a cache that this machine has the memory for, and nothing compiled.
    shared.update(vllm_venv_max_model_len=2048, vllm_venv_max_num_seqs=32)
    shared["vllm_venv_environment"] = {"VLLM_CPU_CI_ENV": "1"}
    if names:
        shared["ansible_user"] = "operator"
        shared["ansible_ssh_common_args"] = f"-F {testhost('ssh-config')} -o ControlMaster=auto -o ControlPersist=60s"
    else:
        shared["ansible_connection"] = "local"
    path = directory / "hosts.json"
    path.write_text(json.dumps({"all": {"hosts": {name: {} for name in names or ["localhost"]}, "vars": shared}}))
    return path


def on_hosts(names: list[str]) -> float:
    """CPU seconds that the hosts have used so far, without the engines."""
    return sum(int(testhost("run", name, "python3", "-c", HOST_CPU)) for name in names) / 1e6


def deploy(tree: Path, hosts: Path, engine: str) -> tuple[float, float, dict[str, object]]:
    """(CPU seconds of the command with its children, seconds, its summary) of one `up`."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command = [str(tree / "dsdeploy"), "up", "--json", "-i", str(hosts), "--engine", engine]
    done = subprocess.run(command, cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wall, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{tree}: `up` ended with {done.returncode}:\n{done.stdout[-3000:]}")
    summary = json.loads(done.stdout.splitlines()[-1])
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall, summary


def changed(summary: dict[str, object]) -> list[str]:
    """What a run has changed, by host: a run that was to change nothing is none to measure."""
    hosts = summary.get("hosts") or {}
    entries = hosts.items() if isinstance(hosts, dict) else [(entry.get("host"), entry) for entry in hosts]  # type: ignore
    return [f"{name}: {entry['changed_tasks']}" for name, entry in entries if entry.get("changed_tasks")]


def measured(tree: Path, hosts: Path, engine: str, names: list[str]) -> dict[str, float]:
    deploy(tree, hosts, engine)
    used = on_hosts(names)
    cpu, wall, summary = deploy(tree, hosts, engine)
    if changed(summary):
        sys.exit(f"{tree}: a second `up` changed {'; '.join(changed(summary))}")
    return {"controller": cpu, "cpu": cpu + on_hosts(names) - used, "wall": wall}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", default=OLD, help="commit to compare with (%(default)s)")
    parser.add_argument("--engine", default="llama_cpp", help="%(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="%(default)s")
    parser.add_argument("--hosts", "--fleet", type=int, default=0, metavar="N", help="systemd hosts in podman; 0: here")
    parser.add_argument("--suite", default="bookworm", help="of those hosts (%(default)s)")
    args = parser.parse_args()
    # As on most machines: who has it set compiles each source anew at each start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    names = [f"converge-{number}" for number in range(1, args.hosts + 1)]
    found_wheels = wheels() if names else []
    mounts = ["--mount", f"{found_wheels[0]}:/srv/wheels"] if found_wheels else []
    with tempfile.TemporaryDirectory(prefix="converge-") as temporary:
        directory = Path(temporary)
        old = directory / "old"
        git = ["git", "-C", str(HERE), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(old), args.old], check=True)
        try:
            for name in names:
                # What vLLM's processes share is more than the 64 MiB that a container has.
                testhost("up", name, args.suite, "--tmpfs", "/dev/shm:1g", *mounts)
            hosts = inventory(names, directory, bool(mounts))
            trees = {"old": old, "new": HERE}
            found: dict[str, list[dict[str, float]]] = {"old": [], "new": []}
            for number in range(args.rounds):
                for which, tree in trees.items():
                    figures = measured(tree, hosts, args.engine, names)
                    found[which].append(figures)
                    line = ", ".join(f"{kind} {value:.1f} s" for kind, value in figures.items())
                    print(f"round {number + 1}, {which}: {line}", flush=True)
        finally:
            if names:
                testhost("down", *names)
            subprocess.run([*git, "remove", "--force", str(old)], check=True)
    where = f"{args.hosts} host(s) over SSH" if names else "this machine"
    missed = False
    for kind in ("cpu", "controller", "wall"):
        ratios = [new[kind] / old[kind] for new, old in zip(found["new"], found["old"], strict=True)]
        median = {which: statistics.median(figures[kind] for figures in found[which]) for which in found}
        goal = GOALS.get(kind)
        missed = missed or bool(goal and statistics.median(ratios) > goal)
        print(
            f"{args.engine}, {where}, {kind}: {median['new']:.1f} s against {median['old']:.1f} s, "
            f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            + (f", goal {goal:.2f}" if goal else "")
        )
    return int(missed)


if __name__ == "__main__":
    os.environ.pop("ANSIBLE_CONFIG", None)
    sys.exit(main())
