# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ollama's HTTP API with the standard library only, uploads of any size among it.

The proxy variables of the environment are not used: an engine is asked where it listens.
"""

from __future__ import annotations

import http.client
import json
import os
from typing import Any, Callable, Dict, Iterator, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.chat import Endpoint, EngineFailure, explain
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.stream import (
    StreamError,
    lines_of,
    parse_object,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import bounded
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import Foreign, error_text, loads, one_line

SLICE = 16 * 1024 * 1024  # of an upload, between two reports
MAX_BODY = 64 * 1024 * 1024


def _failure(msg: str, hint: str = "", status: Optional[int] = None, retry: bool = False) -> EngineFailure:
    return EngineFailure(msg, hint or "Ollama's log says more.", retry, None, status, "preflight")


class Api:
    """A server. `url` as for `Endpoint`, which raises ValueError; `timeout` in s without a byte of an answer."""

    def __init__(self, url: str, timeout: float = 60) -> None:
        self.endpoint = Endpoint(url)
        self.timeout = timeout

    # --- requests ---

    def version(self) -> str:
        return str(self._json("GET", "/api/version").get("version") or "")

    def tags(self) -> List[Dict[str, Any]]:
        return self._models("/api/tags")

    def ps(self) -> List[Dict[str, Any]]:
        return self._models("/api/ps")

    def _models(self, path: str) -> List[Dict[str, Any]]:
        """The models that it lists; null is none."""
        answer = Foreign(self._json("GET", path), "GET %s" % path)
        try:
            listed = list(answer.items("models", ()))
            for item in listed:
                item.text("name")
        except Failure as error:
            raise _failure(str(error), "Another program may listen at %s." % self.endpoint.url) from None
        return [item.value for item in listed]

    def show(self, name: str) -> Optional[Dict[str, Any]]:
        """What the server has of a model; None: nothing."""
        try:
            return self._json("POST", "/api/show", {"model": name})
        except EngineFailure as error:
            if error.status == 404:
                return None
            raise

    def delete(self, name: str) -> None:
        self._json("DELETE", "/api/delete", {"model": name})

    def load(self, name: str, timeout: float) -> None:
        """Load a model, with nothing to answer."""
        self._json("POST", "/api/generate", {"model": name, "stream": False}, timeout)

    def unload(self, name: str) -> None:
        """Unload the runner of the model's weights, whatever the name is that it was loaded by."""
        self._json("POST", "/api/generate", {"model": name, "stream": False, "keep_alive": 0})

    def create(self, request: Dict[str, Any], timeout: float) -> Iterator[Dict[str, Any]]:
        return self._stream("/api/create", request, timeout)

    def pull(self, name: str, timeout: float) -> Iterator[Dict[str, Any]]:
        return self._stream("/api/pull", {"model": name}, timeout)

    def has_blob(self, digest: str) -> bool:
        with self._open("HEAD", "/api/blobs/" + digest) as (_connection, response):
            if response.status in (200, 404):
                return response.status == 200
            raise self._refused("HEAD /api/blobs/" + digest, response)

    def upload(self, path: str, digest: str, report: Callable[[int], object], timeout: float) -> None:
        """Send a file as the blob `digest`; `report(bytes sent)`. The server checks it and keeps all or nothing.

        The kernel copies the bytes: what is sent does not pass through this process.
        """
        what = "POST /api/blobs/" + digest
        size = os.path.getsize(path)
        connection = self._connect(timeout)
        try:
            try:
                connection.putrequest("POST", self.endpoint.prefix + "/api/blobs/" + digest)
                connection.putheader("Content-Type", "application/octet-stream")
                connection.putheader("Content-Length", str(size))
                connection.endheaders()
                with open(path, "rb") as handle:
                    for start in range(0, size, SLICE):
                        connection.sock.sendfile(handle, start, min(SLICE, size - start))
                        report(min(start + SLICE, size))
            except ConnectionError as error:
                # It may have said why before it stopped listening: the disk is full, the digest no digest.
                try:
                    response = connection.getresponse()
                except (OSError, http.client.HTTPException):
                    raise self._failed(what, error) from error
                raise self._refused(what, response) from error
            response = connection.getresponse()
            if response.status not in (200, 201):
                raise self._refused(what, response)
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(what, error) from error
        finally:
            connection.close()

    # --- HTTP ---

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        if self.endpoint.tls:
            return http.client.HTTPSConnection(
                self.endpoint.host, self.endpoint.port, timeout=timeout, context=self.endpoint.tls
            )
        return http.client.HTTPConnection(self.endpoint.host, self.endpoint.port, timeout=timeout)

    def _open(
        self, method: str, path: str, payload: Any = None, timeout: Optional[float] = None, whole: bool = True
    ) -> _Open:
        return _Open(self, method, path, payload, self.timeout if timeout is None else timeout, whole)

    def _json(self, method: str, path: str, payload: Any = None, timeout: Optional[float] = None) -> Dict[str, Any]:
        what = "%s %s" % (method, path)
        with self._open(method, path, payload, timeout) as (_connection, response):
            if response.status != 200:
                raise self._refused(what, response)
            try:
                body = response.read(MAX_BODY)
            except (OSError, http.client.HTTPException) as error:
                raise self._failed(what, error) from error
        if not body.strip():
            return {}
        try:
            return parse_object(body.decode("utf-8", "replace"))
        except StreamError as error:
            raise _failure("%s: %s" % (what, error), "Another program may listen at %s." % self.endpoint.url) from error

    def _stream(self, path: str, payload: Dict[str, Any], timeout: float) -> Iterator[Dict[str, Any]]:
        """The objects of a streamed answer. An error in it, or its end without success, is raised."""
        what = "POST " + path
        last: Dict[str, Any] = {}
        with self._open("POST", path, dict(payload, stream=True), timeout, whole=False) as (_connection, response):
            if response.status != 200:
                raise self._refused(what, response)
            try:
                for line in lines_of(iter(lambda: response.read1(65536), b"")):
                    if line:
                        last = parse_object(line)
                        yield last
            except StreamError as error:
                raise _failure("%s: %s" % (what, error)) from error
            except (OSError, http.client.HTTPException) as error:
                raise self._failed(what, error) from error
        if last.get("status") != "success":
            raise _failure("%s: the server stopped without saying success" % what)

    def _refused(self, what: str, response: http.client.HTTPResponse) -> EngineFailure:
        body = response.read(MAX_BODY).decode("utf-8", "replace")
        try:
            text = error_text(loads(body))
        except ValueError:
            text = one_line(body, 200)
        message = "%s: HTTP %d%s" % (what, response.status, ": " + text if text else "")
        hint = "Free space for its models (OLLAMA_MODELS)." if "no space left" in text else ""
        return _failure(message, hint, response.status)

    def _failed(self, what: str, error: Exception) -> EngineFailure:
        text, hint, retry = explain(error, self.endpoint.url.partition(":")[0])
        return _failure("%s at %s: %s" % (what, self.endpoint.url, text), hint, None, retry)


class _Open:
    """One request and its answer, closed at the end.

    :param timeout: s until the head of the answer is there, and with `whole` all of it; a stream goes on as long as
        there are bytes.
    """

    def __init__(self, api: Api, method: str, path: str, payload: Any, timeout: float, whole: bool) -> None:
        self.api, self.method, self.path, self.payload = api, method, path, payload
        self.connection = api._connect(timeout)
        self._timeout, self._whole, self._left = timeout, whole, bounded.within(timeout)
        bounded.bound(self.connection, self._seconds_left)

    def _seconds_left(self) -> float:
        return self._left()

    def __enter__(self) -> Any:
        body = None if self.payload is None else json.dumps(self.payload).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            self.connection.request(self.method, self.api.endpoint.prefix + self.path, body, headers)
            response = self.connection.getresponse()
            if not self._whole:
                self._left = lambda: self._timeout
            return self.connection, response
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            raise self.api._failed("%s %s" % (self.method, self.path), error) from error

    def __exit__(self, *_exc: object) -> None:
        self.connection.close()
