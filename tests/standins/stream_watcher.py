#!/usr/bin/env python3
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many streams at once of tests/standins/scripted_stream.py, each watched to its end: what did every client see?

Usage: stream_watcher.py URL STREAMS TOKENS GAP [KEY]. URL is http or https, up to /v1/chat/completions. Prints one JSON
object: {"whole": streams that got each token once, in order, "cut": that ended before, "wrong": that lost or reordered
one, "refused": {status: number}, "seconds": wall time, "first_ms": [p50, p99] from the request to the first token,
"chunk_ms": [p50, p99] on the way, of each token with the time at which it was sent, "tokens_s": of all}.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import sys
import time
from typing import Any
from urllib.parse import urlsplit


class Seen:
    """What all streams saw. They begin once each is connected: shaking hands is the client's work, too."""

    def __init__(self, streams: int) -> None:
        self.missing = streams
        self.connected = asyncio.Event()
        self.began = 0.0
        self.whole = self.cut = self.wrong = self.tokens = 0
        self.refused: dict[int, int] = {}
        self.first: list[float] = []
        self.way: list[float] = []


def tall(values: list[float]) -> list[float]:
    """p50 and p99 of s, in ms."""
    found = sorted(values) or [0.0]
    return [round(found[int(len(found) * share)] * 1000, 2) for share in (0.5, 0.99)]


async def stream(
    url: str,
    key: str,
    tokens: int,
    gap: float,
    seen: Seen,
    context: ssl.SSLContext | None,
    script: dict[str, Any],
    wait: float,
) -> None:
    parts = urlsplit(url)
    model = json.dumps({"ttft": gap, "gap": gap, "tokens": tokens, **script})
    body = json.dumps({"model": model, "messages": [], "stream": True}).encode()
    got: list[int] = []
    ended = False
    try:
        try:
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port, ssl=context, limit=1 << 20, ssl_handshake_timeout=300 if context else None
            )
        finally:
            seen.missing -= 1
            if seen.missing == 0:
                seen.began = time.monotonic()
                seen.connected.set()
        await seen.connected.wait()
        await asyncio.sleep(wait)
        head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {key}\r\n"
        sent = time.monotonic()
        writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        status = int((await reader.readuntil(b"\r\n")).split()[1])
        if status != 200:
            seen.refused[status] = seen.refused.get(status, 0) + 1
            writer.close()
            return
        async for line in reader:
            found = re.findall(rb'"content": "([0-9@. ]+)"', line)
            if found:
                now = time.monotonic()
                if not got:
                    seen.first.append(now - sent)
                for word in found[0].split():
                    number, _at, stamp = word.partition(b"@")
                    got.append(int(number))
                    if stamp:
                        seen.way.append(now - float(stamp))
            elif b"[DONE]" in line:
                ended = True
                break
        writer.close()
    except (OSError, asyncio.IncompleteReadError):
        pass
    seen.tokens += len(got)
    if got != list(range(len(got))):
        seen.wrong += 1
    elif ended and len(got) == tokens:
        seen.whole += 1
    else:
        seen.cut += 1


async def watch(
    url: str, streams: int, tokens: int, gap: float, key: str = "", stamped: bool = False, spread: float = 0.0
) -> dict[str, Any]:
    """:param spread: s over which the streams begin, evenly; 0: all at once."""
    seen, context = Seen(streams), None
    script = {"stamped" if stamped else "numbered": True}
    if url.startswith("https:"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    each = (
        stream(url, key, tokens, gap, seen, context, script, spread * number / streams) for number in range(streams)
    )
    await asyncio.gather(*each)
    seconds = time.monotonic() - seen.began
    return {
        "whole": seen.whole,
        "cut": seen.cut,
        "wrong": seen.wrong,
        "refused": seen.refused,
        "seconds": round(seconds, 2),
        "first_ms": tall(seen.first),
        "chunk_ms": tall(seen.way),
        "tokens_s": round(seen.tokens / seconds, 1),
    }


if __name__ == "__main__":
    address, count, length, pause = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    print(json.dumps(asyncio.run(watch(address, count, length, pause, *sys.argv[5:6]))))
