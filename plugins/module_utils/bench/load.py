# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Load on a served model: so many streams at a time, from as many processes as keep up with them.

Closed loop: each stream sends its next request when the last answer is whole. Standard library only, Python 3.8.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import pickle
import selectors
import signal
import socket
import ssl
import sys
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

from ansible_collections.dsdeploy.llm.plugins.module_utils.bench import prompts as texts
from ansible_collections.dsdeploy.llm.plugins.module_utils.bench.measure import Request
from ansible_collections.dsdeploy.llm.plugins.module_utils.bench.stream_client import MAX_SAID, Connection, Cut, Job
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.chat import EngineFailure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import bounded, foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import one_line

STREAMS_A_PROCESS = 256
STALL_S = 600.0  # without a byte: a long prompt in a long queue has none for minutes
CONNECT_S = 10.0
LAG_TICK_S = 0.01
WATCH_S = 0.25
TRUST_S = 1.0  # as long who listens is not looked up again: with many streams that is a long table
MOST_ANSWER = 16 * 1024 * 1024  # bytes


class Target(NamedTuple):
    """What is asked: a host and port, and how."""

    host: str
    port: int
    prefix: str  # of all paths
    headers: Dict[str, str]  # the key is among them
    tls: Optional[ssl.SSLContext]
    api: str  # completions, chat or ollama (see `stream_client.TOKENS`)
    model: str
    ignore_eos: bool = True
    # Asked with the address and port of a connection before the key is sent over it; raises EngineFailure.
    trust: Optional[Callable[[str, int], None]] = None

    @property
    def path(self) -> str:
        return self.prefix + {"completions": "/v1/completions", "chat": "/v1/chat/completions"}.get(
            self.api, "/api/generate"
        )


def body_of(target: Target, prompt: texts.Prompt, output_tokens: int) -> Dict[str, Any]:
    """The request for `output_tokens` tokens of answer. Greedy, so that two runs do the same work."""
    if target.api == "ollama":
        options = {"num_predict": output_tokens, "temperature": 0.0}
        return {"model": target.model, "prompt": prompt, "stream": True, "options": options}
    body: Dict[str, Any] = {
        "model": target.model,
        "max_tokens": output_tokens,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if target.ignore_eos:
        body["ignore_eos"] = True
    if target.api == "chat":
        body["messages"] = [{"role": "user", "content": prompt}]
    else:
        body["prompt"] = prompt
    return body


def job_of(target: Target, prompt: texts.Prompt, output_tokens: int) -> Job:
    body = json.dumps(body_of(target, prompt, output_tokens), ensure_ascii=False).encode()
    host = "[%s]" % target.host if ":" in target.host else target.host
    lines = ["POST %s HTTP/1.1" % target.path, "Host: %s:%d" % (host, target.port), "Content-Type: application/json"]
    lines += ["Accept: text/event-stream", "Content-Length: %d" % len(body)]
    lines += ["%s: %s" % item for item in target.headers.items()]
    return Job(("\r\n".join(lines) + "\r\n\r\n").encode("ascii"), body, target.api, 2 * output_tokens + 64)


def post_json(target: Target, path: str, body: Dict[str, Any], timeout: float = 30.0) -> Optional[Dict[str, Any]]:
    """The JSON object that `path` answers to `body`; None where it has no such path, or answers something else."""
    if target.tls:
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            target.host, target.port, timeout=timeout, context=target.tls
        )
    else:
        connection = http.client.HTTPConnection(target.host, target.port, timeout=timeout)
    bounded.bound(connection, bounded.within(timeout))
    headers = dict(target.headers, **{"Content-Type": "application/json"})
    try:
        connection.connect()
        if target.trust and target.headers:
            target.trust(*connection.sock.getpeername()[:2])
        connection.request("POST", target.prefix + path, json.dumps(body).encode(), headers)
        response = connection.getresponse()
        if response.status != 200:
            return None
        value = foreign.loads(response.read(MOST_ANSWER))
    except (OSError, ValueError, http.client.HTTPException, EngineFailure):
        return None
    finally:
        connection.close()
    return value if isinstance(value, dict) else None


def token_pool(target: Target) -> List[int]:
    """The token ids that the engine makes of `prompts.TEXT`; empty where it does not tell."""
    if target.api != "completions":
        return []
    # vLLM and SGLang read `prompt`, llama.cpp `content`.
    answer = post_json(target, "/tokenize", {"model": target.model, "prompt": texts.TEXT, "content": texts.TEXT})
    tokens = (answer or {}).get("tokens")
    if not isinstance(tokens, list) or not all(isinstance(item, int) and item >= 0 for item in tokens):
        return []
    # Not the first: it is the one that begins a text.
    return tokens[1:]


