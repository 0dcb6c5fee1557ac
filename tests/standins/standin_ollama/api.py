# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The routes of the server."""

from __future__ import annotations

import json
import os
import re
import time

from standin_ollama import VERSION, go
from standin_ollama.models import Model, create, pull
from standin_ollama.store import Name, Refused

REPLY = "I am a stand-in for Ollama : no model computes this ."
CLOUD_SUFFIX = re.compile(r"(.*?)(?::cloud|-cloud)\Z", re.I)


class Routes:
    """One request, answered through its handler."""

    def __init__(self, handler):
        self.handler, self.server = handler, handler.server
        self.store = handler.server.store

    def answer(self, method, path):
        handlers = {
            ("GET", "/"): self.root,
            ("HEAD", "/"): self.root,
            ("GET", "/api/version"): self.version,
            ("HEAD", "/api/version"): self.version,
            ("GET", "/api/tags"): self.tags,
            ("HEAD", "/api/tags"): self.tags,
            ("GET", "/api/ps"): lambda: self.handler.send({"models": self.server.scheduler.ps()}),
            ("GET", "/v1/models"): self.v1_models,
            ("POST", "/api/show"): self.show,
            ("POST", "/api/create"): self.create,
            ("POST", "/api/pull"): self.pull,
            ("POST", "/api/chat"): self.chat,
            ("POST", "/api/generate"): self.generate,
            ("DELETE", "/api/delete"): self.delete,
        }
        blob = re.match(r"/api/blobs/([^/]+)\Z", path)
        if blob and method in ("HEAD", "POST"):
            (self.head_blob if method == "HEAD" else self.post_blob)(blob[1])
        elif (method, path) in handlers:
            handlers[method, path]()
        else:
            self.handler.plain(405 if blob or path in [known for _method, known in handlers] else 404)

    def body(self):
        """The request; fields that nobody knows make no difference."""
        handler = self.handler
        text = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if not text:
            raise Refused(400, "missing request body")
        try:
            request = json.loads(text)
        except ValueError as error:
            cut = getattr(error, "pos", 0) >= len(text.decode("utf-8", "replace").rstrip())
            raise Refused(400, "unexpected EOF" if cut else f"invalid character in JSON: {error}") from None
        if not isinstance(request, dict):
            raise Refused(400, f"json: cannot unmarshal {type(request).__name__} into Go value")
        return request

    def named(self, request, missing=(400, "model is required"), bad="invalid model name"):
        """(the name as it was asked, the name)"""
        text = (request.get("model") or request.get("name") or "").strip()
        if not text:
            raise Refused(*missing)
        name = Name.parse(text)
        if not name:
            raise Refused(400, bad.format(text))
        return text, name

    def found(self, request, **words):
        """(the name as it was asked, the Model)"""
        text, name = self.named(request, **words)
        manifest = self.store.read(self.store.existing(name))
        if not manifest:
            raise Refused(404, f"model '{text}' not found")
        return text, Model(self.store, manifest)

    # --- what there is ---

    def root(self):
        self.handler.send(b"Ollama is running", kind="text/plain; charset=utf-8")

    def version(self):
        self.handler.send({"version": VERSION})

    def _models(self):
        # Of one second in no order.
        return sorted(self.store.all(), key=lambda manifest: -(manifest.changed // 10**9))

    def tags(self):
        models = [
            {
                "name": manifest.name.shortest,
                "model": manifest.name.shortest,
                "modified_at": go.instant(manifest.changed),
                "size": sum(layer["size"] for layer in manifest.all_layers()),
                "digest": manifest.digest,
                "details": Model(self.store, manifest).details(),
            }
            for manifest in self._models()
        ]
        self.handler.send({"models": models})

    def v1_models(self):
        data = [
            {
                "id": manifest.name.shortest,
                "object": "model",
                "created": manifest.changed // 10**9,
                "owned_by": manifest.name.namespace,
            }
            for manifest in self._models()
        ]
        self.handler.send({"object": "list", "data": data or None}, kind="application/json", end="\n")

    def show(self):
        request = self.body()
        _text, model = self.found(request)
        self.handler.send(model.show(bool(request.get("verbose"))))

    # --- blobs ---

    def head_blob(self, digest):
        if not os.path.exists(self.store.blob(digest)):
            raise Refused(404, f'blob "{digest}" not found')
        self.handler.send(None)

    def post_blob(self, digest):
        handler = self.handler
        if os.path.exists(self.store.blob(digest)):
            handler.close_connection = True
            handler.send(None)
            return
        found, _size, _new = self.store.receive(self.upload())
        if found != digest:  # what came stays, under its own digest
            raise Refused(400, f'digest mismatch, expected "{digest}", got "{found}"')
        handler.send(None, 201)

    def upload(self):
        handler, settings = self.handler, self.server.settings
        left, taken = int(handler.headers["Content-Length"]), 0
        cut, rate = settings.number("STANDIN_OLLAMA_CUT_UPLOADS"), settings.number("STANDIN_OLLAMA_UPLOAD_RATE")
        while left:
            chunk = handler.rfile.read1(min(left, 1 << 16 if cut or rate else 1 << 20))
            if not chunk or (cut and taken >= cut):
                handler.close_connection = True
                handler.connection.close()
                raise ConnectionAbortedError("the upload was cut")
            if rate:
                time.sleep(len(chunk) / rate)
            left, taken = left - len(chunk), taken + len(chunk)
            yield chunk

    # --- models ---

    def stream(self, request, work):
        """A long answer: a line for each status, or only the last where `stream` is false."""
        handler = self.handler
        try:
            if request.get("stream") is False:
                work(lambda status: None)
                handler.send({"status": "success"}, kind="application/json")
                return
            work(handler.chunk)
            handler.chunk({"status": "success"})
            handler.end()
        except Refused as error:
            if handler.started:
                raise
            streamed = request.get("stream") is not False
            handler.send({"error": str(error)}, error.status, "application/json", chunked=streamed)

    def create(self):
        request = self.body()
        for file in request.get("files") or {}:
            if file.startswith("/") or ".." in file.split("/"):
                raise Refused(400, "file path must be relative")
        name = self.named(request, missing=(400, "invalid model name"))[1]
        name = self.store.existing(name)
        self.stream(request, lambda tell: create(self.store, request, name, tell))

    def pull(self):
        request = self.body()
        text, name = self.named(request, missing=(400, "invalid model name"))
        self.stream(request, lambda tell: pull(self.store, text, name, tell))

    def delete(self):
        _text, model = self.found(self.body(), bad='name "{}" is invalid')
        # A runner that has it loaded goes on.
        self.store.remove(model.manifest)
        self.handler.send(None)

    # --- inference ---

    def generate(self):
        self.talk(lambda text: {"response": text}, "prompt")

    def chat(self):
        self.talk(lambda text: {"message": {"role": "assistant", "content": text}}, "messages")

    def talk(self, form, asked):
        request = self.body()
        keep_alive = self.keep_alive(request)
        text = (request.get("model") or "").strip()
        missing = (404, f"model '{text}' not found") if asked == "prompt" else (400, "model is required")
        if CLOUD_SUFFIX.match(text):
            self.cloud(request)
            return
        text, model = self.found({"model": text}, missing=missing)
        head = {"model": text, "created_at": go.instant(time.time_ns())}
        if not request.get(asked) and keep_alive == 0:
            self.server.scheduler.unload(model.path)
            self.handler.send(dict(head, **form(""), done=True, done_reason="unload"))
            return
        can = model.capabilities()
        if request.get("think") and "thinking" not in can:
            raise Refused(400, f'"{text}" does not support thinking')
        if request.get("tools") and "tools" not in can:
            raise Refused(400, f"{model.name} does not support tools")
        context = self.server.settings.number("OLLAMA_CONTEXT_LENGTH") or 4096
        options = model.options(request.get("options"), context)
        runner = self.server.scheduler.run(model, options, keep_alive)
        try:
            if request.get(asked):
                self.say(request, form, head, options.get("num_predict", -1))
            else:
                self.handler.send(dict(head, **form(""), done=True, done_reason="load"))
        finally:
            self.server.scheduler.done(runner)

    def keep_alive(self, request):
        """ns; None: the server's."""
        value = request.get("keep_alive")
        try:
            nanoseconds = go.duration(value) if isinstance(value, str) else None if value is None else value * 10**9
        except ValueError as error:
            raise Refused(400, str(error)) from None
        return go.FOREVER if nanoseconds is not None and nanoseconds < 0 else nanoseconds

    def cloud(self, request):
        if self.server.settings.on("OLLAMA_NO_CLOUD"):
            raise Refused(403, "ollama cloud is disabled: remote model is unavailable")
        base = dict(request, model=CLOUD_SUFFIX.match(request["model"])[1])
        status, body = self.server.cloud(self.handler.path, go.dumps(base).encode())
        self.handler.send(body, status, "application/json")

    def say(self, request, form, head, limit):
        started = time.time_ns()
        words = REPLY.split()
        said = words if limit < 0 else words[:limit]
        spoken = [word if number == 0 else " " + word for number, word in enumerate(said)]
        last = {
            "total_duration": time.time_ns() - started + 10**6,
            "load_duration": 10**5,
            "prompt_eval_count": 12,
            "prompt_eval_duration": 10**5,
            "eval_count": len(said),
        }
        if len(said) > 1:
            last["eval_duration"] = 10**8
        end = {"done": True, "done_reason": "stop" if said == words else "length", **last}
        if request.get("stream") is False:
            self.handler.send(dict(head, **form("".join(spoken)), **end))
            return
        for word in spoken:
            self.handler.chunk(dict(head, **form(word), done=False))
        self.handler.chunk(dict(head, **form(""), **end))
        self.handler.end()
