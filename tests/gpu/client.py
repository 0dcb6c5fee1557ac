#!/usr/bin/env python3
"""Tokens a second of OpenAI servers, at some numbers of streams, in rounds that take turns.

    client.py NAME=URL [NAME=URL...] [--streams 1,32,128] [--rounds 3] [--tokens 256] [--json FILE]

A stream is one request that is answered in full: an own random prompt of 16 words, so many new tokens, `ignore_eos`
and temperature 1. The figure is the new tokens by `usage` over the seconds from the first request sent to the last
answer, the prompt's own time included. Each server and number of streams is asked once unmeasured first. Standard
library only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
import urllib.parse
import urllib.request

READ = 1 << 20  # bytes


async def ask(url: str, path: str, document: dict, timeout: float) -> dict:
    """POST a document, read the answer; a connection of its own."""
    parts = urllib.parse.urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=READ)
    body = json.dumps(document).encode()
    head = "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    head += "Connection: close\r\n\r\n"
    writer.write((head % (path, parts.netloc, len(body))).encode() + body)
    await writer.drain()
    try:
        answer = await asyncio.wait_for(reader.read(-1), timeout)
    finally:
        writer.close()
    status, _, rest = answer.partition(b"\r\n")
    headers, _, content = rest.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in headers.lower():
        content = unchunked(content)
    if status.split()[1] != b"200":
        raise RuntimeError("%s: %s" % (status.decode(), content[:300].decode("utf-8", "replace")))
    return json.loads(content)


def unchunked(content: bytes) -> bytes:
    whole = b""
    while content:
        size, _, content = content.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            break
        whole, content = whole + content[:length], content[length + 2 :]
    return whole


async def measure(url: str, model: str, streams: int, tokens: int, timeout: float) -> float:
    """Tokens a second of so many requests at once."""

    async def one() -> int:
        prompt = " ".join("w%d" % random.randrange(1000, 120000) for _ in range(16))
        document = {"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 1.0, "ignore_eos": True}
        return (await ask(url, "/v1/completions", document, timeout))["usage"]["completion_tokens"]

    start = time.monotonic()
    counts = await asyncio.gather(*(one() for _ in range(streams)))
    return sum(counts) / (time.monotonic() - start)


def model_of(url: str) -> str:
    with urllib.request.urlopen(url + "/v1/models", timeout=30) as answer:
        return json.load(answer)["data"][0]["id"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("servers", nargs="+", metavar="NAME=URL")
    parser.add_argument("--streams", default="1,32,128")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--timeout", type=float, default=300, help="s, for one request")
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    servers = dict(word.split("=", 1) for word in options.servers)
    models = {name: model_of(url) for name, url in servers.items()}
    told = {}
    for streams in (int(word) for word in options.streams.split(",")):
        seen = {name: [] for name in servers}
        for turn in range(options.rounds + 1):
            for name, url in servers.items():
                rate = asyncio.run(measure(url, models[name], streams, options.tokens, options.timeout))
                if turn:
                    seen[name].append(round(rate, 1))
        for name, rates in seen.items():
            told.setdefault(name, {})[str(streams)] = rates
            print(
                "%-12s %4d streams: median %8.1f tokens/s  %s" % (name, streams, statistics.median(rates), rates),
                flush=True,
            )
    if options.json:
        with open(options.json, "w", encoding="utf-8") as handle:
            json.dump(told, handle, indent=1)


if __name__ == "__main__":
    main()