def trusted(target: Target) -> None:
    """Raises EngineFailure where a key is not to be sent to who listens now; OSError where nobody does."""
    if target.trust and target.headers:
        with socket.create_connection((target.host, target.port), CONNECT_S) as connection:
            target.trust(*connection.getpeername()[:2])


def unreachable(target: Target) -> Optional[str]:
    """Why nobody can be connected to; None where somebody listens."""
    try:
        with socket.create_connection((target.host, target.port), CONNECT_S):
            return None
    except OSError as error:
        return _why(error)


def _why(error: BaseException) -> str:
    """What a request without a connection is told of, in a line."""
    if isinstance(error, EngineFailure):
        return one_line(error, MAX_SAID)
    if isinstance(error, asyncio.TimeoutError):
        return "no connection in time"
    number = getattr(error, "errno", None)
    return "cannot connect: " + one_line(os.strerror(number) if number else error, MAX_SAID)


class Point(NamedTuple):
    requests: List[Request]
    lags: List[float]  # s, of each tick of each process's loop
    interrupted: bool


READ = 65536  # bytes at a time


class _Selector(selectors.DefaultSelector):
    """Notes when it returned: all that can be read then has come by then, though it is read one after the other. The
    tokens of hundreds of streams come at once, and the last of them is not to pay for reading the others.

    What `straight` names by its file descriptor is read here and given to it, without the callbacks of asyncio, which
    take longer than all that is done with a token. An end or an error is left to asyncio.
    """

    def __init__(self) -> None:
        super().__init__()
        self.at = time.monotonic()
        self.straight: Dict[int, Callable[[bytes], None]] = {}

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        key = super().unregister(fileobj)
        self.straight.pop(key.fd, None)
        return key

    def select(self, timeout: Any = None) -> Any:
        ready = super().select(timeout)
        self.at = time.monotonic()
        left = []
        for item in ready:
            take = self.straight.get(item[0].fd) if item[1] == selectors.EVENT_READ else None
            if take is not None:
                try:
                    data = os.read(item[0].fd, READ)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                if data:
                    take(data)
                    continue
            left.append(item)
        return left


def _run_loop(load: "_Load") -> Point:
    """As asyncio.run, over a selector that notes the time."""
    selector = _Selector()
    loop = asyncio.SelectorEventLoop(selector)
    asyncio.set_event_loop(loop)
    load.arrived = lambda: selector.at
    load.straight = selector.straight
    try:
        return loop.run_until_complete(load.run())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


class _Load:
    """The streams of one process."""

    arrived: Callable[[], float] = staticmethod(time.monotonic)
    straight: Dict[int, Callable[[bytes], None]]  # see `_Selector`

    def __init__(
        self,
        target: Target,
        prompts: texts.Prompts,
        output_tokens: int,
        streams: int,
        count: int,
        deadline: float,
        stall_s: float,
        stop: Callable[[], bool],
        told: Optional[Callable[[int], None]],
        range_ratio: float,
    ) -> None:
        self.range_ratio = range_ratio
        self.target, self.prompts, self.output_tokens = target, prompts, output_tokens
        self.streams, self.left, self.deadline, self.stall_s = streams, count, deadline, stall_s
        self.stop, self.told = stop, told
        self.done: List[Request] = []
        self.lags: List[float] = []
        self.stopped = False
        self.connections: List[Connection] = []
        self._trusted = -TRUST_S - 1

    async def run(self) -> Point:
        watchers = [asyncio.ensure_future(self._watch()), asyncio.ensure_future(self._lag())]
        try:
            await asyncio.gather(*(self._stream() for _i in range(min(self.streams, self.left))))
        finally:
            for task in watchers:
                task.cancel()
            for connection in self.connections:
                connection.abort()
        return Point(self.done, self.lags, self.stopped)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            now = time.monotonic()
            if self.stop() or now > self.deadline:
                self.stopped, self.left = True, 0
                for connection in self.connections:
                    connection.abort("interrupted")
                return
            for connection in self.connections:
                if not connection.closed and now - connection.heard > self.stall_s:
                    connection.abort("no byte for %.0f s" % self.stall_s)
            if self.told:
                self.told(len(self.done))

    async def _lag(self) -> None:
        while True:
            due = time.monotonic() + LAG_TICK_S
            await asyncio.sleep(LAG_TICK_S)
            self.lags.append(max(0.0, time.monotonic() - due))

    async def _stream(self) -> None:
        connection: Optional[Connection] = None
        while self.left > 0:
            self.left -= 1
            output_tokens = self.prompts.around(self.output_tokens, self.range_ratio)
            job = job_of(self.target, self.prompts.take(self.range_ratio), output_tokens)
            while True:
                try:
                    if connection is None or connection.closed:
                        connection = await self._open()
                    request = await connection.ask(job)
                    break
                except Cut:  # an idle connection that the server had closed
                    connection = None
                except (OSError, asyncio.TimeoutError, EngineFailure) as error:
                    now = time.monotonic()
                    request = Request(now, None, None, now, 0, (), None, None, error=_why(error))
                    await asyncio.sleep(0.2)  # a server that is gone is not asked a thousand times a second
                    break
            # What we broke off ourselves says nothing about the server.
            if request.error != "interrupted":
                self.done.append(request)

    async def _open(self) -> Connection:
        loop = asyncio.get_running_loop()
        made = Connection(self.arrived)
        opening = loop.create_connection(lambda: made, self.target.host, self.target.port, ssl=self.target.tls)
        await asyncio.wait_for(opening, CONNECT_S)
        if self.target.trust and self.target.headers and time.monotonic() - self._trusted > TRUST_S:
            try:
                self.target.trust(*made.peer())
            except BaseException:
                made.abort()
                raise
            self._trusted = time.monotonic()
        self.connections = [item for item in self.connections if not item.closed] + [made]
        if self.target.tls is None and made.descriptor() >= 0:
            self.straight[made.descriptor()] = made.data_received
        return made


