# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`ollama serve`: its start, and HTTP."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standin_ollama import VERSION, go
from standin_ollama.api import Routes
from standin_ollama.scheduler import Scheduler, Settings
from standin_ollama.store import Refused, Store

SCHEMES = ("http://", "https://", "chrome-extension://", "safari-extension://", "moz-extension://",
           "ms-browser-extension://")  # fmt: skip
CLOUD = "https://ollama.com:443"
PLAIN = {404: b"404 page not found", 405: b"405 method not allowed"}
SMALL = 2048  # bytes of an answer that net/http sends with its length


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, settings, address):
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, Handler)
        self.settings = settings
        self.store = Store(settings.models)
        self.scheduler = Scheduler(settings)

    def handle_error(self, request, client_address):
        pass  # the client has gone

    def cloud(self, path, body=None):
        """Ask Ollama's cloud: (status, body). Without STANDIN_OLLAMA_CLOUD it is only written down."""
        base = self.settings.text("STANDIN_OLLAMA_CLOUD")
        print(f'msg="cloud request" url={base or CLOUD}{path}', flush=True)
        if not base:
            raise Refused(502, f'Post "{CLOUD}{path}": dial tcp: lookup ollama.com: no such host')
        try:
            with urllib.request.urlopen(urllib.request.Request(base + path, body), timeout=3) as reply:
                return reply.status, reply.read()
        except OSError as error:
            raise Refused(502, str(error)) from None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, form, *arguments):
        print("[GIN] " + form % arguments, flush=True)

    def route(self):
        self.started = False
        try:
            Routes(self).answer(self.command, self.path.partition("?")[0])
        except Refused as error:
            if self.started:
                self.chunk({"error": str(error)})
                self.end()
            else:
                self.send({"error": str(error)}, error.status)
        except OSError as error:
            if not isinstance(error, ConnectionError):
                self.send({"error": f"open {error.filename}: {(error.strerror or '').lower()}"}, 500)

    do_GET = do_POST = do_DELETE = do_HEAD = do_PUT = do_PATCH = route

    def send(self, value, status=200, kind="application/json; charset=utf-8", chunked=False, end=""):
        """An answer at once; None: without a body."""
        body = b"" if value is None else value if isinstance(value, bytes) else (go.dumps(value) + end).encode()
        chunked = chunked or len(body) > SMALL
        self.send_response(status)
        if value is not None:
            self.send_header("Content-Type", kind)
        if chunked and self.command != "HEAD":
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body)

    def plain(self, status):
        self.send(PLAIN[status], status, "text/plain")

    def chunk(self, value):
        """A line of a streamed answer."""
        if not self.started:
            self.started = True
            self.send_response(200)
            self.send_header("Content-Type", "application/x-ndjson")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
        line = go.dumps(value).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()

    def end(self):
        self.wfile.write(b"0\r\n\r\n")


# --- its start -----------------------------------------------------------------------------------------------------


def address_of(text):
    """(host, port) of OLLAMA_HOST."""
    text = re.sub(r"^[a-z]+://", "", text).partition("/")[0]
    found = re.match(r"(?:\[(.*)\]|([^:]*)):(\d+)\Z", text)
    if found:
        return found[1] or found[2] or "0.0.0.0", int(found[3])
    return text.strip("[]") or "127.0.0.1", 11434


def check_origins(text):
    """gin's cors panics."""
    for origin in filter(None, text.split(",")):
        if "*" not in origin and not origin.startswith(SCHEMES):
            panic("bad origin: origins must contain '*' or include " + ",".join(SCHEMES))
        if origin.count("*") > 1:
            panic("only one * is allowed")


def panic(text):
    print(f"panic: {text}\n\ngoroutine 1 [running]:", file=sys.stderr)
    sys.stderr.flush()
    sys.stdout.flush()
    os._exit(2)


def make_keys(home):
    directory = os.path.join(home, ".ollama")
    path = os.path.join(directory, "id_ed25519")
    if os.path.exists(path):
        return
    print(f"Couldn't find '{path}'. Generating new private key.", flush=True)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    for name, mode in ((path, 0o600), (path + ".pub", 0o644)):
        with open(os.open(name, os.O_WRONLY | os.O_CREAT, mode), "w", encoding="ascii") as handle:
            handle.write(f"stand-in {secrets.token_hex(16)}\n")


def serve(environment):
    """Raises OSError, with which the program ends."""
    settings = Settings(environment)
    if settings.text("STANDIN_OLLAMA_CRASH"):
        sys.exit(f"Error: {settings.text('STANDIN_OLLAMA_CRASH')}")
    make_keys(settings.home)
    server = Server(settings, address_of(settings.text("OLLAMA_HOST")))
    shown = sorted(name for name in environment if name.startswith("OLLAMA_"))
    print("server config", *(f"{name}={environment[name]}" for name in shown), flush=True)
    print(f"Ollama cloud disabled: {str(settings.on('OLLAMA_NO_CLOUD')).lower()}", flush=True)
    server.store.open(prune=not settings.on("OLLAMA_NOPRUNE"))
    check_origins(settings.text("OLLAMA_ORIGINS"))

    def stop(*_signal):
        server.scheduler.end()
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if not settings.on("OLLAMA_NO_CLOUD"):
        threading.Thread(target=_recommendations, args=(server,), daemon=True).start()
    print(f"Listening on {server.server_address[0]}:{server.server_port} (version {VERSION})", flush=True)
    server.serve_forever()


def _recommendations(server):
    try:
        server.cloud("/api/experimental/model-recommendations")
    except Refused as error:
        print(f'level=WARN msg="model recommendations" error="{error}"', flush=True)
