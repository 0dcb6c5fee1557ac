#!/usr/bin/env python3
"""Stand-in for an engine over two hosts, at its worst: once started, no rank notices that the other is gone, as SGLang
and NCCL do not for minutes. Usage: standin_rank.py RANK HEAD PORT API_PORT

The second rank holds one connection to the first, made once. Of the first, /health answers once the second is there,
and /ask answers "START-OF-FIRST START-OF-SECOND": it asks the second over that connection, and waits for ever where
nothing comes.
"""

import socket
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RANK, HEAD, PORT, API = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
START = uuid.uuid4().hex[:8]


def second():
    while True:
        try:
            channel = socket.create_connection((HEAD, PORT), 5)
            break
        except OSError:
            time.sleep(0.2)
    channel.settimeout(None)
    while True:
        try:
            if channel.recv(1):
                channel.sendall(START.encode())
                continue
        except OSError:
            pass
        time.sleep(3600)  # the first is gone, and this one does not see it


class Handler(BaseHTTPRequestHandler):
    other = None
    lock = threading.Lock()

    def do_GET(self):
        if not Handler.other:
            self.send_error(503)
            return
        body = b""
        if self.path == "/ask":
            with Handler.lock:
                try:
                    Handler.other.sendall(b"?")
                    found = Handler.other.recv(8, socket.MSG_WAITALL)
                except OSError:
                    found = b""
                if not found:
                    time.sleep(3600)
            body = f"{START} {found.decode()}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


def first():
    server = socket.create_server((HEAD, PORT))

    def accept():
        Handler.other, _address = server.accept()

    threading.Thread(target=accept, daemon=True).start()
    ThreadingHTTPServer(("127.0.0.1", API), Handler).serve_forever()


first() if RANK == 0 else second()
