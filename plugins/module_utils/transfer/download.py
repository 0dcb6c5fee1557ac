# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Download large files from one server over many connections, each file checked as it grows.

Threads fetch byte ranges of the files that are open; a chunk that is there is noted in the file's journal
(`chunk_journal`), so that a run that was killed loses at most the chunks in flight: fewer bytes than one `BLOCK` per
open file. A hash runs behind the downloaded front, so that a file is verified soon after its last byte came.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from typing import NamedTuple, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.chunk_journal import CHUNK, PartFile
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.http_client import (
    COMPRESSED_HINT,
    HttpError,
    back_off,
    compressed,
    is_passing,
    origin,
    shown,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.impostor import impostor

BLOCK = 16 * CHUNK  # most bytes that a killed run fetches again, per open file: one chunk for each connection
MOST_CONNECTIONS = BLOCK // CHUNK
SEGMENT = 32 * CHUNK  # longest range of one request
READ = 256 * 1024
SYNC_EVERY = 5.0  # seconds between making chunks durable


class WrongFile(Failure):
    """A file that came whole, and is another one than was asked for."""


class Remote(NamedTuple):
    """One file of a server: where it is, and what it must be."""

    path: str  # below the model's directory
    size: int
    url: str
    headers: dict  # for that origin only
    sha256: Optional[str] = None
    git_sha1: Optional[str] = None  # of small files that hubs keep in git


class RateLimit:
    """At most ``rate`` bytes a second over all connections; 0: no limit."""

    def __init__(self, rate, clock=time.monotonic, sleep=time.sleep):
        self.rate = rate
        self._clock, self._sleep = clock, sleep
        self._free_at = clock()
        self._lock = threading.Lock()

    def take(self, count):
        if not self.rate:
            return
        with self._lock:
            now = self._clock()
            # A pause earns at most a tenth of a second's worth.
            self._free_at = max(self._free_at, now - 0.1) + count / float(self.rate)
            wait = self._free_at - now
        if wait > 0:
            self._sleep(wait)


class OpenFile:
    """A file that is open for download."""

    def __init__(self, remote, part):
        self.remote = remote
        self.part = part
        self.pending = part.missing()
        self.active = 0
        self.ranges = True  # False once the server answered with the whole file
        self.url = remote.url  # after redirects
        self.hash = hashlib.sha256()
        self.hashed = 0
        self.hashing = threading.Lock()

    def hash_on(self, most=None):
        """Hash what is there behind the front; only one thread at a time, the others go on."""
        if not self.hashing.acquire(most is None):
            return
        try:
            end = self.part.frontier(self.hashed)
            if most:
                end = min(end, self.hashed + most)
            while self.hashed < end:
                block = os.pread(self.part.fd, min(4 * CHUNK, end - self.hashed), self.hashed)
                self.hash.update(block)
                self.hashed += len(block)
        finally:
            self.hashing.release()


class Downloader:
    """Fetch `Remote` files into ``directory/<path>`` parts.

    :param connections: per file, at most `MOST_CONNECTIONS`.
    :param files_at_once: files that are open at the same time.
    :param limit: bytes per second over all connections, 0 for none; or a `RateLimit` that others have part in.
    :param done: called (from a thread) with ``(remote, part path, sha256)`` for each verified file; moves it away.
    :param report: called about twice a second with ``(bytes there, bytes in all, [paths open])``.
    :param opened: called with ``(remote, PartFile)`` for each file whose download begins.
    """

    def __init__(self, client, directory, done, connections=16, files_at_once=4, limit=0, report=None, opened=None):
        self.client = client
        self.directory = directory
        self.done = done
        self.connections = max(1, min(connections, MOST_CONNECTIONS))
        self.files_at_once = files_at_once
        self.limit = limit if isinstance(limit, RateLimit) else RateLimit(limit)
        self.report, self.opened = report, opened
        self.transferred = 0
        self._lock = threading.Condition()
        self._waiting = []
        self._open = []
        self._finished = 0
        self._error = None

    def run(self, remotes):
        """Fetch all files; raises the first `HttpError` or `Failure` (what came so far is kept)."""
        self._waiting = sorted(remotes, key=lambda remote: -remote.size)
        self._finished = 0
        self._error = None
        total = sum(remote.size for remote in remotes)
        largest = max([remote.size for remote in remotes] or [0])
        count = min(
            self.connections * min(self.files_at_once, len(remotes)),
            max(4, total // (2 * CHUNK)),
            16 + largest // CHUNK,
        )
        threads = [threading.Thread(target=self._work, daemon=True) for _number in range(int(count))]
        for thread in threads:
            thread.start()
        synced = time.monotonic()
        while True:
            alive = [thread for thread in threads if thread.is_alive()]
            if not alive:
                break
            alive[0].join(0.5)
            if self.report:
                self._tell(total)
            if time.monotonic() - synced > SYNC_EVERY:
                self._sync()
                synced = time.monotonic()
        if self._error:
            self._sync()
            for item in self._open:
                item.part.close()
            self._open = []
            raise self._error
        if self.report:
            self._tell(total)

    def stop(self, error):
        """End `run` with an error, soon."""
        with self._lock:
            self._error = self._error or error
            self._lock.notify_all()

    def _tell(self, total):
        with self._lock:
            here = self._finished + sum(item.part.done_bytes() for item in self._open)
            paths = [item.remote.path for item in self._open]
        self.report(here, total, paths)

    def _sync(self):
        with self._lock:
            parts = [item.part for item in self._open]
        for part in parts:
            try:
                part.sync()
            except OSError:
                pass  # finished and closed meanwhile; a real fault shows in the worker's own write or sync

    # --- workers ---

    def _work(self):
        try:
            while True:
                task = self._next()
                if task is None:
                    return
                item, start, end = task
                try:
                    self._fetch(item, start, end)
                finally:
                    with self._lock:
                        item.active -= 1
                        complete = not item.pending and not item.active and item in self._open and not self._error
                        if complete:
                            self._open.remove(item)
                        self._lock.notify_all()
                if complete:
                    self._complete(item)
                else:
                    item.hash_on(SEGMENT)
        except Exception as error:  # whatever it is, the other threads must not wait for this one's range
            self.stop(error)

    def _next(self):
        """The next range to fetch, as ``(file, start, end)``; ``None`` when there is nothing left."""
        with self._lock:
            while not self._error:
                ready = [
                    item
                    for item in self._open
                    if item.pending and item.active < self.connections and (item.ranges or not item.active)
                ]
                if len(self._open) < self.files_at_once and self._waiting:
                    remote = self._waiting.pop(0)
                    ready = [self._open_file(remote)]
                    if ready[0] is None:
                        continue
                if ready:
                    item = min(ready, key=lambda item: item.active)
                    item.active += 1
                    return (item,) + self._cut(item)
                if not self._open and not self._waiting:
                    return None
                self._lock.wait(1.0)
            return None

    def _open_file(self, remote):
        path = os.path.join(self.directory, remote.path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        part = PartFile(path, remote.size, remote.sha256 or remote.git_sha1 or remote.url)
        item = OpenFile(remote, part)
        self._open.append(item)
        if self.opened:
            self.opened(remote, part)
        if not item.pending:
            # All there already (or an empty file): an empty range leads it to its end.
            item.pending = [(remote.size, remote.size)]
        return item

    def _cut(self, item):
        """Take a range off the file's pending ones: long at first, shorter near the end, so that all end together."""
        start, end = item.pending[0]
        left = sum(last - first for first, last in item.pending)
        fair = max(2 * CHUNK, left // (2 * self.connections) // CHUNK * CHUNK)
        stop = min(end, start + (min(SEGMENT, fair) if item.ranges else end - start))
        if stop < end:
            item.pending[0] = (stop, end)
        else:
            item.pending.pop(0)
        return start, stop

    def _fetch(self, item, start, end):
        """Fetch one range to its end, across cut connections and busy servers."""
        position, failures = start, 0
        buffer = memoryview(bytearray(READ))
        while position < end and not self._error:
            before = position
            try:
                position = self._stream(item, position, end, buffer)
            except HttpError as error:
                position = getattr(error, "position", position)
                if error.status in (401, 403, 404, 410) and item.url != item.remote.url:
                    item.url = item.remote.url  # a signed address has expired: ask the hub again
                elif not is_passing(error):
                    raise
                failures = 0 if position > before else failures + 1
                if failures > self.client.retries:
                    raise
                self.client.sleep(back_off(failures, getattr(error, "retry_after", None)))

    def _stream(self, item, start, end, buffer):
        """Read one answer and write it, marking chunks as they fill; returns the position reached.

        An `HttpError` carries the position that it broke off at.
        """
        remote = item.remote
        headers = dict(remote.headers) if origin(item.url) == origin(remote.url) else {}
        headers["Range"] = "bytes=%d-%d" % (start, end - 1)
        position = start
        try:
            with self.client.open(item.url, headers) as response:
                self._check_answer(item, response, start)
                item.url = response.url
                if response.status == 200:
                    self._skip(response, start, buffer)
                first = start // CHUNK * CHUNK
                while position < end:
                    count = response.readinto(buffer[: min(READ, end - position)])
                    if not count:
                        raise HttpError("%s ended at byte %d of %d" % (shown(response.url), position, end))
                    self.limit.take(count)
                    item.part.write(buffer[:count], position)
                    position += count
                    full = position if position == remote.size else position // CHUNK * CHUNK
                    if full > first:
                        item.part.mark(first, full)
                        first = full
                    with self._lock:
                        self.transferred += count
                    if self._error:
                        break
            return position
        except HttpError as error:
            error.position = position
            raise

    def _check_answer(self, item, response, start):
        """Refuse what is not the file: an HTML page, another size."""
        remote = item.remote
        kind = (response.headers.get("Content-Type") or "").lower()
        if kind.startswith("text/html") and not remote.path.endswith((".html", ".htm")):
            raise Failure(["%s answered with an HTML page instead of %s" % (shown(response.url), remote.path)])
        # Servers say so of archives, too, which are meant to be compressed.
        if response.encoding and not remote.path.endswith((".gz", ".tgz", ".xz", ".bz2", ".zst")):
            raise Failure(compressed(response), COMPRESSED_HINT)
        if response.status == 206:
            match = re.match(r"bytes (\d+)-(\d+)/(\d+|\*)$", response.headers.get("Content-Range") or "")
            if not match or int(match.group(1)) != start:
                raise Failure(["%s answered another range than the one asked for" % shown(response.url)])
            size = remote.size if match.group(3) == "*" else int(match.group(3))
        else:
            # A length that is no number is none: what came tells.
            size = remote.size if response.length is None else response.length
            with self._lock:
                item.ranges = False
        if size != remote.size:
            what = impostor(response.read(64)) if response.status == 200 and size < 1024 else None
            line = "%s has %d bytes, expected %d" % (remote.path, size, remote.size)
            raise Failure(["%s: it is %s" % (line, what) if what else line])

    def _skip(self, response, count, buffer):
        """Read past bytes that are there already, from a server that knows no ranges."""
        while count > 0:
            step = response.readinto(buffer[: min(READ, count)])
            if not step:
                raise HttpError("%s ended early" % shown(response.url))
            count -= step

    def _complete(self, item):
        finish(item, self.done)
        with self._lock:
            self._finished += item.remote.size
            self._lock.notify_all()


def finish(item, done):
    """Verify an `OpenFile` whose last byte came, and hand it over; a `WrongFile` is thrown away."""
    remote, part = item.remote, item.part
    item.hash_on()
    found = item.hash.hexdigest()
    wrong = None
    if item.hashed != remote.size:
        wrong = "%d of %d bytes" % (item.hashed, remote.size)
    elif remote.sha256 and found != remote.sha256:
        wrong = "sha256 %s, expected %s" % (found, remote.sha256)
    elif remote.git_sha1 and git_blob_sha1(part.path, remote.size) != remote.git_sha1:
        wrong = "another git object id than the hub names"
    if wrong is None:
        part.sync()
        os.fsync(part.fd)
    part.close()
    if wrong:
        part.discard()
        raise WrongFile(
            ["%s from %s has %s" % (remote.path, shown(item.url), wrong)],
            "the mirror serves another file; use another mirror, or correct the sha256 if the file was replaced",
        )
    done(remote, part.path, found)
    os.unlink(part.path + ".journal")


def git_blob_sha1(path, size):
    """Object id that git gives a file: sha1 of ``blob <size>``, NUL and the content."""
    digest = hashlib.sha1(b"blob %d\0" % size)
    with open(path, "rb") as handle:
        for block in iter(lambda: handle.read(CHUNK), b""):
            digest.update(block)
    return digest.hexdigest()
