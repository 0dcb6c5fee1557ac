# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Talk to a served model: wait until it is healthy, ask it a question. HTTP with the standard library only.

The proxy variables of the environment are not used: an engine is asked where it listens.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple
from urllib.parse import urlsplit

from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import api_key as api_keys
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.stream import (
    Answer,
    StreamError,
    lines_of,
    sse_data,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import bounded
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import error_text, loads, one_line, parse

# The question of the deployment that this project grew from; the expected character is rare enough that only a
# model which reasons finds it.
QUESTION = "一个汉字具有左右结构，左边是木，右边是乞。这个字是什么？只需回答这个字即可。"

HEALTH_PATHS = {"openai": "/health", "ollama": "/api/version"}
MODELS_PATHS = {"openai": "/v1/models", "ollama": "/api/tags"}
CHAT_PATHS = {"openai": "/v1/chat/completions", "ollama": "/api/chat"}

HTTP_TIMEOUT = 5.0  # s; for a short request: an engine that loads may accept a connection and never answer
MAX_BODY = 1024 * 1024


class EngineFailure(Failure):
    """An engine is not reached, or does not answer as it should. `retry`: asking again may help; `result`: what it
    had answered by then, in the shape of `ask`; `status`: of HTTP, where the server gave one."""

    def __init__(
        self,
        msg: str,
        hint: str = "",
        retry: bool = False,
        result: Optional[Dict[str, Any]] = None,
        status: Optional[int] = None,
        error_kind: str = "verify",
    ) -> None:
        super().__init__(msg, hint, error_kind)
        self.status = status
        self.retry = retry
        self.result = result or {}


class Endpoint:
    """A base URL with its key and its trust. Raises ValueError (one line) for a URL that is not one, OSError for an
    unreadable `ca_path`, ssl.SSLError for one without certificates."""

    def __init__(
        self,
        url: str,
        api_key: Optional[str] = None,
        ca_path: Optional[str] = None,
        validate_certs: bool = True,
    ) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:  # a port that is no number, half an IPv6 address
            host = None
        if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
            raise ValueError(f"url: '{one_line(url)}' is not a base URL such as http://127.0.0.1:8000")
        if parts.username is not None:
            raise ValueError("url: must not hold a user or password; use api_key or api_key_file")
        wrong = api_keys.problem(api_key or "")
        if wrong:
            raise ValueError(wrong)
        self.host, self.port = host, port
        # OpenAI clients want the base URL with /v1, curl users without: both are understood.
        path = parts.path.rstrip("/")
        self.prefix = path[: -len("/v1")] if path.endswith("/v1") else path
        self.url = f"{parts.scheme}://{parts.netloc}{self.prefix}"
        self.headers = {"Authorization": "Bearer " + api_key} if api_key else {}
        self.tls = _tls(ca_path, validate_certs) if parts.scheme == "https" else None
        # Asked with the address and port of a connection before the key is sent over it; raises EngineFailure.
        self.trust: Optional[Callable[[str, int], None]] = None

    def get(self, path: str, timeout: float, with_key: bool = True) -> Tuple[int, str, bytes]:
        """(status, content type, body) of a GET. `timeout` in s for the whole. Raises EngineFailure."""
        exchange = _Exchange(self, "GET", path, None, time.monotonic() + timeout, with_key)
        try:
            body = b"".join(exchange.chunks())[:MAX_BODY]
        finally:
            exchange.close()
        return exchange.status, exchange.content_type, body


class _Exchange:
    """One request and its response, read piece by piece before a deadline (time.monotonic)."""

    def __init__(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        payload: Optional[Dict[str, Any]],
        deadline: float,
        with_key: bool = True,
    ) -> None:
        self.what = f"{method} {endpoint.url}{path}"
        self.started = time.monotonic()
        self.deadline = deadline
        self.scheme = endpoint.url.partition(":")[0]
        headers = {"Accept": "application/json, text/event-stream"}
        if with_key:
            headers.update(endpoint.headers)
        body = None
        if payload is not None:
            body = json.dumps(payload).encode()
            headers["Content-Type"] = "application/json"
        timeout = self._left()
        if endpoint.tls:
            self.connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                endpoint.host, endpoint.port, timeout=timeout, context=endpoint.tls
            )
        else:
            self.connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=timeout)
        bounded.bound(self.connection, self._left)
        try:
            self.connection.connect()
            # http.client forgets the socket when the server closes after the response; its time-out is needed longer.
            self.socket = self.connection.sock
            self.socket.settimeout(self._left())
            if with_key and endpoint.headers and endpoint.trust:
                endpoint.trust(*self.socket.getpeername()[:2])
            self.connection.request(method, endpoint.prefix + path, body, headers)
            self.socket.settimeout(self._left())
            self.response = self.connection.getresponse()
        except EngineFailure:
            self.connection.close()
            raise
        except (OSError, http.client.HTTPException) as exc:
            self.connection.close()
            raise self._error(exc) from exc
        self.status = self.response.status
        self.content_type = (self.response.getheader("Content-Type") or "").partition(";")[0].strip().lower()

    def _left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise self._error(socket.timeout())
        return left

    def chunks(self) -> Iterator[bytes]:
        """The body as it arrives; at most MAX_BODY bytes unless it is an answer's stream."""
        size = 0
        while True:
            # With its last byte, newer versions of Python close the response, and the socket with it.
            if self.response.isclosed():
                return
            self.socket.settimeout(self._left())
            try:
                chunk = self.response.read1(65536)
            except (OSError, http.client.HTTPException, ValueError) as exc:
                cut = http.client.IncompleteRead(b"")
                raise self._error(cut if isinstance(exc, ConnectionError) else exc) from exc
            if not chunk:
                return
            size += len(chunk)
            yield chunk
            if size > MAX_BODY and not self.streams():
                return

    def streams(self) -> bool:
        return self.status == 200 and self.content_type in ("text/event-stream", "application/x-ndjson")

    def close(self) -> None:
        self.connection.close()
        if hasattr(self, "response"):
            self.response.close()

    def _error(self, exc: Exception) -> EngineFailure:
        text, hint, retry = explain(exc, self.scheme)
        if isinstance(exc, socket.timeout):
            text = f"no answer within {self.deadline - self.started:.0f} s"
        return EngineFailure(f"{self.what}: {text}", hint, retry)


