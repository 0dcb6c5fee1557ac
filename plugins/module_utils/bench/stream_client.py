# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One connection that sends requests, one after the other, and notes when the tokens of each answer arrive.

Made to cost little, because a client that is late measures itself: bytes are looked through with one regular
expression, JSON is read only where it is an answer's end or an error. HTTP/1.1 with chunks, a length, or an end by
closing.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.bench.measure import Request
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import one_line

MAX_LINE = 4 * 1024 * 1024  # bytes of one event
MAX_ERROR = 64 * 1024  # bytes of an error's body
MAX_HEAD = 64 * 1024
MAX_SAID = 120  # characters of what a server says

# An event that carries tokens. Text inside an answer cannot match: there the quotes are escaped.
TOKENS = {
    # Also with empty text: half a character is a token, too.
    "completions": re.compile(rb'"text"\s*:\s*"'),
    "chat": re.compile(rb'"(?:content|reasoning_content|reasoning)"\s*:\s*"(?!")'),
    "ollama": re.compile(rb'"(?:response|thinking)"\s*:\s*"(?!")'),
}
_USAGE = re.compile(rb'"usage"\s*:\s*\{|"eval_count"\s*:')
_FINISH = re.compile(rb'"(?:finish_reason|done_reason)"\s*:\s*"(\w+)"')
_ERROR = re.compile(rb'(?:^|[{,])\s*"error"\s*:|^error\s*:', re.M)
_STRING = re.compile(rb'(?:[^"\\]|\\.)*')  # up to the quote at its end


class Job(NamedTuple):
    """A request ready to be sent."""

    head: bytes
    body: bytes
    kind: str  # of TOKENS
    most_events: int = 1 << 30  # an answer of more has no end


class Cut(Exception):
    """The server closed before it said anything: of a connection that was used before, no fault of the request."""