def run_point(
    target: Target,
    prompts: texts.Prompts,
    output_tokens: int,
    concurrency: int,
    count: int,
    deadline: float,
    stop: Callable[[], bool] = lambda: False,
    told: Optional[Callable[[int], None]] = None,
    stall_s: float = STALL_S,
    streams_a_process: int = STREAMS_A_PROCESS,
    range_ratio: float = 0.0,
) -> Point:
    """Send `count` requests over `concurrency` streams and return what came of them.

    :param deadline: `time.monotonic()` at which it breaks off, with what was measured until then.
    :param stop: asked four times a second; True breaks off as well.
    :param told: called with the number of requests that are done (of the first process).
    :param range_ratio: how far the lengths of prompts and answers lie around what is asked for (`Prompts.around`). With
        0 all answers are of one length: streams that began together end together and send their next requests at once.
    """
    processes = max(1, -(-concurrency // streams_a_process))
    shares = [concurrency // processes + (i < concurrency % processes) for i in range(processes)]
    counts = [count * share // concurrency for share in shares]
    counts[0] += count - sum(counts)

    def load(i: int) -> _Load:
        return _Load(
            target, prompts, output_tokens, shares[i], counts[i], deadline, stall_s, stop, told if not i else None,
            range_ratio,
        )  # fmt: skip

    def child(i: int) -> Point:
        prompts.reseed()
        return _run_loop(load(i))

    children = [_fork(lambda i=i: child(i)) for i in range(1, processes)]  # type: ignore[misc]
    try:
        parts = [_run_loop(load(0))]
    except BaseException:
        for pid, _pipe in children:
            os.kill(pid, signal.SIGKILL)
        raise
    finally:
        gathered = [_gather(pid, pipe) for pid, pipe in children]
    parts += [part for part in gathered if part is not None]
    lost = sum(part is None for part in gathered)
    if lost:
        raise RuntimeError("%d of %d processes that made the load ended without a result" % (lost, processes))
    return Point(
        [request for part in parts for request in part.requests],
        [lag for part in parts for lag in part.lags],
        any(part.interrupted for part in parts),
    )


def _fork(work: Callable[[], Point]) -> "tuple[int, int]":
    """A process that does `work` and writes its result into a pipe: (its id, the pipe)."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    code = 1
    try:
        os.close(reader)
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump(work(), pipe, protocol=4)
        code = 0
    except BaseException as error:  # nothing may come back into the parent's code
        sys.stderr.write("%s\n" % one_line(error, MAX_SAID))
    finally:
        os._exit(code)


def _gather(pid: int, reader: int) -> Optional[Point]:
    with os.fdopen(reader, "rb") as pipe:
        written = pipe.read()
    _pid, status = os.waitpid(pid, 0)
    if status or not written:
        return None
    # From our own child, over a pipe that nobody else has.
    part: Point = pickle.loads(written)
    return part


def span(requests: Sequence[Request]) -> "tuple[float, float]":
    """(first sent, last ended) of the requests, s."""
    return min(item.sent for item in requests), max(item.ended for item in requests)
