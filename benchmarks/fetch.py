#!/usr/bin/env python3
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fetch of a model over a shaped link: dsdeploy against hf, modelscope, git-lfs and aria2c, in one run.

    benchmarks/fetch.py [--gib 4] [--files 8] [--rounds 1] [--only NAME ...]

Needs root, iproute2, nftables or none, aria2, git-lfs, and `hf` and `modelscope` on PATH (or --clients DIR).
The stand-in hub (tests/standins/hub.py) runs in a network namespace; each connection is held to 100 Mbit/s by the
hub's own sockets (SO_MAX_PACING_RATE, which paces in the kernel). The round trip of 50 ms is netem's; where the kernel
has no netem, the hub waits instead: 50 ms for a new connection and 50 ms before each answer (slow start is missing
then, for every tool alike), and the table says so. Every tool's files are
compared with the hub's by sha256 after its time was taken. The time is until the tool ends: dsdeploy has verified
and synced its files by then, the others have not.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACE = 100_000_000 // 8  # bytes a second and connection

HUB = """
import socket, sys, time
sys.path.insert(0, sys.argv[1])
import hub
class Paced(hub.Handler):
    def setup(self):
        self.request.setsockopt(socket.SOL_SOCKET, 47, {pace})  # SO_MAX_PACING_RATE
        super().setup()
        time.sleep({wait})
    def parse_request(self):
        good = super().parse_request()
        time.sleep({wait})
        return good
hub.Handler = Paced
hub.main.__globals__["Handler"] = Paced
ports = ["--port", "8081", "--storage-port", "8082"]
sys.argv = ["hub.py", sys.argv[2], "--bind", "0.0.0.0", "--name", "10.98.0.2", *ports]
hub.main()
"""

FETCH = """
import json, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.fetch import Fetch
Fetch(json.loads(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]), print).run()
"""


def run(*command, **more):
    return subprocess.run([str(word) for word in command], check=True, **more)


class Link:
    """A namespace with the hub, joined by a veth pair whose ends delay by 25 ms each."""

    name = "dsdeploy-fetch"

    def __enter__(self):
        self.__exit__()
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", "dsfetch0", "type", "veth", "peer", "name", "dsfetch1", "netns", self.name)
        run("ip", "addr", "add", "10.98.0.1/24", "dev", "dsfetch0")
        run("ip", "link", "set", "dsfetch0", "up")
        inside = ("ip", "netns", "exec", self.name)
        run(*inside, "ip", "addr", "add", "10.98.0.2/24", "dev", "dsfetch1")
        run(*inside, "ip", "link", "set", "dsfetch1", "up")
        run(*inside, "ip", "link", "set", "lo", "up")
        delay = ("root", "netem", "delay", "25ms", "limit", "200000")
        add = ("tc", "qdisc", "add", "dev")
        self.netem = not subprocess.run([*add, "dsfetch0", *delay], stderr=subprocess.DEVNULL).returncode
        if self.netem:
            run(*inside, *add, "dsfetch1", *delay)
        return self

    def __exit__(self, *_error):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(["ip", "link", "del", "dsfetch0"], **quiet)
        subprocess.run(["ip", "netns", "del", self.name], **quiet)


def make_model(root, gib, files):
    size = int(gib * 2**30) // files
    (root / "o/m").mkdir(parents=True)
    for number in range(1, files + 1):
        with (root / f"o/m/m-{number:05}-of-{files:05}.gguf").open("wb") as handle:
            handle.write(b"GGUF")
            left = size - 4
            while left:
                handle.write(os.urandom(min(left, 1 << 24)))
                left -= min(left, 1 << 24)


def sums(directory):
    found = {}
    for path in sorted(directory.rglob("*.gguf")):
        digest = hashlib.sha256()
        with path.open("rb") as handle:
            for block in iter(lambda: handle.read(1 << 22), b""):
                digest.update(block)
        found[path.name] = digest.hexdigest()
    return found