class Connection(asyncio.Protocol):
    """Use it with `open`, then `ask` for each job; `closed` says when it cannot be used any more."""

    def __init__(self, arrived: Callable[[], float] = time.monotonic) -> None:
        """`arrived`: when what is read now came, s of time.monotonic()."""
        self.closed = False
        self._arrived = arrived
        self.heard = time.monotonic()  # last byte, for who watches for a stall
        self._done: Optional["asyncio.Future[Request]"] = None
        self._transport: Optional[asyncio.Transport] = None
        self._used = False

    # --- asyncio ---

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self.closed = True
        if self._done is None or self._done.done():
            return
        if self._status and self._length is None and not self._chunked:
            self._end()  # an answer that ends by closing
        elif not self._heard_any and self._used_before:
            self._done.set_exception(Cut())
        else:
            self._fail("the connection was cut in the middle of the answer" if self._heard_any else "closed unanswered")

    def data_received(self, data: bytes) -> None:
        now = self.heard = self._arrived()
        if self._done is None or self._done.done():
            self.abort()  # nobody asked
            return
        self._heard_any = True
        try:
            if self._like is not None:
                data = self._read_like(data, now)
                if not data:
                    return
            if not self._status:
                self._rest += data
                end = self._rest.find(b"\r\n\r\n")
                if end < 0:
                    if len(self._rest) > MAX_HEAD:
                        self._fail("not HTTP: a head of more than %d bytes" % MAX_HEAD)
                    return
                head, data, self._rest = self._rest[:end], self._rest[end + 4 :], b""
                self._read_head(head)
            if self._like is None and self._between():
                self._like = self._learn(data)
            self._read_body(data, now)
        except ValueError as error:
            self._fail("not HTTP: %s" % one_line(error, MAX_SAID))

    # Most events of an answer differ in their token alone, and come as a chunk of their own each. They are known by
    # what stands before and after the token, and need not be looked through one by one.

    def _between(self) -> bool:
        """Whether what comes next is the beginning of a chunk and of an event."""
        return not (self._rest or self._need or self._after_chunk or self._last_chunk or self._line) and self._chunked

    def _learn(self, data: bytes) -> Optional[Tuple[bytes, bytes]]:
        """What stands before and after the token of the first event in `data`, where that is a chunk of its own."""
        at = data.find(b"\n", 0, 8) + 1
        if not at or self._status != 200:
            return None
        chunk = data[: at + int(data[:at].strip() or b"0", 16) + 2]
        match = TOKENS[self._job.kind].search(chunk, at)
        string = _STRING.match(chunk, match.end()) if match else None
        if not match or not string or b"_tokens" in chunk or _FINISH.search(chunk):
            return None
        before, after = chunk[at : match.end()], chunk[string.end() :]
        # Nothing but the event's own end and the chunk's stands after it.
        if b"\n" in before or b"\n" in after.rstrip(b"\r\n") or not after.endswith(b"\n\n\r\n") or at < 3:
            return None
        return before, after

    def _read_like(self, data: bytes, now: float) -> bytes:
        """Count the events in `data` that are like the learned one; returns what is left to be looked through."""
        before, after = self._like  # type: ignore[misc]
        if not self._between():
            # The rest of an event that a read has cut in two.
            cut = data.find(after) + len(after)
            if cut < len(after) or cut >= len(data):
                return data
            self._read_body(data[:cut], now)
            data = data[cut:]
            if not self._between() or self._done is None or self._done.done():
                return data
        at = data.find(b"\n", 0, 8) + 1
        whole = len(data) if data.endswith(after) else data.rfind(after) + len(after)
        begin, end = at + len(before), whole - len(after)
        if begin >= end or not data.startswith(before, at):
            return data
        count = 1
        if data.find(b"\n", begin, end) >= 0:
            count = data.count(after, 0, whole)
            lines = data.count(b"\n", 0, whole)
            # One with an empty token may not count.
            if data.count(before, 0, whole) != count or lines != count * (1 + after.count(b"\n")):
                return data
            if data.find(before + after, 0, whole) >= 0:
                return data
        self._came(count, now)
        return data[whole:]

    # --- a request ---

    async def ask(self, job: Job) -> Request:
        """Send `job` and wait for the whole answer. Raises Cut; any other trouble is in the request's `error`."""
        if self._transport is None:
            raise Cut()
        self._used_before, self._used = self._used, True
        self._job = job
        self._heard_any = False
        self._status = 0
        self._chunked, self._length, self._close = False, None, False
        self._rest = b""
        self._need, self._after_chunk, self._last_chunk = 0, False, False
        self._line = b""
        self._first: Optional[float] = None
        self._last: Optional[float] = None
        self._events = 0
        self._gaps: List[float] = []
        self._usage: Dict[str, Any] = {}
        self._finish: Optional[str] = None
        self._error: Optional[str] = None
        self._like: Optional[Tuple[bytes, bytes]] = None
        self._done = asyncio.get_running_loop().create_future()
        self._sent = self.heard = time.monotonic()
        self._transport.writelines([job.head, job.body])
        return await self._done

    def peer(self) -> "Tuple[str, int]":
        """Address and port of who answers."""
        name = self._transport.get_extra_info("peername") if self._transport else None
        return (name[0], name[1]) if name else ("", 0)

    def descriptor(self) -> int:
        """The file descriptor of its socket; -1 of one that is closed."""
        plain = self._transport.get_extra_info("socket") if self._transport and not self.closed else None
        return plain.fileno() if plain is not None else -1

    def abort(self, why: str = "") -> None:
        """End the connection; the request that is under way fails with `why`."""
        self.closed = True
        if why and self._done is not None and not self._done.done():
            self._fail(why)
        if self._transport is not None:
            self._transport.abort()

    def _read_head(self, head: bytes) -> None:
        status, *lines = head.split(b"\r\n")
        match = re.match(rb"HTTP/1\.[01] (\d{3})", status)
        if not match:
            raise ValueError("it answers %r" % status[:40])
        self._status = int(match.group(1))
        for line in lines:
            name, _colon, value = line.partition(b":")
            name, value = name.strip().lower(), value.strip().lower()
            if name == b"transfer-encoding" and value == b"chunked":
                self._chunked = True
            elif name == b"content-length":
                self._length = int(value)
            elif name == b"connection" and value == b"close":
                self._close = True
        if status.startswith(b"HTTP/1.0"):
            self._close = True

    def _read_body(self, data: bytes, now: float) -> None:
        if self._chunked:
            block, ended = self._unchunk(data)
        else:
            block, ended = data, False
            if self._length is not None:
                self._length -= len(data)
                ended = self._length <= 0
        if block:
            if self._status == 200:
                self._read_events(block, now)
            else:
                self._line += block[:MAX_ERROR]
                if len(self._line) > MAX_ERROR:
                    self._close, ended = True, True  # its rest would take the place of other requests
        if ended and self._done is not None and not self._done.done():
            self._end()

    def _unchunk(self, data: bytes) -> Tuple[bytes, bool]:
        """The content of the chunks in `data`, and whether the last one was among them."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        found, at, size = [], 0, len(data)
        while at < size:
            if self._need:
                piece = data[at : at + self._need]
                found.append(piece)
                at += len(piece)
                self._need -= len(piece)
                self._after_chunk = not self._need
                continue
            end = data.find(b"\n", at)
            if end < 0:
                if size - at > 1024:
                    raise ValueError("a chunk without its size")
                self._rest = data[at:]
                break
            line, at = data[at:end].strip(), end + 1
            if self._after_chunk:
                self._after_chunk = False
            elif self._last_chunk:
                if not line:  # after the trailers
                    return b"".join(found), True
            else:
                self._need = int(line.split(b";")[0], 16)
                self._last_chunk = not self._need
        return b"".join(found), False

    def _read_events(self, block: bytes, now: float) -> None:
        if self._line:
            block = self._line + block
        cut = block.rfind(b"\n") + 1
        self._line = block[cut:]
        if len(self._line) > MAX_LINE:
            self._fail("malformed stream: an event of more than %d bytes" % MAX_LINE)
            return
        if cut:
            self._read_lines(block[:cut], now)

    def _read_lines(self, lines: bytes, now: float) -> None:
        count = len(TOKENS[self._job.kind].findall(lines))
        if count and not self._came(count, now):
            return
        # Looking for bytes is many times quicker than a regular expression that finds nothing.
        if b"error" in lines and _ERROR.search(lines):
            self._error = self._error or reported_error(lines)
        if (b"completion_tokens" in lines or b"eval_count" in lines) and _USAGE.search(lines):
            self._usage = last_usage(lines) or self._usage
        if b"_reason" in lines:
            match = _FINISH.search(lines)
            if match:
                self._finish = match.group(1).decode()

    def _came(self, count: int, now: float) -> bool:
        """So many events with tokens came; False where they have no end."""
        if self._last is None:
            self._first = now
        else:
            self._gaps.append(now - self._last)
        if count > 1:
            self._gaps.extend([0.0] * (count - 1))
        self._last = now
        self._events += count
        if self._events > self._job.most_events:
            self._fail("an answer without an end: more than %d events" % self._job.most_events)
            return False
        return True

    def _end(self) -> None:
        if self._status == 200 and self._line:
            self._read_lines(self._line, self.heard)  # an answer that is no stream, or lacks its last line end
        if self._close:
            self.abort()
        if self._status != 200:
            said = reported_error(self._line)
            self._finished("HTTP %d%s" % (self._status, ": " + said if said else ""))
        elif self._error:
            self._fail(self._error)
        elif self._first is None:
            self._fail("an answer without a token")
        else:
            self._finished(None)

    def _fail(self, why: str) -> None:
        self._finished(why)
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def _finished(self, error: Optional[str]) -> None:
        if self._done is None or self._done.done():
            return
        self._done.set_result(
            Request(
                self._sent,
                self._first,
                self._last,
                self.heard,
                self._events,
                self._gaps,
                _count(self._usage, "prompt_tokens", "prompt_eval_count"),
                _count(self._usage, "completion_tokens", "eval_count"),
                _count(self._usage, "cached_tokens"),
                self._finish,
                error,
            )
        )


def _count(usage: Dict[str, Any], *names: str) -> Optional[int]:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None


def _objects(lines: bytes) -> List[Dict[str, Any]]:
    found = []
    for line in lines.split(b"\n"):
        text = line.strip()
        for prefix in (b"data:", b"error:"):
            if text.startswith(prefix):
                text = text[len(prefix) :].strip()
        try:
            value = foreign.loads(text.decode("utf-8", "replace"))
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def _backwards(lines: bytes, words: Sequence[bytes]) -> Iterator[Dict[str, Any]]:
    """The objects of the lines that hold one of `words`, the last first: a read may hold thousands of events."""
    at = len(lines)
    while True:
        at = max(lines.rfind(word, 0, at) for word in words)
        if at < 0:
            return
        begin, end = lines.rfind(b"\n", 0, at) + 1, lines.find(b"\n", at)
        yield from _objects(lines[begin : end if end >= 0 else len(lines)])
        at = begin


def last_usage(lines: bytes) -> Dict[str, Any]:
    """Token counts of the last event that has them, with ``cached_tokens`` beside the others."""
    for value in _backwards(lines, (b"completion_tokens", b"eval_count")):
        usage = value.get("usage") if isinstance(value.get("usage"), dict) else value
        if _count(usage, "completion_tokens", "eval_count") is None:
            continue
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict):
            usage = dict(usage, cached_tokens=details.get("cached_tokens"))
        return usage
    return {}


def reported_error(lines: bytes) -> str:
    """What the server says went wrong, in a line; "" where it says nothing."""
    for value in _objects(lines):
        for key in ("error", "message", "detail"):
            said = value.get(key)
            if isinstance(said, dict):
                said = said.get("message") or said
            if said:
                return "the engine reports: " + one_line(said, MAX_SAID)
    text = lines.strip()
    return one_line(text.decode("utf-8", "replace"), 80) if text and not text.startswith(b"data:") else ""
