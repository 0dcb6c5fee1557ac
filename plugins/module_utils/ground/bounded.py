# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers over HTTP that end in time. http.client bounds each read alone: a head that comes byte by byte never ends."""

from __future__ import annotations

import functools
import http.client
import io
import socket
import time
from typing import Any, Callable, Optional

Note = Callable[[float, int], Any]


class _Raw(io.RawIOBase):
    """The raw bytes of a socket."""

    def __init__(self, sock: Any, left: Callable[[], float], note: Optional[Note]) -> None:
        super().__init__()
        self._sock, self._left, self._note = sock, left, note
        self._inner = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, view: Any) -> Any:
        self._sock.settimeout(self._left())
        started = time.monotonic()
        count = self._inner.readinto(view)
        if self._note:
            self._note(time.monotonic() - started, count or 0)
        return count

    def close(self) -> None:
        self._inner.close()
        super().close()


class _Socket:
    """What `http.client.HTTPResponse` takes for a socket."""

    def __init__(self, sock: Any, left: Callable[[], float], note: Optional[Note]) -> None:
        self._all = (sock, left, note)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Raw(*self._all), 64 * 1024)


def _response(
    left: Callable[[], float], note: Optional[Note], sock: Any, *arguments: Any, **more: Any
) -> http.client.HTTPResponse:
    return http.client.HTTPResponse(_Socket(sock, left, note), *arguments, **more)  # type: ignore[arg-type]


def bound(connection: http.client.HTTPConnection, left: Callable[[], float], note: Optional[Note] = None) -> None:
    """Let every read of the connection's answers take no longer than `left` says, s, which raises when time is over.

    :param note: told of each read: the seconds that it took, and the bytes that it gave.
    """
    connection.response_class = functools.partial(_response, left, note)  # type: ignore[assignment]


def within(seconds: float, what: str = "it was not complete in time") -> Callable[[], float]:
    """For `bound`: so many seconds from now for all of it. Raises TimeoutError (socket.timeout) when they are over."""
    deadline = time.monotonic() + seconds

    def left() -> float:
        found = deadline - time.monotonic()
        if found <= 0:
            raise socket.timeout(what)
        return found

    return left