def _tls(ca_path: Optional[str], validate_certs: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_path:
        context.load_verify_locations(ca_path)
        # Python 3.13 began to refuse private CAs that curl and every engine's client accept; a probe of the same
        # server must not depend on the target's Python.
        context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    if not validate_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def explain(exc: Exception, scheme: str) -> Tuple[str, str, bool]:
    """(what happened, hint, whether waiting may help) for an exception of http.client, socket or ssl."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"TLS: {exc.verify_message}", "Give the CA's certificate as ca_path, or correct url.", False
    if isinstance(exc, ssl.SSLError) and exc.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return "TLS: the server does not speak TLS", "Use http:// in url.", False
    if isinstance(exc, ssl.SSLError) and not isinstance(exc, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return f"TLS: {one_line(exc.reason or exc)}", "Check the TLS settings of the server.", False
    if isinstance(exc, socket.gaierror):
        return "the host name cannot be resolved", "Correct the host in url.", exc.errno == socket.EAI_AGAIN
    if isinstance(exc, ConnectionRefusedError):
        return "connection refused", "Nothing listens there: check that the service runs, and its host and port.", True
    if isinstance(exc, socket.timeout):
        return "no answer in time", "", True
    if isinstance(exc, http.client.IncompleteRead):
        return "the connection was cut in the middle of the response", "", True
    if isinstance(exc, (http.client.RemoteDisconnected, ConnectionError)):
        hint = "If the server speaks TLS, use https:// in url." if scheme == "http" else ""
        return "the connection was closed without an answer", hint, True
    if isinstance(exc, (http.client.HTTPException, ValueError)):
        return "the server does not speak HTTP", "Another program listens there: check the port in url.", False
    return one_line(getattr(exc, "strerror", None) or exc), "", True


def is_html(content_type: str, body: bytes) -> bool:
    return content_type == "text/html" or body.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html"))


def explain_status(status: int, content_type: str, body: bytes, has_key: bool) -> Tuple[str, str, bool]:
    """(what the server said, hint, whether waiting may help) for an HTTP status that is not 200."""
    text = f"HTTP {status}"
    if is_html(content_type, body):
        text += " with an HTML page"
    elif body.strip():
        try:
            text += ": " + error_text(loads(body))
        except ValueError:
            text += ": " + one_line(body.decode("utf-8", "replace"), 120)
    if status in (401, 403):
        if has_key:
            return text, "The server refuses this API key: check api_key or api_key_file against the server's.", False
        return text, "The server wants an API key: give api_key or api_key_file.", False
    if 300 <= status < 400:
        return text, "The server redirects elsewhere: give the final base URL as url.", False
    if status == 404:
        return text, "Check the port in url, and api; perhaps another program listens there.", False
    # 502 to 504 with an HTML page is a proxy whose engine is not there yet.
    return text, "", status >= 500 or status in (408, 425, 429)


def health(endpoint: Endpoint, path: str, timeout: float = HTTP_TIMEOUT) -> None:
    """Return when `path` says healthy (2xx and not a web page); else raise EngineFailure, with `retry` set where the
    engine may still be loading (llama.cpp answers 503 `Loading model`).

    Asked without the key: one that wants it answers, and whoever listens there does not get it for that."""
    status, content_type, body = endpoint.get(path, timeout, with_key=False)
    what = f"GET {endpoint.url}{path}: "
    if status in (401, 403) and endpoint.headers:
        return
    if not 200 <= status < 300:
        text, hint, retry = explain_status(status, content_type, body, bool(endpoint.headers))
        if status == 404:
            hint = "Set health_path to a path that the engine has, or check the port in url."
        raise EngineFailure(what + text, hint, retry, status=status)
    if is_html(content_type, body):
        raise EngineFailure(what + "a web page, not an engine", "Another program listens there: check the port in url.")


def wait_healthy(
    endpoint: Endpoint,
    path: str,
    timeout: float,
    check_service: Optional[Callable[[], None]] = None,
    on_wait: Optional[Callable[[float, float, str], None]] = None,
    give_up: Optional[Callable[[], Optional[str]]] = None,
) -> float:
    """Wait until the engine is healthy and return the seconds waited. EngineFailure when that is hopeless or too late.

    `check_service` is called after every attempt, one that succeeds included: another program on the port may have
    answered. It raises EngineFailure, with `retry` unset where waiting is pointless.
    `on_wait(elapsed, deadline, state)` is the one hook for progress: seconds since the start, the time-out in
    seconds, and what the last attempt saw, as one line.
    `give_up`, where given, decides in place of the time-out: it returns why waiting is pointless, or None to go on.
    """
    started = time.monotonic()
    while True:
        last: Optional[EngineFailure] = None
        try:
            left = HTTP_TIMEOUT if give_up else timeout - (time.monotonic() - started)
            health(endpoint, path, max(1.0, min(HTTP_TIMEOUT, left)))
        except EngineFailure as exc:
            if not exc.retry:
                raise
            last = exc
        if check_service:
            try:
                check_service()
            except EngineFailure as exc:
                if not exc.retry:
                    raise EngineFailure(f"{exc}; {last or 'the port answers'}", exc.hint) from exc
                last = last or exc
        elapsed = time.monotonic() - started
        if last is None:
            return elapsed
        if on_wait:
            on_wait(elapsed, timeout, str(last))
        why = give_up() if give_up else None
        if why:
            raise EngineFailure(
                f"not healthy after {elapsed:.0f} s: {why}: {last}", "The engine's log says what it did last."
            )
        if elapsed >= timeout and not give_up:
            hint = last.hint or "Raise health_timeout if the engine still loads the model; its log says."
            raise EngineFailure(f"not healthy within {timeout:.0f} s: {last}", hint)
        # Fast for a small model, gentle while 400 GB are being loaded.
        pause = min(5.0, max(0.25, elapsed / 20))
        time.sleep(pause if give_up else max(0.0, min(timeout - elapsed, pause)))


def list_models(endpoint: Endpoint, api: str, timeout: float = HTTP_TIMEOUT) -> List[str]:
    """The names of the served models, in the server's order. Raises EngineFailure."""
    path = MODELS_PATHS[api]
    status, content_type, body = endpoint.get(path, timeout)
    what = f"GET {endpoint.url}{path}: "
    if status != 200:
        text, hint, retry = explain_status(status, content_type, body, bool(endpoint.headers))
        raise EngineFailure(what + text, hint, retry)
    try:
        # null where nothing is served: Ollama before 0.1.39, and other servers written in Go.
        reply = parse(body, "the answer")
        name, listing = ("name", "models") if api == "ollama" else ("id", "data")
        if listing not in reply.mapping("").value:
            reply.wrong("a mapping with '%s' expected" % listing)
        return [item.text(name) for item in reply.items(listing, ())]
    except Failure as exc:
        hint = "Another program or another API listens there: check the port in url, and api."
        text = one_line(body.decode("utf-8", "replace"), 80)
        raise EngineFailure(f"{what}not a list of models: {text} ({exc})", hint) from None


def chat_request(
    api: str,
    model: str,
    question: str,
    system: Optional[str],
    max_tokens: Optional[int],
    temperature: Optional[float],
    keep_alive_s: Optional[int] = None,
) -> Dict[str, Any]:
    """The body of a streamed chat request. What is None is left to the engine's own default."""
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": question})
    body: Dict[str, Any] = {"model": model, "messages": messages, "stream": True}
    limit = "num_predict" if api == "ollama" else "max_tokens"
    options = {limit: max_tokens, "temperature": temperature}
    options = {name: value for name, value in options.items() if value is not None}
    if api == "ollama":
        return dict(body, options=options, **({} if keep_alive_s is None else {"keep_alive": keep_alive_s}))
    return dict(body, stream_options={"include_usage": True}, **options)


def ask(
    endpoint: Endpoint,
    api: str,
    question: str,
    timeout: float,
    model: Optional[str] = None,
    system: Optional[str] = None,
    max_tokens: Optional[int] = None,
    temperature: Optional[float] = None,
    tags: str = "auto",
    keep_alive_s: Optional[int] = None,
) -> Dict[str, Any]:
    """Ask and return `Answer.result()`. `timeout` in s is for everything, a stream that stalls included.

    `tags`: how the model marks its thinking (`thinking.TAGS`). `keep_alive_s`: how long Ollama keeps the model after
    this request, -1 for ever; None for its own default.

    Raises EngineFailure; its `result` holds what had arrived.
    """
    deadline = time.monotonic() + timeout
    if model is None:
        models = list_models(endpoint, api, timeout)
        if not models:
            raise EngineFailure(f"{endpoint.url} serves no model", "Load a model, or give model.")
        model = models[0]
    exchange = _Exchange(
        endpoint,
        "POST",
        CHAT_PATHS[api],
        chat_request(api, model, question, system, max_tokens, temperature, keep_alive_s),
        deadline,
    )
    answer = Answer(exchange.started, tags)
    try:
        if not exchange.streams():
            raise _refused(endpoint, api, model, exchange)
        lines = lines_of(exchange.chunks())
        if api == "ollama":
            for line in lines:
                if line:
                    answer.ollama(line, time.monotonic())
        else:
            for data in sse_data(lines):
                answer.openai(data, time.monotonic())
        answer.check_complete()
    except StreamError as exc:
        result = dict(answer.result(), model=answer.model or model)
        raise EngineFailure(f"{exchange.what}: {exc}", "The engine's log says more.", False, result) from exc
    except EngineFailure as exc:
        result = dict(answer.result(), model=answer.model or model)
        if time.monotonic() < deadline:
            raise EngineFailure(str(exc), exc.hint, False, result) from exc
        so_far = len(answer.content + answer.reasoning)
        msg = f"{exchange.what}: the answer was not complete within {timeout:.0f} s ({so_far} characters so far)"
        hint = "Raise answer_timeout or lower max_tokens."
        raise EngineFailure(msg, hint, False, result) from exc
    finally:
        exchange.close()
    return dict(answer.result(), model=answer.model or model)


def _refused(endpoint: Endpoint, api: str, model: str, exchange: _Exchange) -> EngineFailure:
    body = b"".join(exchange.chunks())
    if exchange.status == 200:
        if is_html(exchange.content_type, body):
            text, hint = "a web page, not an engine", "Another program listens there: check the port in url."
        else:
            start = one_line(body.decode("utf-8", "replace"), 120)
            text = f"not a stream but {exchange.content_type}: {start}"
            hint = f"Check api: the server does not stream {api} answers."
        return EngineFailure(f"{exchange.what}: {text}", hint)
    text, hint, _retry = explain_status(exchange.status, exchange.content_type, body, bool(endpoint.headers))
    if exchange.status == 404 and not is_html(exchange.content_type, body):
        try:
            served = ", ".join(list_models(endpoint, api)) or "none"
            hint = f"Asked for model '{model}'; served there: {served}."
        except EngineFailure:
            pass  # then the first hint, about the port, is the better one
    return EngineFailure(f"{exchange.what}: {text}", hint)


def judge(result: Dict[str, Any], expect: Optional[str] = None) -> Optional[Tuple[str, str]]:
    """None when the answer is good, else (what is wrong, hint). `expect` is a regex searched in the answer."""
    cut = result["finish_reason"] == "length"
    more = "The answer was cut at max_tokens: raise it." if cut else ""
    if not result["answer"] and result["reasoning"]:
        msg = f"the model reasoned ({len(result['reasoning'])} characters) but gave no answer"
        return msg, more or "Raise max_tokens, so that the reasoning can end."
    if not result["answer"]:
        return "the answer is empty", more or "Check the chat template and the model's files."
    if expect is not None and not re.search(expect, result["answer"]):
        msg = f"the answer does not match /{expect}/: {one_line(result['answer'], 120)}"
        return msg, more or "Check that the right model is served and whole, or correct expect."
    return None
