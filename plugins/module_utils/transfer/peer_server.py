# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Give verified files to the other hosts of a run, as long as the run lasts.

Read only. A file is named by its hash: there are no paths, and nothing can be asked for but what was offered. Who does
not know the run's token is told nothing.

    GET /status?state=S     what this host has; S is what the one who asks is: busy, done, over
    GET /file/<hash>        the file, or a Range of it; 503 when enough others are being served
    GET /piece/<hash>       a Range of it, also while the file is still growing here: what of it is there, unverified
"""

from __future__ import annotations

import hmac
import json
import os
import re
import socket
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOTS = 2  # files that are sent at the same time: whole files early are worth more than many halves
PIECES = 8  # pieces that are sent at the same time
KEPT = 0.3  # s that a slot is kept for the next range of the same file
SILENT = 30.0  # s that a connection may say nothing
MOST_CONNECTIONS = 512
BLOCK = 1024 * 1024
NAME = "X-Dsdeploy-Peer"
STATES = ("busy", "done", "over")


class Offered:
    """The files that are offered, and the slots.

    :ivar files: hash to ``(path, size)``.
    :ivar parts: hash to ``(descriptor, PartFile)`` of files that grow.
    """

    def __init__(self, slots=SLOTS, clock=time.monotonic):
        self.files, self.parts = {}, {}
        self._pieces = 0
        self._slots, self._clock = slots, clock
        self._lock = threading.Lock()
        self._sent = {}  # (peer, hash) to [answers under way, time of the last end]
        self.bytes = 0

    def offer(self, key, path, size):
        with self._lock:
            self.files = dict(self.files, **{key: (path, size)})
        self.withdraw(key)

    def grow(self, key, part):
        """Give what is there of a file that is being made, until it is offered or withdrawn."""
        self.withdraw(key)
        with self._lock:
            # A descriptor of its own: the file's is closed, and its number taken by another, without a word to here.
            self.parts[key] = (os.dup(part.fd), part)

    def withdraw(self, key):
        with self._lock:
            found = self.parts.pop(key, None)
            if found:
                os.close(found[0])

    def growing(self, unit_of):
        """Hash to the pieces that are there, as bits.

        :param unit_of: gives the chunks of a piece for the bytes of a file.
        """
        with self._lock:
            parts = list(self.parts.items())
        return {key: part.there(unit_of(part.size)) for key, (_descriptor, part) in parts}

    def open_piece(self, key, start, end):
        """An open file that has these bytes, verified or not; None where there is none."""
        with self._lock:
            if key in self.files:
                path, size = self.files[key]
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            elif key in self.parts and self.parts[key][1].has(start, end):
                descriptor, size = os.dup(self.parts[key][0]), self.parts[key][1].size
            else:
                return None
        handle = os.fdopen(descriptor, "rb")
        if os.fstat(descriptor).st_size != size:
            handle.close()
            return None
        return handle

    def size(self, key):
        with self._lock:
            if key in self.files:
                return self.files[key][1]
            return self.parts[key][1].size if key in self.parts else None

    def begin_piece(self):
        with self._lock:
            if self._pieces >= PIECES:
                return False
            self._pieces += 1
            return True

    def end_piece(self, count):
        with self._lock:
            self._pieces -= 1
            self.bytes += count

    def begin(self, peer, key):
        """Whether a peer may have (a range of) a file now; `end` has to follow."""
        with self._lock:
            now = self._clock()
            self._sent = {pair: state for pair, state in self._sent.items() if state[0] or now - state[1] < KEPT}
            if (peer, key) not in self._sent and len(self._sent) >= self._slots:
                return False
            self._sent.setdefault((peer, key), [0, now])[0] += 1
            return True

    def end(self, peer, key, count):
        with self._lock:
            state = self._sent[peer, key]
            state[0] -= 1
            state[1] = self._clock()
            self.bytes += count

    def load(self):
        with self._lock:
            return self._pieces + sum(1 for state in self._sent.values() if state[0])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "dsdeploy", ""
    timeout = SILENT

    def log_message(self, *_arguments):
        pass

    def do_GET(self):
        said = (self.headers.get("Authorization") or "").encode("utf-8", "replace")
        if not hmac.compare_digest(said, b"Bearer " + self.server.token):
            self._refuse(403)
            return
        parts = urllib.parse.urlsplit(self.path)
        peer = self.headers.get(NAME) or ""
        if parts.path == "/status":
            state = dict(urllib.parse.parse_qsl(parts.query)).get("state")
            self.server.heard(peer, state if state in STATES else "busy")
            body = json.dumps(self.server.status()).encode()
            self._head(200, "application/json", len(body))
            self.wfile.write(body)
        elif parts.path.startswith("/file/"):
            self._file(peer, parts.path[len("/file/") :])
        elif parts.path.startswith("/piece/"):
            self._piece(parts.path[len("/piece/") :])
        else:
            self._refuse(404)

    def _head(self, status, kind, length, more=()):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        for name, value in more:
            self.send_header(name, value)
        self.end_headers()

    def _refuse(self, status, more=(("Connection", "close"),)):
        self.close_connection = self.close_connection or bool(more)
        self._head(status, "text/plain", 0, more)

    def _file(self, peer, key):
        offered = self.server.offered
        if key not in offered.files:
            self._refuse(404)
            return
        if not offered.begin(peer, key):
            self._refuse(503)
            return
        sent = 0
        try:
            path, size = offered.files[key]
            start, end = self._range(size)
            if start is None:
                self._refuse(416)
                return
            handle = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb")
            with handle:
                if os.fstat(handle.fileno()).st_size != size:
                    self._refuse(404)
                    return
                more = [("Content-Range", "bytes %d-%d/%d" % (start, end - 1, size))] if self.headers["Range"] else []
                self._head(206 if more else 200, "application/octet-stream", end - start, more)
                sent = self._send(handle, start, end)
        except OSError:
            self.close_connection = True  # whoever asked is gone, or the file is
        finally:
            offered.end(peer, key, sent)

    def _send(self, handle, start, end):
        """Bytes that were sent; the connection is closed where those are not all."""
        position = start
        while position < end and not self.server.closing:
            count = self.connection.sendfile(handle, position, min(BLOCK, end - position))
            if not count:
                break
            position += count
        self.close_connection = self.close_connection or position < end
        return position - start

    def _piece(self, key):
        offered = self.server.offered
        size = offered.size(key)
        start, end = self._range(size) if size else (None, None)
        if start is None or not self.headers["Range"]:
            self._refuse(416 if size else 404, ())
            return
        if not offered.begin_piece():
            self._refuse(503, ())
            return
        sent = 0
        try:
            handle = offered.open_piece(key, start, end)
            if handle is None:
                self._refuse(404, ())
                return
            with handle:
                more = [("Content-Range", "bytes %d-%d/%d" % (start, end - 1, size))]
                self._head(206, "application/octet-stream", end - start, more)
                sent = self._send(handle, start, end)
        except OSError:
            self.close_connection = True
        finally:
            offered.end_piece(sent)

    def _range(self, size):
        """``(start, end)`` of what is asked for; Nones where there is no such range."""
        asked = self.headers["Range"]
        if not asked:
            return 0, size
        match = re.match(r"bytes=([0-9]{1,18})-([0-9]{1,18})$", asked)
        if not match or not int(match.group(1)) <= int(match.group(2)) < size:
            return None, None
        return int(match.group(1)), int(match.group(2)) + 1


class PeerServer(ThreadingHTTPServer):
    """Serves `Offered` on one address. OSError where that cannot be taken.

    :param status: gives what ``/status`` answers. `heard`: called with the name and state of who asks.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, port, token, offered, status, heard):
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.token, self.offered, self.status, self.heard = token.encode(), offered, status, heard
        self.closing = False
        self._room = threading.Semaphore(MOST_CONNECTIONS)
        super().__init__((address, port), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True)

    def server_bind(self):
        # Not HTTPServer's: it asks a name server for the name of the address.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]

    def start(self):
        self._thread.start()

    def stop(self):
        self.closing = True
        self.shutdown()
        self.server_close()

    def process_request(self, request, client_address):
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread for it: its room is free again
            self._room.release()
            raise

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request, client_address):
        pass  # a connection that broke off; whoever asked notices it himself
