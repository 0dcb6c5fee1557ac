#!/usr/bin/env python3
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model on many hosts: from host to host, against rsync from one host, and every host from the hub; in one run.

    benchmarks/fleet.py [--gib 4] [--files 16] [--hosts 8] [--rate 100] [--only peers|rsync|hub ...]

Needs root, iproute2, curl and rsync. Each host, and the hub (tests/standins/hub.py), is a network namespace with a
link of its own to one bridge, held by tc (tbf) to --rate MB/s in each direction. Every file is compared with the hub's
by sha256 after the time was taken, and removed. `rsync` is what is often done: the first host has the model, and all
others copy it from there at once; the time in which it came to the first is not counted.
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
NAME = "dsf"  # of what is made here: namespaces dsf0 (the hub), dsf1 ..., bridge dsfbr
NET = "10.99.7."
PORT = 29402

HUB = """
import sys
sys.path.insert(0, sys.argv[1])
import hub
sys.argv = ["hub.py", sys.argv[2], "--bind", "0.0.0.0", "--name", sys.argv[3]]
sys.argv += ["--port", "8081", "--storage-port", "8082"]
hub.main()
"""

FETCH = """
import json, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.fetch import Fetch
told = json.loads(sys.stdin.read())
one = Fetch(told["entry"], told["models"], told["options"], lambda line: print("WARN", line, flush=True))
one.run()
print(one.transferred, one.swarm.from_peers if one.swarm else 0)
"""


def run(*command, **more):
    return subprocess.run([str(word) for word in command], check=True, **more)


def inside(number):
    return ["ip", "netns", "exec", f"{NAME}{number}"]


class Network:
    """Namespaces of a hub (0) and hosts, on one bridge."""

    def __init__(self, hosts, rate):
        self.hosts, self.rate = hosts, rate

    def __enter__(self):
        self.__exit__()
        run("ip", "link", "add", f"{NAME}br", "type", "bridge")
        run("ip", "link", "set", f"{NAME}br", "up")
        shape = ["root", "tbf", "rate", f"{self.rate * 8}mbit", "burst", "256k", "latency", "50ms"]
        for number in range(self.hosts + 1):
            outer, space = f"{NAME}v{number}", f"{NAME}{number}"
            run("ip", "netns", "add", space)
            run("ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", space)
            run("ip", "link", "set", outer, "master", f"{NAME}br", "up")
            run(*inside(number), "ip", "addr", "add", f"{NET}{number + 1}/24", "dev", "eth0")
            run(*inside(number), "ip", "link", "set", "eth0", "up")
            run(*inside(number), "ip", "link", "set", "lo", "up")
            run("tc", "qdisc", "add", "dev", outer, *shape)
            run(*inside(number), "tc", "qdisc", "add", "dev", "eth0", *shape)
        return self

    def __exit__(self, *_error):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        for number in range(64):
            if not subprocess.run(["ip", "link", "del", f"{NAME}v{number}"], **quiet).returncode or number < 10:
                subprocess.run(["ip", "netns", "del", f"{NAME}{number}"], **quiet)
        subprocess.run(["ip", "link", "del", f"{NAME}br"], **quiet)


def make_model(root, gib, files):
    """Files of random bytes that begin as GGUF files do; their hashes."""
    size, found = int(gib * 2**30) // files, {}
    (root / "o/m").mkdir(parents=True)
    for number in range(1, files + 1):
        path, digest = root / f"o/m/m-{number:05}-of-{files:05}.gguf", hashlib.sha256()
        with path.open("wb") as handle:
            left, block = size - 4, b"GGUF"
            while block:
                handle.write(block)
                digest.update(block)
                block = os.urandom(min(left, 1 << 24))
                left -= len(block)
        found[path.name] = digest.hexdigest()
    return found


def sha256(path):
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        for block in iter(lambda: handle.read(1 << 22), b""):
            digest.update(block)
    return digest.hexdigest()


def fetches(scratch, entry, url, hosts, together, python):
    """A process that fetches, on each host."""
    members = [
        {"name": f"host{number}", "address": f"{NET}{number + 1}", "port": PORT, "seed": False}
        for number in range(1, hosts + 1)
    ]
    processes = []
    for number, member in enumerate(members, 1):
        options = {"mirrors": {"huggingface": [url]}}
        if together:
            options["fleet"] = {"name": member["name"], "token": "of this benchmark", "members": members}
        process = subprocess.Popen(
            [*inside(number), python, "-c", FETCH, str(ROOT / ".collections")],
            stdin=subprocess.PIPE,
            stdout=(scratch / f"log{number}").open("w"),
            stderr=subprocess.STDOUT,
            text=True,
        )
        process.stdin.write(json.dumps({"entry": entry, "models": str(scratch / f"host{number}"), "options": options}))
        process.stdin.close()
        processes.append(process)
    return processes