def commands(url, out, names, clients, python):
    """Name to (command, environment) of each tool."""
    base = {"HF_ENDPOINT": url, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(out / ".hf")}
    entry = {"name": "m", "format": "gguf", "sources": [{"kind": "huggingface", "id": "o/m"}]}
    options = {"mirrors": {"huggingface": [url]}}
    urls = out / "urls.txt"
    urls.write_text("".join(f"{url}/o/m/resolve/main/{name}\n out={name}\n" for name in names))
    lfs = f"GIT_LFS_SKIP_SMUDGE=1 git clone -q {url}/git/o/m {out}/lfs && cd {out}/lfs && git lfs pull"
    return {
        "dsdeploy": ([python, "-c", FETCH, ROOT / ".collections", json.dumps(entry), out, json.dumps(options)], {}),
        "aria2c -x16": (["aria2c", "-q", "-x16", "-s16", "-k1M", "-d", out, "-i", urls], {}),
        "hf download": ([clients / "hf", "download", "o/m", "--local-dir", out, "--quiet"], base),
        "modelscope download": (
            [clients / "modelscope", "download", "--model", "o/m", "--local_dir", out],
            {"MODELSCOPE_ENDPOINT": url, "MODELSCOPE_DOMAIN": url.split("//")[1], "HOME": str(out)},
        ),
        "git lfs pull": (["sh", "-c", lfs], {"HOME": str(out)}),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gib", type=float, default=4)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--clients", type=Path, default=Path(shutil.which("hf") or "/nonexistent").parent)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--scratch", type=Path)
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="fetch-", dir=arguments.scratch))
    times = {}
    try:
        make_model(scratch / "hub", arguments.gib, arguments.files)
        sys.path.insert(0, str(ROOT / "tests/standins"))
        import hub

        hub.make_git(scratch / "hub", "o/m")
        expected = sums(scratch / "hub/o/m")
        with Link() as link:
            code = HUB.format(pace=PACE, wait=0 if link.netem else 0.05)
            inside = ["ip", "netns", "exec", Link.name, sys.executable, "-c", code]
            server = subprocess.Popen(
                [*inside, str(ROOT / "tests/standins"), str(scratch / "hub")], stdout=subprocess.PIPE, text=True
            )
            try:
                url = server.stdout.readline().split()[0]
                subprocess.run(["curl", "-sf", f"{url}/api/models/o/m/tree/main?recursive=true"], capture_output=True)
                for _round in range(arguments.rounds):
                    one_round(url, scratch, expected, arguments, times)
            finally:
                server.kill()
                server.wait()
    finally:
        shutil.rmtree(scratch)
    best = min(min(values) for name, values in times.items() if name != "dsdeploy") if len(times) > 1 else None
    delay = "netem" if link.netem else "waits of the hub: this kernel has no netem"
    print(
        f"\n{arguments.gib:g} GiB in {arguments.files} files, 50 ms ({delay}), "
        f"100 Mbit/s a connection, {os.cpu_count()} cores"
    )
    print("| tool | best s | MB/s | CPU s | / best peer |\n|---|---|---|---|---|")
    for name, values in times.items():
        seconds, processor = min(values)
        ratio = f"{seconds / best[0]:.2f}" if best else ""
        rate = arguments.gib * 2**30 / 1e6 / seconds
        print(f"| {name} | {seconds:.1f} | {rate:.0f} | {processor:.1f} | {ratio} |")


def one_round(url, scratch, expected, arguments, times):
    for name in ["dsdeploy", "aria2c -x16", "hf download", "modelscope download", "git lfs pull"]:
        if arguments.only and name not in arguments.only:
            continue
        out = scratch / "out"
        out.mkdir()
        command, environment = commands(url, out, expected, arguments.clients, arguments.python)[name]
        before = os.times()
        started = time.monotonic()
        log = (scratch / "log").open("w+")
        done = subprocess.run(
            [str(word) for word in command], env=dict(os.environ, **environment), stdout=log, stderr=log
        )
        seconds = time.monotonic() - started
        after = os.times()
        processor = after.children_user + after.children_system - before.children_user - before.children_system
        found = sums(out)
        right = {key: found.get(key) for key in expected} == expected
        if done.returncode or not right:
            log.seek(0)
            print(f"{name}: rc {done.returncode}, files right: {right}\n{log.read()[-2000:]}", flush=True)
        else:
            times.setdefault(name, []).append((seconds, processor))
            print(f"{name}: {seconds:.1f} s", flush=True)
        shutil.rmtree(out)


if __name__ == "__main__":
    main()
