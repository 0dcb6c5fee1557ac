#!/usr/bin/env python3
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every path that a real engine tells of, through the gateway, with a key and without: only the list may answer.

    tests/gateway_paths.py ENGINE URL [--key-file FILE]

Run by hand beside a running engine, its log at hand; needs haproxy and openssl. The paths are those of the engine's own
/openapi.json and of its list in tests/unit/fixtures/gateway/paths. HAProxy runs with the configuration that role
gateway writes; that a refused request has not reached the engine is read from HAProxy's log. Prints what passed, and
ends with 1 where anything else did.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import json
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / ".collections"))
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway import certificate, config, keys, paths  # noqa: E402

KEY, PORT, METRICS = "sk-dsdeploy-of-the-paths", 28543, 28505
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
BODY = b'{"model": "none", "messages": [{"role": "user", "content": "Hi"}], "prompt": "Hi", "max_tokens": 1}'


def listed(engine: str) -> set[tuple[str, str]]:
    """(method, path) of all lists of the engine."""
    found = set()
    for file in (ROOT / "tests/unit/fixtures/gateway/paths").glob(engine + "-*.txt"):
        for line in file.read_text(encoding="utf-8").splitlines():
            if not line.startswith("#"):
                method, path = line.split(" ", 1)
                found.add((method, path))
    return found


def told(url: str) -> set[tuple[str, str]]:
    """(method, path) of the engine's own description; none where it has none."""
    try:
        with urllib.request.urlopen(url + "/openapi.json", timeout=30) as answer:
            described = json.load(answer)["paths"]
    except (urllib.error.HTTPError, ValueError, KeyError):
        return set()
    return {(method.upper(), path) for path, methods in described.items() for method in methods}


def configure(engine: str, url: str, has_key: str, directory: str) -> str:
    parts = urlsplit(url)
    replica = {"name": engine, "host": parts.hostname, "port": parts.port}
    pool = {"engine": engine, "model": "m", "health_path": "/", "has_key": bool(has_key), "replicas": [replica]}
    want = dict.fromkeys(config.NUMBERS, 1000)
    want["key_requests_per_minute"] = 10**6
    want.update(host="127.0.0.1", port=PORT, metrics_port=METRICS, exposed=False, networks=[], names=[], pools=[pool])
    want.update(directory=directory, socket=f"{directory}/admin.sock", engine=engine, extra_paths=[])
    made = keys.make("paths", hashlib.sha256(KEY.encode()).hexdigest(), "", {})
    texts = {name: keys.map_text(entries) for name, entries in keys.maps([made], [pool]).items()}
    # Whether it answers is not the question here: no health check takes it out.
    text = config.render(want).replace("default-server check", "default-server")
    texts.update({"pools.map": f"{engine} m\n", "engines.map": f"{engine} {has_key}\n" if has_key else ""})
    texts.update({"haproxy.cfg": text, "certificate.pem": certificate.make([], directory)})
    for name, content in texts.items():
        Path(directory, name).write_text(content, encoding="utf-8")
    return f"{directory}/haproxy.cfg"


def wait_for(gateway: subprocess.Popen[bytes], log: Path) -> None:
    for _try in range(100):
        if gateway.poll() is not None:
            raise SystemExit(f"haproxy: {log.read_text(encoding='utf-8')}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", PORT), 5):
            return
        time.sleep(0.1)
    raise SystemExit("haproxy does not listen")


def ask(method: str, path: str, key: str) -> tuple[int, bool]:
    """(status, whether it is the gateway's own 404)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without the system's authorities, which take 50 ms to read
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", PORT, timeout=120, context=context)
    headers = {"Content-Type": "application/json", **({"Authorization": "Bearer " + key} if key else {})}
    try:
        connection.request(method, path, BODY if method in ("POST", "PUT", "PATCH") else None, headers)
        answer = connection.getresponse()
        said = answer.read()
        return answer.status, answer.status == 404 and (b'"code":"not_found"' in said or method == "HEAD")
    finally:
        connection.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=sorted(paths.ALLOWED))
    parser.add_argument("url")
    parser.add_argument("--key-file", help="of the engine's own key")
    options = parser.parse_args()
    own_key = Path(options.key_file).read_text(encoding="ascii").strip() if options.key_file else ""
    described, known = told(options.url), listed(options.engine)
    every = described | known
    allowed = set(paths.ALLOWED[options.engine])
    wrong: list[str] = []
    passed: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory, "log")
        command = ["haproxy", "-db", "-f", configure(options.engine, options.url, own_key, directory)]
        with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as gateway:
            try:
                wait_for(gateway, log)
                asked = 0
                for path in sorted({path for _method, path in every}):
                    filled = re.sub(r"\{[^}]*\}|:\w+", "x", path)
                    for prefix in ("", "/" + options.engine):
                        for method in METHODS:
                            listed_here = (method, path) in allowed or (path, method) == (paths.HEALTH, "GET")
                            for key in ("", KEY):
                                asked += 1
                                status, ours = ask(method, prefix + filled, key)
                                if path == paths.HEALTH and method == "GET":
                                    good = status in (200, 503)
                                elif listed_here:
                                    good = status == 401 if not key else status != 401 and not ours
                                else:
                                    good = ours
                                what = f"{method} {prefix + filled} {'with' if key else 'without'} a key: {status}"
                                if not good:
                                    wrong.append(what)
                                elif listed_here:
                                    passed.append(what)
            finally:
                gateway.terminate()
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if "key=" in line]
    reached = [line for line in lines if "server=<NOSRV>" not in line]
    stray = [line for line in reached if "path=other" in line or "key=nobody" in line]
    print(f"{options.engine}: {len(described)} of /openapi.json, {len(known)} of its lists, {len(every)} in all")
    print(f"{asked} requests; with an answer:")
    print("\n".join(passed))
    print(f"reached the engine: {len(reached)}, of them not of the list or without a key: {len(stray)}")
    print(f"only told by /openapi.json: {sorted(described - known) or 'none'}")
    for line in wrong + stray:
        print("WRONG:", line)
    return 1 if wrong or stray else 0


if __name__ == "__main__":
    sys.exit(main())
