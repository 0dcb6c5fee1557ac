#!/usr/bin/env python3
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stand-in for an engine whose every delay is scripted, to check what a load generator measures.

It speaks /v1/completions, /v1/chat/completions and /api/generate as streams. The script is the model's name, JSON:
{"ttft": s, "spread": s, by up to which first tokens are later, evenly (default 0), "gap": s, "tokens": tokens of each
answer, "per_event": tokens in one event, "burst": events of one token in one write, "numbered": true: the tokens are 0,
1, 2 and so on, "stamped": true: they are 0@12.345678 and so on, with the s of time.monotonic() at which each was sent,
"fail": what goes wrong, "every": which request in so many fails so (default: each), "after": so many requests of this
script before the first that fails}. "fail" is one of

- "429"; "500": with a body, of which "announced" bytes are announced (default: what comes, 256 KiB)
- "drop": cut after half of the answer; "stall": nothing more after half; "error": an error event after half
- "endless": events without an end; "close": no keep-alive; "junk": no HTTP; "unfinished": one event without an end

Usage counts what was sent. To the file that "log" names each answer adds a line: the seconds from the whole request to
the first and to the last token, as this side sent them. A busy machine is late; a client is right when it agrees.

Usage: scripted_stream.py [PORT [PROCESSES]]. Prints the port.
"""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import signal
import socket
import sys
import time

# Its multiples are spread evenly between the whole numbers.
GOLDEN = 0.618033988749895
_EVENTS: dict[tuple[str, str], bytes] = {}


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(path: str, text: str, again: bool = True) -> bytes:
    """The event of a text as it goes over the wire, kept for the next time."""
    if (path, text) not in _EVENTS:
        value: dict[str, object] = {"choices": [{"index": 0, "delta": {"content": text}}]}
        if path == "/api/generate":
            value = {"response": text, "done": False}
        elif path == "/v1/completions":
            # As vLLM writes it.
            choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": None, "stop_reason": None}
            about = {"id": "cmpl-" + "0" * 32, "object": "text_completion", "created": 1795000000, "model": "scripted"}
            value = {**about, "choices": [choice], "usage": None}
        made = chunk(line(path, value))
        if not again:
            return made
        _EVENTS[path, text] = made
    return _EVENTS[path, text]


def line(path: str, value: object) -> bytes:
    text = json.dumps(value).encode()
    return text + b"\n" if path == "/api/generate" else b"data: " + text + b"\n\n"


class Selector(selectors.DefaultSelector):
    """Notes when it returned: a request has come by then, though others are read first."""

    at = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(timeout)
        self.at = time.monotonic()
        return ready


SELECTOR: Selector


class Connection(asyncio.Protocol):
    requests = 0  # of all connections
    asked: dict[str, int] = {}  # how often each script was asked for

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.loop = transport, asyncio.get_running_loop()
        self.received, self.timer = b"", None
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, rest = self.received.partition(b"\r\n\r\n")
        if not found:
            return
        lengths = [part for part in head.lower().split(b"\r\n") if part.startswith(b"content-length:")]
        length = int(lengths[0].split(b":")[1]) if lengths else 0
        if len(rest) < length:
            return
        self.received = rest[length:]
        self.answer(head.split(b" ", 2)[1].decode(), rest[:length])

    def answer(self, path: str, body: bytes) -> None:
        self.began, self.path = SELECTOR.at, path
        if not body:
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            return
        asked = json.loads(body)
        try:
            self.script = json.loads(asked["model"])
        except (ValueError, KeyError):
            self.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}")
            return
        self.prompt = asked.get("prompt") or asked.get("messages") or ""
        Connection.requests += 1
        self.fail = self.script.get("fail") if Connection.requests % self.script.get("every", 1) == 0 else None
        Connection.asked[asked["model"]] = Connection.asked.get(asked["model"], 0) + 1
        if Connection.asked[asked["model"]] <= self.script.get("after", 0):
            self.fail = None
        if self.fail == "429":
            said = b'{"error": {"message": "too many requests", "code": 429}}'
            self.transport.write(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said))
        elif self.fail == "500":
            body = b"x" * 262144
            announced = self.script.get("announced", len(body))
            self.transport.write(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: %d\r\n\r\n" % announced)
            self.transport.write(body)
        elif self.fail == "junk":
            self.transport.write(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n")
        else:
            close = b"Connection: close\r\n" if self.fail == "close" else b""
            kind = b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
            self.transport.write(b"HTTP/1.1 200 OK\r\n%s%s\r\n" % (kind, close))
            self.sent, self.first_sent = 0, 0.0
            later = Connection.requests * GOLDEN % 1.0 * self.script.get("spread", 0.0)
            self.due = self.began + self.script["ttft"] + later
            self.timer = self.loop.call_at(self.due, self.step)

    def step(self) -> None:
        """Send what is due, and come again for the next."""
        script = self.script
        tokens, per_event, gap = script["tokens"], script.get("per_event", 1), script["gap"]
        burst = script.get("burst", 1)
        while True:
            if self.transport.is_closing():
                return
            if self.fail in ("drop", "stall", "error", "unfinished") and self.sent >= tokens // 2:
                self.go_wrong()
                return
            now = time.monotonic()  # before it is sent: on a busy machine the client may have it before this goes on
            if burst > 1:
                count = min(burst, tokens - self.sent)
                self.transport.write(event(self.path, "word ") * count)
            else:
                count = min(per_event, tokens - self.sent) if self.fail != "endless" else per_event
                text = "word " * count
                if script.get("numbered") or script.get("stamped"):
                    stamp = f"@{time.monotonic():.6f} " if script.get("stamped") else " "
                    text = "".join(f"{number}{stamp}" for number in range(self.sent, self.sent + count))
                self.transport.write(event(self.path, text, "@" not in text))
            self.sent += count
            self.first_sent = self.first_sent or now
            if self.sent >= tokens and self.fail != "endless":
                self.end(now)
                return
            self.due += gap * per_event
            if self.due > now or gap == 0:
                # Without a gap the others have their turn, and the buffer its limit.
                full = self.transport.get_write_buffer_size() > 65536
                self.timer = self.loop.call_at(now + 0.002 if full else self.due, self.step)
                return

    def go_wrong(self) -> None:
        if self.fail == "drop":
            self.transport.close()
        elif self.fail == "error":
            self.transport.write(chunk(b'data: {"error": {"message": "out of memory"}}\n\n') + b"0\r\n\r\n")
        elif self.fail == "unfinished":
            self.transport.write(b"".join(chunk(b"x" * 65536) for _i in range(100)))

    def end(self, now: float) -> None:
        prompt = len(self.prompt)
        if self.script.get("log"):
            with open(self.script["log"], "a", encoding="ascii") as log:
                log.write(f"{self.first_sent - self.began:.6f} {now - self.began:.6f}\n")
        if self.path == "/api/generate":
            last = {"done": True, "done_reason": "length", "prompt_eval_count": prompt, "eval_count": self.sent}
            tail = chunk(line(self.path, last))
        else:
            usage = {"prompt_tokens": prompt, "completion_tokens": self.sent, "total_tokens": prompt + self.sent}
            end = {"choices": [{"index": 0, "finish_reason": "length", "text": "", "delta": {}}]}
            if self.path == "/v1/completions":
                end = {"choices": [{"index": 0, "finish_reason": "length"}]}
            tail = chunk(line(self.path, end))
            tail += chunk(line(self.path, {"choices": [], "usage": usage}))
            tail += chunk(b"data: [DONE]\n\n")
        self.transport.write(tail + b"0\r\n\r\n")
        if self.fail == "close":
            self.transport.close()


def serve(listener: socket.socket) -> None:
    global SELECTOR
    SELECTOR = Selector()
    asyncio.SelectorEventLoop(SELECTOR).run_until_complete(serving(listener))


async def serving(listener: socket.socket) -> None:
    server = await asyncio.get_running_loop().create_server(Connection, sock=listener, backlog=4096)
    async with server:
        await server.serve_forever()


def listening(port: int) -> socket.socket:
    """A listener beside those of the other processes: the kernel shares the connections among them."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(4096)
    return listener


def main(port: int, processes: int) -> None:
    first = listening(port)
    port = first.getsockname()[1]
    others = [listening(port) for _i in range(processes - 1)]
    parent = os.getpid()
    for listener in others:
        if not os.fork():
            first.close()
            # With the first process the others end; nobody else knows of them.
            import ctypes

            ctypes.CDLL(None).prctl(1, signal.SIGKILL)
            if os.getppid() == parent:
                serve(listener)
            os._exit(0)
    for listener in others:
        listener.close()
    print(port, flush=True)
    serve(first)


if __name__ == "__main__":
    main(*(int(word) for word in (sys.argv[1:] + ["0", "1"][len(sys.argv) - 1 :])))
