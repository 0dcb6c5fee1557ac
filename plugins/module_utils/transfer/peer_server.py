# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Give verified files to the other hosts of a run, as long as the run lasts.

Read only. A file is named by its hash: there are no paths, and nothing can be asked for but what was offered. Who does
not know the run's token is told nothing.

    GET /status?state=S     what this host has; S is what the one who asks is: busy, done, over
    GET /file/<hash>        the file, or a Range of it; 503 when enough others are being served
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
KEPT = 0.3  # s that a slot is kept for the next range of the same file
SILENT = 30.0  # s that a connection may say nothing
MOST_CONNECTIONS = 256
BLOCK = 1024 * 1024
NAME = "X-Dsdeploy-Peer"
STATES = ("busy", "done", "over")


class Offered:
    """The files that are offered, and the slots.

    :ivar files: hash to ``(path, size)``.
    """

    def __init__(self, slots=SLOTS, clock=time.monotonic):
        self.files = {}
        self._slots, self._clock = slots, clock
        self._lock = threading.Lock()
        self._sent = {}  # (peer, hash) to [answers under way, time of the last end]
        self.bytes = 0

    def offer(self, key, path, size):
        with self._lock:
            self.files = dict(self.files, **{key: (path, size)})

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
            return sum(1 for state in self._sent.values() if state[0])


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
        else:
            self._refuse(404)

    def _head(self, status, kind, length, more=()):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        for name, value in more:
            self.send_header(name, value)
        self.end_headers()

    def _refuse(self, status):
        self.close_connection = True
        self._head(status, "text/plain", 0, [("Connection", "close")])

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
                while start < end and not self.server.closing:
                    count = self.connection.sendfile(handle, start, min(BLOCK, end - start))
                    if not count:
                        break
                    start, sent = start + count, sent + count
                self.close_connection = self.close_connection or start < end
        except OSError:
            self.close_connection = True  # whoever asked is gone, or the file is
        finally:
            offered.end(peer, key, sent)

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
        super().process_request(request, client_address)

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request, client_address):
        pass  # a connection that broke off; whoever asked notices it himself
