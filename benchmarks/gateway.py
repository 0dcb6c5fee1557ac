#!/usr/bin/env python3
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many streams at once, past the gateway and through it over TLS, in one interleaved run.

    benchmarks/gateway.py [--streams 512] [--tokens 100] [--gap 0.25] [--rounds 3]

Needs haproxy and openssl. The engine is the stand-in whose delays are scripted
(tests/standins/scripted_stream.py), two of them; the client (tests/standins/stream_watcher.py) checks that each
stream got each token once and in order, and how long each was on its way. HAProxy runs with the configuration that
role gateway writes. TLS in the client is the client's cost, too: the direct streams are plain. All share the cores:
`nice -n -19` keeps others off them.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "tests/standins"), str(ROOT / ".collections")]

import stream_watcher  # noqa: E402
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway import certificate, config, keys  # noqa: E402

KEY = "sk-dsdeploy-of-the-benchmark"
GATEWAY, METRICS, ENGINES = 28443, 28405, (28000, 28001)


def prepare(directory: str, streams: int) -> str:
    """Write what the gateway reads; the path of its configuration."""
    replicas = [{"name": f"engine{port}", "host": "127.0.0.1", "port": port} for port in ENGINES]
    pools = [{"engine": "vllm", "model": "scripted", "health_path": "/health", "has_key": False, "replicas": replicas}]
    want = dict.fromkeys(config.NUMBERS, streams * 4)
    want.update(host="127.0.0.1", port=GATEWAY, metrics_port=METRICS, exposed=False, networks=[], names=[], pools=pools)
    want.update(directory=directory, socket=f"{directory}/admin.sock", engine="vllm", extra_paths=[])
    want.update(key_requests_per_minute=10**6)
    made = keys.make("bench", hashlib.sha256(KEY.encode()).hexdigest(), "", {})
    texts = {name: keys.map_text(entries) for name, entries in keys.maps([made], pools).items()}
    texts.update({"pools.map": "vllm scripted\n", "engines.map": "", "haproxy.cfg": config.render(want)})
    texts["certificate.pem"] = certificate.make([], directory)
    for name, text in texts.items():
        Path(directory, name).write_text(text, encoding="utf-8")
    return f"{directory}/haproxy.cfg"


def used(pid: int) -> tuple[float, float]:
    """CPU seconds and peak memory in MiB of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    peak = next(
        line for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines() if "VmHWM" in line
    )
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(peak.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=512)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--gap", type=float, default=0.25, help="seconds between two tokens of a stream")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--burst", action="store_true", help="all streams begin at once, not over one gap")
    options = parser.parse_args()
    started: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory() as directory:
        try:
            for port in ENGINES:
                command = [sys.executable, ROOT / "tests/standins/scripted_stream.py", str(port)]
                started.append(subprocess.Popen(command, stdout=subprocess.PIPE))
                started[-1].stdout.readline()  # type: ignore[union-attr]  # its port: it listens
            log = Path(directory, "log").open("wb")
            gateway = subprocess.Popen(
                ["haproxy", "-db", "-f", prepare(directory, options.streams)], stdout=log, stderr=log
            )
            started.append(gateway)
            time.sleep(3)
            urls = {
                "direct": f"http://127.0.0.1:{ENGINES[0]}/v1/chat/completions",
                "gateway": f"https://127.0.0.1:{GATEWAY}/v1/chat/completions",
            }
            seen: dict[str, list[dict[str, object]]] = {name: [] for name in urls}
            load = os.getloadavg()[0]
            print(f"{options.streams} streams of {options.tokens} tokens, {options.gap} s apart, load {load:.1f}")
            for number in range(options.rounds):
                for name in ("direct", "gateway") if number % 2 == 0 else ("gateway", "direct"):
                    before = used(gateway.pid)[0]
                    spread = 0.0 if options.burst else options.gap
                    load_of = (options.streams, options.tokens, options.gap)
                    found = asyncio.run(stream_watcher.watch(urls[name], *load_of, KEY, True, spread))
                    found["cpu_s"] = round(used(gateway.pid)[0] - before, 2)
                    seen[name].append(found)
                    print(f"{name:8} {found}", flush=True)
            rate = {name: statistics.median(float(str(one["tokens_s"])) for one in rows) for name, rows in seen.items()}
            whole = sum(int(str(one["whole"])) for rows in seen.values() for one in rows)
            print(f"throughput, of direct: {rate['gateway'] / rate['direct']:.3f}")
            for what, said in (("first_ms", "first token"), ("chunk_ms", "each token, on its way")):
                for place, name in ((0, "p50"), (1, "p99")):
                    through, past = (
                        statistics.median(row[what][place] for row in seen[arm])  # type: ignore[index]
                        for arm in ("gateway", "direct")
                    )
                    print(f"{said}, {name}: direct {past:.2f} ms, through the gateway {through - past:+.2f} ms")
            print(f"whole streams: {whole} of {2 * options.rounds * options.streams}")
            print(f"HAProxy: {used(gateway.pid)[1]:.0f} MiB at most, {used(gateway.pid)[0]:.1f} CPU s in all")
        finally:
            for process in started:
                process.terminate()
                process.wait()


if __name__ == "__main__":
    main()
