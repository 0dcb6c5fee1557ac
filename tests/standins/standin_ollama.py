#!/usr/bin/env python3
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-in for Ollama, which no registry ships: its release archive, its store and its HTTP API. No model computes.

    standin_ollama.py archive DIR [VERSION]    write ollama-linux-ARCH.tar.zst (.tgz before 0.14) and sha256sum.txt

The archive holds bin/ollama (this file) and lib/ollama/ like the real one. `ollama serve` honours OLLAMA_HOST,
OLLAMA_MODELS, OLLAMA_KEEP_ALIVE, OLLAMA_CONTEXT_LENGTH and OLLAMA_NUM_PARALLEL. Written after docs/api.md,
api/types.go, server/*.go and manifest/*.go of Ollama 0.24; from 0.30 on it writes weights anew, as the real one does.
It is stricter than the real one: a field that it does not know is an error.

What tests ask of it, by environment variables:
    STANDIN_OLLAMA_GPU_LAYERS   layers that its GPUs take (0: it has none)
    STANDIN_OLLAMA_CUT_UPLOADS  bytes after which it cuts the connection of every upload
    STANDIN_OLLAMA_UPLOAD_RATE  bytes a second that it takes of an upload
    STANDIN_OLLAMA_REGISTRY     directory of NAME.gguf files that can be pulled
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import platform
import re
import signal
import struct
import sys
import tarfile
import tempfile
import threading
import time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = "0.24.0"
REPLY = "I am a stand-in for Ollama : no model computes this ."
DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})\Z")
PART = r"[A-Za-z0-9_][\w.-]*"
NAME = re.compile(rf"(?:({PART})/)?({PART})(?::({PART}))?\Z")
WEIGHTS = "application/vnd.ollama.image.model"
FIELDS = {  # of a request, by path
    "/api/create": "model name stream quantize from files adapters template license system parameters messages renderer"
    " parser requires info remote_host quantization draft_files draft_quantize",
    "/api/show": "model name system template verbose options",
    "/api/delete": "model name",
    "/api/pull": "model name insecure username password stream",
    "/api/chat": "model messages stream format keep_alive tools options think truncate shift logprobs top_logprobs",
    "/api/generate": "model prompt suffix system template context stream raw format keep_alive images options think"
    " truncate shift logprobs top_logprobs",
}
OPTIONS = {
    int: "num_ctx num_batch num_gpu main_gpu num_thread num_keep seed num_predict top_k repeat_last_n",
    float: "top_p min_p typical_p temperature repeat_penalty presence_penalty frequency_penalty",
    bool: "use_mmap",
    list: "stop",
}
KINDS = {name: kind for kind, names in OPTIONS.items() for name in names.split()}


def version_tuple(text=None):
    return tuple(int(part) for part in (text or VERSION).split(".")[:3])


class Refused(Exception):
    """An answer with an error."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


# --- GGUF, as far as Ollama reads it -------------------------------------------------------------------------------

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def read_gguf(path):
    """The keys of a GGUF file whose values are no arrays."""

    def take(form):
        return struct.unpack("<" + form, handle.read(struct.calcsize("<" + form)))[0]

    def text():
        return handle.read(take("Q")).decode("utf-8", "replace")

    def value(kind):
        if kind in _SCALARS:
            return take(_SCALARS[kind])
        if kind == 8:
            return text()
        inner, count = take("I"), take("Q")
        if inner in _SCALARS:
            handle.seek(count * struct.calcsize("<" + _SCALARS[inner]), 1)
        else:
            for _item in range(count):
                value(inner)
        return None

    with open(path, "rb") as handle:
        if handle.read(4) != b"GGUF":
            raise Refused(400, "supplied file was not in GGUF format")
        take("I")
        take("Q")
        keys = {text(): value(take("I")) for _number in range(take("Q"))}
    return {name: one for name, one in keys.items() if one is not None}


# --- the store -----------------------------------------------------------------------------------------------------


class Store:
    """OLLAMA_MODELS: blobs/sha256-…, manifests/registry.ollama.ai/NAMESPACE/MODEL/TAG."""

    def __init__(self, directory):
        self.blobs = os.path.join(directory, "blobs")
        self.manifests = os.path.join(directory, "manifests", "registry.ollama.ai")
        os.makedirs(self.blobs, exist_ok=True)
        os.makedirs(self.manifests, exist_ok=True)
        for name in os.listdir(self.blobs):  # what a killed server left of uploads
            if not DIGEST.match(name):
                os.unlink(os.path.join(self.blobs, name))

    def blob(self, digest):
        found = DIGEST.match(digest)
        if not found:
            raise Refused(400, "invalid digest format")
        return os.path.join(self.blobs, "sha256-" + found[1])

    def receive(self, chunks):
        """(digest, bytes) of a new blob."""
        handle, temporary = tempfile.mkstemp(prefix="sha256-", dir=self.blobs)
        sha256, size = hashlib.sha256(), 0
        try:
            with os.fdopen(handle, "wb") as out:
                for chunk in chunks:
                    out.write(chunk)
                    sha256.update(chunk)
                    size += len(chunk)
            digest = "sha256:" + sha256.hexdigest()
            os.chmod(temporary, 0o644)
            os.replace(temporary, self.blob(digest))
            return digest, size
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise

    def path(self, name):
        found = NAME.match(name or "")
        if not found:
            raise Refused(400, "invalid model name")
        return os.path.join(self.manifests, found[1] or "library", found[2], found[3] or "latest")

    @staticmethod
    def short(path):
        namespace, model, tag = path.split("/")[-3:]
        return ("" if namespace == "library" else namespace + "/") + model + ":" + tag

    def all(self):
        """{name: (manifest, its digest, its time)}"""
        found = {}
        for base, _directories, files in os.walk(self.manifests):
            for file in files:
                path = os.path.join(base, file)
                with open(path, "rb") as handle:
                    text = handle.read()
                manifest = json.loads(text)
                found[self.short(path)] = (manifest, hashlib.sha256(text).hexdigest(), os.path.getmtime(path))
        return found

    def get(self, name):
        found = self.all().get(self.short(self.path(name)))
        if not found:
            raise Refused(404, f"model '{name}' not found")
        return found

    def put(self, name, layers):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        old = self.all().get(self.short(path))
        with open(path, "w", encoding="utf-8") as handle:
            json.dump({"schemaVersion": 2, "layers": layers, "config": self.layer("config", b"{}")}, handle)
        self.forget(old)

    def delete(self, name):
        old = self.get(name)
        os.unlink(self.path(name))
        self.forget(old)

    def forget(self, old):
        """Remove the blobs of a manifest that no other one has."""
        used = {layer["digest"] for manifest, _digest, _time in self.all().values() for layer in self.layers(manifest)}
        for layer in self.layers(old[0]) if old else []:
            if layer["digest"] not in used:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.blob(layer["digest"]))

    def layer(self, kind, content):
        digest, size = self.receive([content])
        return {"mediaType": "application/vnd.ollama.image." + kind, "digest": digest, "size": size}

    @staticmethod
    def layers(manifest):
        return [*manifest["layers"], manifest["config"]]

    def text(self, manifest, kind):
        """The texts of the layers of one kind."""
        texts = []
        for layer in manifest["layers"]:
            if layer["mediaType"] == "application/vnd.ollama.image." + kind:
                with open(self.blob(layer["digest"]), encoding="utf-8") as handle:
                    texts.append(handle.read())
        return texts

    def weights(self, manifest):
        return next(layer for layer in manifest["layers"] if layer["mediaType"] == WEIGHTS)

    def parameters(self, manifest):
        return json.loads((self.text(manifest, "params") or ["{}"])[0])


def go_value(value):
    """A value as Go's %#v prints what JSON gave: every number is a float64."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    text = repr(float(value))
    return text[:-2] if text.endswith(".0") else text


def duration(text, default):
    """Seconds of a Go duration or a number of seconds; negative is for ever."""
    units = {"h": 3600, "m": 60, "s": 1, "ms": 0.001}
    if re.match(r"-?\d+\Z", text or ""):
        seconds = float(text)
    elif re.match(r"-?(\d+(h|ms|m|s))+\Z", text or ""):
        seconds = sum(int(count) * units[unit] for count, unit in re.findall(r"(\d+)(h|ms|m|s)", text))
        seconds = -seconds if text.startswith("-") else seconds
    else:
        seconds = default
    return float(1 << 33) if seconds < 0 else seconds


def now():
    return datetime.now(timezone.utc).isoformat().replace("+00:00", "Z")


# --- the server ----------------------------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, environment):
        self.environment = environment
        host, _colon, port = environment.get("OLLAMA_HOST", "127.0.0.1:11434").rpartition(":")
        super().__init__((host or "127.0.0.1", int(port)), Handler)
        self.store = Store(environment.get("OLLAMA_MODELS") or os.path.expanduser("~/.ollama/models"))
        self.loaded = {}  # name: its entry in /api/ps and when it ends
        self.lock = threading.Lock()

    def setting(self, name, default=0):
        return int(self.environment.get(name) or default)

    def handle_error(self, request, client_address):
        pass  # the client has gone


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, form, *arguments):
        print("[GIN] " + form % arguments, flush=True)

    def route(self):
        self.started = False
        path = self.path.partition("?")[0]
        handlers = {
            ("GET", "/"): self.root,
            ("GET", "/api/version"): lambda: self.send({"version": VERSION}),
            ("GET", "/api/tags"): self.tags,
            ("GET", "/api/ps"): self.ps,
            ("POST", "/api/show"): self.show,
            ("POST", "/api/create"): self.create,
            ("POST", "/api/pull"): self.pull,
            ("POST", "/api/chat"): self.chat,
            ("POST", "/api/generate"): self.generate,
            ("DELETE", "/api/delete"): self.delete,
        }
        blob = re.match(r"/api/blobs/(.+)\Z", path)
        try:
            if blob and self.command in ("HEAD", "POST"):
                (self.head_blob if self.command == "HEAD" else self.post_blob)(blob[1])
            elif (self.command, path) in handlers:
                handlers[self.command, path]()
            elif path in [known for _method, known in handlers]:
                raise Refused(405, "405 method not allowed")
            else:
                raise Refused(404, "404 page not found")
        except Refused as error:
            if self.started:
                self.chunk({"error": str(error)})
                self.end()
            else:
                self.send({"error": str(error)}, error.status)

    do_GET = do_POST = do_DELETE = do_HEAD = route

    # --- answers ---

    def send(self, value, status=200):
        body = b"" if value is None else value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def chunk(self, value):
        if not self.started:
            self.started = True
            self.send_response(200)
            self.send_header("Content-Type", "application/x-ndjson")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
        line = json.dumps(value).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.flush()

    def end(self):
        self.wfile.write(b"0\r\n\r\n")

    def body(self):
        """The request, none of whose fields is unknown."""
        length = int(self.headers.get("Content-Length") or 0)
        if not length:
            raise Refused(400, "missing request body")
        try:
            request = json.loads(self.rfile.read(length))
        except ValueError as error:
            raise Refused(400, str(error)) from None
        for name in request:
            if name not in FIELDS[self.path].split():
                raise Refused(400, f'json: unknown field "{name}"')
        request["model"] = request.get("model") or request.get("name")
        if not request["model"]:
            raise Refused(400, "model is required")
        return request

    # --- blobs ---

    def head_blob(self, digest):
        if not os.path.exists(self.server.store.blob(digest)):
            raise Refused(404, f'blob "{digest}" not found')
        self.send(None)

    def post_blob(self, digest):
        if os.path.exists(self.server.store.blob(digest)):
            self.close_connection = True
            self.send(None)
            return
        found, _size = self.server.store.receive(self.upload())
        if found != digest:
            os.unlink(self.server.store.blob(found))
            raise Refused(400, f'digest mismatch, expected "{digest}", got "{found}"')
        self.send(None, 201)

    def upload(self):
        left = int(self.headers["Content-Length"])
        cut, rate = self.server.setting("STANDIN_OLLAMA_CUT_UPLOADS"), self.server.setting("STANDIN_OLLAMA_UPLOAD_RATE")
        taken = 0
        while left:
            chunk = self.rfile.read(min(left, 1 << 16))
            if not chunk or (cut and taken >= cut):
                self.close_connection = True
                self.connection.close()
                raise ConnectionAbortedError("the upload was cut")
            if rate:
                time.sleep(len(chunk) / rate)
            left, taken = left - len(chunk), taken + len(chunk)
            yield chunk

    # --- models ---

    def root(self):
        self.send(b"Ollama is running")

    def tags(self):
        models = []
        for name, (manifest, digest, changed) in self.server.store.all().items():
            size = sum(layer["size"] for layer in manifest["layers"])
            when = datetime.fromtimestamp(changed, timezone.utc).isoformat()
            models.append({"name": name, "model": name, "modified_at": when, "size": size, "digest": digest})
        self.send({"models": models})

    def show(self):
        store = self.server.store
        manifest, _digest, changed = store.get(self.body()["model"])
        path = store.blob(store.weights(manifest)["digest"])
        keys = read_gguf(path)
        texts = {kind: "\n".join(store.text(manifest, kind)) for kind in ("template", "system", "license")}
        parameters = store.parameters(manifest)
        lines, commands = [], [f"FROM {path}"]
        commands += [f'{kind.upper()} """{text}"""' for kind, text in texts.items() if text]
        for name, value in parameters.items():
            for one in value if isinstance(value, list) else [value]:
                lines.append(f"{name:<30} {go_value(one)}")
                commands.append(f"PARAMETER {name} {one}")
        reply = {
            "modelfile": '# Modelfile generated by "ollama show"\n' + "\n".join(commands) + "\n",
            "parameters": "\n".join(lines),
            "details": {"format": "gguf", "family": keys.get("general.architecture")},
            "model_info": {name: one for name, one in keys.items() if name != "tokenizer.chat_template"},
            "modified_at": datetime.fromtimestamp(changed, timezone.utc).isoformat(),
            **{kind: text for kind, text in texts.items() if text},
        }
        reply.setdefault("template", keys.get("tokenizer.chat_template") or "{{ .Prompt }}")
        self.send(reply)

    def create(self):
        request = self.body()
        store = self.server.store
        store.path(request["model"])
        for name, kind in ((name, KINDS.get(name)) for name in request.get("parameters") or {}):
            value = request["parameters"][name]
            if kind is None:
                raise Refused(400, f"unknown parameter '{name}'")
            right = (int, float) if kind is float else kind
            if not isinstance(value, right) or (kind is not bool and isinstance(value, bool)):
                raise Refused(400, f'option "{name}" must be of type {kind.__name__}')
        for name, digest in (request.get("files") or {}).items():
            if name.startswith("/") or ".." in name.split("/"):
                raise Refused(400, "file path must be relative")
            if not os.path.exists(store.blob(digest)):
                raise Refused(500, f"open {store.blob(digest)}: no such file or directory")
        if request.get("from"):
            old = store.get(request["from"])[0]
            layers, given = list(old["layers"]), dict(store.parameters(old), **(request.get("parameters") or {}))
        elif request.get("files"):
            self.chunk({"status": "parsing GGUF"})
            layers, given = [self.weights_of(request["files"])], request.get("parameters") or {}
        else:
            raise Refused(400, "neither 'from' or 'files' was specified")
        texts = {"template": request.get("template"), "system": request.get("system")}
        texts["params"] = json.dumps(given) if given else None
        for kind, text in texts.items():
            if text:
                layers = [layer for layer in layers if not layer["mediaType"].endswith("." + kind)]
                layers.append(store.layer(kind, text.encode()))
        licences = request.get("license") or []
        for text in [licences] if isinstance(licences, str) else licences:
            layers.append(store.layer("license", text.encode()))
        for layer in layers:
            self.chunk({"status": "using existing layer {}".format(layer["digest"])})
        self.chunk({"status": "writing manifest"})
        store.put(request["model"], layers)
        with self.server.lock:
            self.server.loaded.pop(store.short(store.path(request["model"])), None)
        self.chunk({"status": "success"})
        self.end()

    def weights_of(self, files):
        store = self.server.store
        if len(files) > 1:
            raise Refused(400, "split files are not stood in for")
        digest = next(iter(files.values()))
        read_gguf(store.blob(digest))
        size = os.path.getsize(store.blob(digest))
        if version_tuple() >= (0, 30):
            self.chunk({"status": "validating GGUF model", "total": size, "completed": size})
            self.chunk({"status": "verifying conversion"})
            with open(store.blob(digest), "rb") as handle:
                anew = [*iter(lambda: handle.read(1 << 20), b""), bytes(32)]
            digest, size = store.receive(anew)
        return {"mediaType": WEIGHTS, "digest": digest, "size": size}

    def pull(self):
        name = self.body()["model"]
        self.chunk({"status": "pulling manifest"})
        path = os.path.join(self.server.environment.get("STANDIN_OLLAMA_REGISTRY", "/nonexistent"), name + ".gguf")
        if not os.path.exists(path):
            raise Refused(500, "pull model manifest: file does not exist")
        with open(path, "rb") as handle:
            digest, size = self.server.store.receive(iter(lambda: handle.read(1 << 20), b""))
        self.chunk({"status": "pulling " + digest[7:19], "digest": digest, "total": size, "completed": size})
        self.chunk({"status": "verifying sha256 digest"})
        self.chunk({"status": "writing manifest"})
        self.server.store.put(name, [{"mediaType": WEIGHTS, "digest": digest, "size": size}])
        self.chunk({"status": "success"})
        self.end()

    def delete(self):
        name = self.body()["model"]
        self.server.store.delete(name)
        with self.server.lock:
            self.server.loaded.pop(self.server.store.short(self.server.store.path(name)), None)
        self.send(None)

    # --- inference ---

    def load(self, request):
        """Load the model, or keep it loaded."""
        store, environment = self.server.store, self.server.environment
        manifest, digest, _changed = store.get(request["model"])
        for name in request.get("options") or {}:
            if name not in KINDS:
                raise Refused(400, f"unknown option '{name}'")
        options = dict(store.parameters(manifest), **(request.get("options") or {}))
        keep = request.get("keep_alive")
        seconds = duration(str(environment.get("OLLAMA_KEEP_ALIVE") if keep is None else keep), 300)
        weights = store.weights(manifest)
        keys = read_gguf(store.blob(weights["digest"]))
        layers = int(keys.get("{}.block_count".format(keys.get("general.architecture")), 0)) + 1
        asked = options.get("num_gpu", -1)
        on_gpu = min(self.server.setting("STANDIN_OLLAMA_GPU_LAYERS"), layers if asked < 0 else asked)
        context = options.get("num_ctx") or self.server.setting("OLLAMA_CONTEXT_LENGTH", 4096)
        name = store.short(store.path(request["model"]))
        print(f"offloaded {min(on_gpu, layers)}/{layers} layers to GPU", flush=True)
        with self.server.lock:
            self.server.loaded[name] = {
                "name": name,
                "model": name,
                "digest": digest,
                "size": weights["size"],
                "size_vram": weights["size"] * min(on_gpu, layers) // layers,
                "context_length": context * self.server.setting("OLLAMA_NUM_PARALLEL", 1),
                "ends": time.time() + seconds,
            }
        return options

    def ps(self):
        with self.server.lock:
            alive = {name: one for name, one in self.server.loaded.items() if one["ends"] > time.time()}
            self.server.loaded = alive
        models = []
        for one in alive.values():
            when = datetime.fromtimestamp(min(one["ends"], 1 << 34), timezone.utc).isoformat()
            models.append(dict({name: value for name, value in one.items() if name != "ends"}, expires_at=when))
        self.send({"models": models})

    def generate(self):
        self.talk(lambda text: {"response": text}, lambda request: request.get("prompt"))

    def chat(self):
        self.talk(
            lambda text: {"message": {"role": "assistant", "content": text}}, lambda request: request.get("messages")
        )

    def talk(self, form, asked):
        request = self.body()
        options = self.load(request)
        head = {"model": request["model"], "created_at": now()}
        if not asked(request):
            self.send(dict(head, **form(""), done=True, done_reason="load"))
            return
        words = REPLY.split()
        limit = options.get("num_predict", -1)
        said = words if limit < 0 else words[:limit]
        counts = {"total_duration": 10**9, "load_duration": 1, "prompt_eval_count": 5, "eval_count": len(said)}
        last = dict(head, **form(""), done=True, done_reason="stop" if said == words else "length", **counts)
        last.update(prompt_eval_duration=10**6, eval_duration=10**8)
        if request.get("stream") is False:
            self.send(dict(last, **form(" ".join(said))))
            return
        for word in said:
            self.chunk(dict(head, **form(word + " "), done=False))
        self.chunk(last)
        self.end()


# --- the release archive -------------------------------------------------------------------------------------------


def zstd(content):
    """A Zstandard frame of uncompressed blocks (RFC 8878): any zstd reads it, and nothing is needed to write it."""
    blocks = [content[start : start + 131072] for start in range(0, len(content), 131072)] or [b""]
    frame = struct.pack("<IBQ", 0xFD2FB528, 0xE0, len(content))
    for number, block in enumerate(blocks):
        frame += struct.pack("<I", (len(block) << 3) | (number == len(blocks) - 1))[:3] + block
    return frame


def write_archive(directory, version=VERSION):
    """Write the archive of a release and its sha256sum.txt; returns (path, sha256)."""
    with open(os.path.abspath(__file__), encoding="utf-8") as handle:
        program = handle.read().replace(f'VERSION = "{VERSION}"', f'VERSION = "{version}"', 1)
    program = program.replace("#!/usr/bin/env python3", "#!/usr/bin/python3", 1)
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as archive:
        files = {"bin/ollama": program, "lib/ollama/libggml-base.so.0": "", "lib/ollama/cuda_v12/libggml-cuda.so": ""}
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text.encode()), 0o755
            archive.addfile(member, io.BytesIO(text.encode()))
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    modern = version_tuple(version) >= (0, 14)
    content = zstd(raw.getvalue()) if modern else gzip.compress(raw.getvalue(), mtime=0)
    name = "ollama-linux-{}{}".format(machine, ".tar.zst" if modern else ".tgz")
    os.makedirs(directory, exist_ok=True)
    path, sha256 = os.path.join(directory, name), hashlib.sha256(content).hexdigest()
    with open(path, "wb") as handle:
        handle.write(content)
    with open(os.path.join(directory, "sha256sum.txt"), "w", encoding="ascii") as handle:
        handle.write(f"{sha256}  ./{name}\n")
    return path, sha256


def main(arguments):
    if arguments[:1] == ["archive"]:
        print(*write_archive(*arguments[1:3]))
    elif arguments == ["serve"]:
        signal.signal(signal.SIGTERM, lambda *_signal: os._exit(0))
        server = Server(dict(os.environ))
        shown = sorted(name for name in os.environ if name.startswith("OLLAMA_"))
        print("server config", *(f"{name}={os.environ[name]}" for name in shown), flush=True)
        print(f"Listening on {server.server_address[0]}:{server.server_port} (version {VERSION})", flush=True)
        server.serve_forever()
    elif arguments == ["--version"]:
        print("Warning: could not connect to a running Ollama instance")
        print(f"Warning: client version is {VERSION}")
    else:
        sys.exit("usage: ollama serve | --version")


if __name__ == "__main__":
    main(sys.argv[1:])