def rsyncs(scratch, source, hosts):
    """rsync from host 1, which has the model, to all others at once."""
    config = scratch / "rsyncd.conf"
    config.write_text(f"use chroot = no\nuid = 0\n[m]\npath = {source}\nread only = yes\n")
    server = subprocess.Popen(
        [*inside(1), "rsync", "--daemon", "--no-detach", f"--config={config}", "--port=8873"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(0.5)
    processes = []
    for number in range(2, hosts + 1):
        target = scratch / f"host{number}/m/main"
        target.mkdir(parents=True)
        address = f"rsync://{NET}2:8873/m/"
        processes.append(
            subprocess.Popen(
                [*inside(number), "rsync", "-a", "--whole-file", "--inplace", address, str(target)],
                stdout=(scratch / f"log{number}").open("w"),
                stderr=subprocess.STDOUT,
            )
        )
    return server, processes


def measure(way, scratch, entry, url, hashes, arguments):
    """Seconds, bytes that the hub gave, and the machine's load before, of one way."""
    hosts = arguments.hosts
    before, server, first, load = given(url), None, 1, os.getloadavg()[0]
    started = time.monotonic()
    if way == "rsync":
        server, processes = rsyncs(scratch, scratch / "hub/o/m", hosts)
        first = 2
    else:
        processes = fetches(scratch, entry, url, hosts, way == "peers", arguments.python)
    codes = [process.wait() for process in processes]
    seconds = time.monotonic() - started
    if server:
        server.kill()
        server.wait()
    for number in range(first, hosts + 1):
        directory = scratch / f"host{number}/m/main"
        wrong = (
            [name for name, known in hashes.items() if sha256(directory / name) != known] if not any(codes) else ["?"]
        )
        if wrong:
            print(f"{way}: host {number} has wrong files: {wrong}\n{(scratch / f'log{number}').read_text()[-2000:]}")
        shutil.rmtree(scratch / f"host{number}", ignore_errors=True)
    if any(codes):
        sys.exit(f"{way}: exit statuses {codes}")
    return seconds, given(url) - before, load


def given(url):
    """Bytes of files that the hub has given, by its log."""
    log = json.loads(run(*inside(0), "curl", "-s", f"{url}/_log", capture_output=True).stdout)
    ranges = [one["range"].split("=")[1].split("-") for one in log if one["range"] and one["status"] == 206]
    return sum(int(end) - int(start) + 1 for start, end in ranges)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gib", type=float, default=4)
    parser.add_argument("--files", type=int, default=16)
    parser.add_argument("--hosts", type=int, default=8)
    parser.add_argument("--rate", type=int, default=100, help="MB/s of each link")
    parser.add_argument("--only", nargs="*", default=["peers", "rsync", "hub"])
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--scratch", type=Path)
    arguments = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="fleet-", dir=arguments.scratch))
    found = {}
    try:
        hashes = make_model(scratch / "hub", arguments.gib, arguments.files)
        entry = {"name": "m", "format": "gguf", "sources": [{"kind": "huggingface", "id": "o/m"}]}
        with Network(arguments.hosts, arguments.rate):
            url = f"http://{NET}1:8081"
            hub = [*inside(0), sys.executable, "-c", HUB, str(ROOT / "tests/standins"), str(scratch / "hub"), f"{NET}1"]
            server = subprocess.Popen(hub, stdout=subprocess.PIPE, text=True)
            try:
                server.stdout.readline()
                # The hub computes its hashes once, before anybody's time is taken.
                tree = f"{url}/api/models/o/m/tree/main?recursive=true"
                run(*inside(0), "curl", "-sf", "-o", "/dev/null", tree)
                for way in arguments.only:
                    found[way] = measure(way, scratch, entry, url, hashes, arguments)
                    print(f"{way}: {found[way][0]:.1f} s", flush=True)
            finally:
                server.kill()
                server.wait()
    finally:
        shutil.rmtree(scratch)
    whole = arguments.gib * 2**30
    link = whole / 1e6 / arguments.rate
    print(
        f"\n{arguments.gib:g} GiB in {arguments.files} files, {arguments.hosts} hosts, {arguments.rate} MB/s a link, "
        f"{os.cpu_count()} cores; one copy over one link: {link:.1f} s"
    )
    print("| way | s | / one copy | given by the hub, copies | / rsync | / hub | load before |")
    print("|---|---|---|---|---|---|---|")
    for way, (seconds, count, load) in found.items():
        ratios = [f"{seconds / found[other][0]:.2f}" if other in found else "" for other in ("rsync", "hub")]
        columns = [way, f"{seconds:.1f}", f"{seconds / link:.2f}", f"{count / whole:.2f}", *ratios, f"{load:.1f}"]
        print(f"| {' | '.join(columns)} |")


if __name__ == "__main__":
    main()
