#!/usr/bin/env python3
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stand-in for an engine whose every delay is scripted, to check what a load generator measures.

It speaks /v1/completions, /v1/chat/completions and /api/generate as streams. The script is the model's name, JSON:
{"ttft": s, "gap": s, "tokens": tokens of each answer, "per_event": tokens in one event, "fail": what goes wrong},
with "fail" one of "429", "drop" (cut after half of the answer), "stall" (nothing more after half), "error" (an error
event), "close" (no keep-alive), "numbered": the tokens are 0, 1, 2 and so on, and "every": which request in so many
fails so (default: each). Usage counts what was sent.

Usage: scripted_stream.py [PORT]. Prints the port.
"""

from __future__ import annotations

import asyncio
import json
import sys


class Server:
    def __init__(self) -> None:
        self.requests = 0

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self.request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ", 2)[1].decode()
        if head.startswith(b"GET "):  # its health, and what models it has
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            return True
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        body = json.loads(await reader.readexactly(length))
        script = json.loads(body["model"])
        self.requests += 1
        fail = script.get("fail") if self.requests % script.get("every", 1) == 0 else None
        if fail == "429":
            said = b'{"error": {"message": "too many requests", "code": 429}}'
            writer.write(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said))
            return True
        loop = asyncio.get_running_loop()
        started = loop.time()
        close = b"Connection: close\r\n" if fail == "close" else b""
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n%s\r\n" % close
        )
        tokens, per_event = script["tokens"], script.get("per_event", 1)
        sent, due = 0, started + script["ttft"]
        while sent < tokens:
            await asyncio.sleep(due - loop.time())
            if fail in ("drop", "stall", "error") and sent >= tokens // 2:
                if fail == "stall":
                    await asyncio.sleep(3600)
                if fail == "error":
                    self.chunk(writer, b'data: {"error": {"message": "out of memory"}}\n\n')
                    break
                return False
            count = min(per_event, tokens - sent)
            sent += count
            words = [f"{number} " if script.get("numbered") else "word " for number in range(sent - count, sent)]
            self.chunk(writer, self.event(path, "".join(words)))
            due += script["gap"] * per_event
        prompt = body.get("prompt") or body["messages"]
        usage = {"prompt_tokens": len(prompt), "completion_tokens": sent, "total_tokens": len(prompt) + sent}
        if path == "/api/generate":
            last = {"done": True, "done_reason": "length", "prompt_eval_count": len(prompt), "eval_count": sent}
            self.chunk(writer, json.dumps(last).encode() + b"\n")
        else:
            end = {"choices": [{"index": 0, "finish_reason": "length", "delta": {}}]}
            self.chunk(writer, b"data: " + json.dumps(end).encode() + b"\n\n")
            self.chunk(writer, b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n")
            self.chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return fail != "close"

    def event(self, path: str, text: str) -> bytes:
        if path == "/api/generate":
            return json.dumps({"response": text, "done": False}).encode() + b"\n"
        if path == "/v1/completions":
            return b"data: " + json.dumps({"choices": [{"index": 0, "text": text}]}).encode() + b"\n\n"
        return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode() + b"\n\n"

    def chunk(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(b"%x\r\n%s\r\n" % (len(data), data))


async def main(port: int) -> None:
    server = await asyncio.start_server(Server().connection, "127.0.0.1", port, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
