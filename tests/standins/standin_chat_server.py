# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-in for a chat server: speaks the real wire formats of llama.cpp, vLLM and Ollama, and their faults on demand.

The bodies follow what the real servers send: llama.cpp b11549 (recorded), vLLM 0.7 to 0.32 and Ollama's docs/api.md.
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NGINX_404 = b"<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>nginx</body>\r\n</html>\r\n"
WELCOME = b"<!DOCTYPE html><html><head><title>Welcome to nginx!</title></head><body></body></html>"


class StandinChatServer:
    """`with StandinChatServer(engine="vllm", deltas=[...]) as server: server.url`. Set its attributes at any time.

    deltas: list of (field, text), field being content or reasoning; one streamed chunk each.
    fault: None, or one of: html, garbage, redirect, hang, error_in_stream, malformed, no_choices, cut, cut_line,
    reset, stall, not_a_stream, overloaded, bad_models.
    """

    def __init__(self, engine="vllm", deltas=(("content", "杚"),), tls=None, **settings):
        self.engine = engine  # llama.cpp, vllm or ollama
        self.deltas = list(deltas)
        self.models = ["deepseek-r1"]
        self.api_key = None
        self.loading_replies = 0  # this many 503 before the model is loaded
        self.reasoning_field = "reasoning_content"
        self.chunk_bytes = None  # cut the stream into TCP writes of this size
        self.delay = 0.0  # s between two chunks
        self.usage = True
        self.close = False  # HTTP/1.0 manners: no chunks, the end of the connection is the end of the body
        self.finish_reason = "stop"
        self.fault = None
        self.requests = []  # (method, path, headers, JSON body)
        for name, value in settings.items():
            if not hasattr(self, name):
                raise TypeError(f"no such setting: {name}")
            setattr(self, name, value)
        self.stopping = threading.Event()
        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"standin": self}))
        self.httpd.daemon_threads = True
        if tls:
            self.httpd.socket = tls.wrap_socket(self.httpd.socket, server_side=True)
        self.port = self.httpd.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self):
        threading.Thread(target=self.httpd.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_exc):
        self.stopping.set()
        self.httpd.shutdown()
        self.httpd.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args):
        pass

    def handle(self):
        try:
            super().handle()
        except (ConnectionError, OSError):
            pass  # the client has gone, or never spoke TLS

    def do_GET(self):
        self.route(None)

    def do_POST(self):
        self.route(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    # --- replies

    def reply(self, status, body, content_type="application/json", **headers):
        data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def error(self, status, message, kind):
        """An error body as this engine writes it."""
        if self.standin.engine == "ollama":
            self.reply(status, {"error": message})
        elif self.standin.engine == "vllm" and status == 404:  # vLLM before 0.10
            body = {"object": "error", "message": message, "type": kind, "param": None, "code": status}
            self.reply(status, body)
        else:
            self.reply(status, {"error": {"message": message, "type": kind, "code": status}})

    def route(self, body):
        standin, path = self.standin, self.path
        standin.requests.append((self.command, path, dict(self.headers), body))
        chat = "/api/chat" if standin.engine == "ollama" else "/v1/chat/completions"
        health = "/api/version" if standin.engine == "ollama" else "/health"
        models = "/api/tags" if standin.engine == "ollama" else "/v1/models"
        if standin.fault == "garbage":
            self.wfile.write(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
            self.close_connection = True
        elif standin.fault == "html":
            self.reply(200, WELCOME, "text/html")
        elif standin.fault == "redirect":
            self.reply(308, b"", "text/plain", Location="https://elsewhere.example/")
        elif standin.fault == "hang":
            standin.stopping.wait(30)
            self.close_connection = True
        elif standin.loading_replies > 0:
            standin.loading_replies -= 1
            self.error(503, "Loading model", "unavailable_error")
        elif standin.api_key and path != health and self.headers["Authorization"] != "Bearer " + standin.api_key:
            # OpenAI's own words repeat the key; a probe must not.
            self.error(401, f"Incorrect API key provided: {self.headers['Authorization']}", "authentication_error")
        elif path == health:
            if standin.engine == "vllm":
                self.reply(200, b"", "text/plain")
            else:
                self.reply(200, {"version": "0.17.1"} if standin.engine == "ollama" else {"status": "ok"})
        elif path == models and standin.fault == "bad_models":
            self.reply(200, {"hello": "world"})
        elif path == models and standin.engine == "ollama":
            self.reply(200, {"models": [{"name": name, "model": name} for name in standin.models]})
        elif path == models:
            self.reply(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in standin.models]})
        elif path == chat and self.command == "POST":
            self.chat(body)
        else:
            self.reply(404, NGINX_404, "text/html")

    def chat(self, body):
        standin = self.standin
        if body["model"] not in standin.models and standin.engine != "llama.cpp":  # llama.cpp takes any name
            name = body["model"]
            if standin.engine == "ollama":
                self.error(404, f"model '{name}' not found", "")
            else:
                self.error(404, f"The model `{name}` does not exist.", "NotFoundError")
        elif standin.fault == "overloaded":
            self.error(500, "CUDA out of memory", "InternalServerError")
        elif standin.fault == "not_a_stream":
            self.reply(200, {"choices": [{"message": {"role": "assistant", "content": "杚"}}]})
        else:
            self.stream(self.ollama_events(body) if standin.engine == "ollama" else self.openai_events(body))

    # --- the stream

    def openai_events(self, body):
        standin = self.standin

        def event(delta, finish=None, **more):
            choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
            chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": body["model"], "choices": choices}
            return f"data: {json.dumps(dict(chunk, **more), ensure_ascii=False)}\n\n"

        yield event({"role": "assistant", "content": None if standin.engine == "llama.cpp" else ""})
        yield ": keep-alive\n\n"
        for field, text in standin.deltas:
            yield event({standin.reasoning_field if field == "reasoning" else "content": text})
        if standin.fault == "error_in_stream":
            yield 'data: {"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}}\n\n'
        yield event({}, standin.finish_reason)
        if standin.usage and body.get("stream_options", {}).get("include_usage"):
            count = len(standin.deltas)
            usage = {"prompt_tokens": 7, "completion_tokens": count, "total_tokens": 7 + count}
            timings = {"predicted_n": count, "predicted_ms": 20.0 * count, "predicted_per_second": 50.0}
            yield event(None, usage=usage, **({"timings": timings} if standin.engine == "llama.cpp" else {}))
        yield "data: [DONE]\n\n"

    def ollama_events(self, body):
        standin = self.standin

        def event(message, **more):
            line = dict({"model": body["model"], "created_at": "2026-11-23T19:22:13.1Z", "message": message}, **more)
            return json.dumps(line, ensure_ascii=False) + "\n"

        for field, text in standin.deltas:
            if field == "reasoning":
                yield event({"role": "assistant", "content": "", "thinking": text}, done=False)
            else:
                yield event({"role": "assistant", "content": text}, done=False)
        if standin.fault == "error_in_stream":
            yield '{"error":"an error was encountered while running the model: CUDA error"}\n'
        count = len(standin.deltas)
        figures = {"prompt_eval_count": 9, "eval_count": count, "eval_duration": 25_000_000 * count}
        yield event(
            {"role": "assistant", "content": ""},
            done=True,
            done_reason=standin.finish_reason,
            **(figures if standin.usage else {}),
        )

    def stream(self, events):
        standin = self.standin
        self.send_response(200)
        kind = "application/x-ndjson" if standin.engine == "ollama" else "text/event-stream; charset=utf-8"
        self.send_header("Content-Type", kind)
        if standin.close:
            self.send_header("Connection", "close")
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        sent = 0
        for event in events:
            data = event.encode()
            is_text = '"content": "' in event and '"content": ""' not in event
            if is_text and sent == 1:  # a fault strikes at the second token
                if standin.fault == "malformed":
                    data = b'data: {"choices": [{"del\n\n' if standin.engine != "ollama" else b'{"model": \n'
                elif standin.fault == "no_choices":
                    data = b'data: {"hello": 1}\n\n' if standin.engine != "ollama" else b'{"hello": 1}\n'
                elif standin.fault == "stall":
                    standin.stopping.wait(30)
                    return self.hang_up()
                elif standin.fault in ("cut", "reset"):
                    # cut: the body ends in good order. reset: the engine's process died.
                    return self.end_body() if standin.fault == "cut" else self.hang_up()
                elif standin.fault == "cut_line":
                    self.write_piece(data[: len(data) // 2])
                    return self.end_body()
            sent += is_text
            size = standin.chunk_bytes or len(data)
            for start in range(0, len(data), size):
                self.write_piece(data[start : start + size])
            time.sleep(standin.delay)
        self.end_body()

    def write_piece(self, data):
        self.wfile.write(data if self.standin.close else b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def end_body(self):
        if self.standin.close:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def hang_up(self):
        self.close_connection = True
