# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""139 requests to an Ollama server on loopback, and what it answers, by name.

    python3 ollama_contract.py PORT GGUF STORE > real-VERSION.jsonl

tests/unit/fixtures/ollama/real-0.24.0.jsonl is what the real 0.24.0 answered, with the store /models,
OLLAMA_KEEP_ALIVE=-1 and SmolLM2-135M-Instruct.Q4_1.gguf. The server must be new, its store empty.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket
import sys
import time

CUT_AT = 20_000_000  # bytes of an upload
ZERO = "sha256:" + "0" * 64


class Contract:
    """`replaced`: {text: what is written instead of it}, before an answer is cut to the length that is kept."""

    def __init__(self, port, gguf, store, replaced=None):
        self.port, self.store, self.replaced = port, store, replaced or {}
        with open(gguf, "rb") as handle:
            self.data = handle.read()
        self.digest = "sha256:" + hashlib.sha256(self.data).hexdigest()
        self.files = {"SmolLM2.gguf": self.digest}
        self.answers = {}

    def written(self, text):
        for found, instead in self.replaced.items():
            text = text.replace(found, instead)
        return text

    def request(self, name, method, path, body=None, keep=4000, size_only=False):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=180)
        headers = {}
        if body is not None and not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            text = reply.read().decode("utf-8", "replace")
            text = self.written(text)
            self.answers[name] = {
                "status": reply.status,
                "type": reply.getheader("Content-Type"),
                "te": reply.getheader("Transfer-Encoding"),
                "body": len(text) if size_only else text[:keep],
            }
        finally:
            connection.close()

    def blobs(self, name, until=None):
        """What lies in the store; looked at again until `until` is true of it, for five seconds."""
        directory = os.path.join(self.store, "blobs")
        deadline = time.monotonic() + 5
        while True:
            sizes = {file: os.path.getsize(os.path.join(directory, file)) for file in os.listdir(directory)}
            found = sorted((self.written(file)[:20], size) for file, size in sizes.items())
            if until is None or until(found) or time.monotonic() > deadline:
                self.answers[name] = {"blobs": [list(one) for one in found]}
                return
            time.sleep(0.02)

    def post(self, name, path, body, **more):
        self.request(name, "POST", path, body, **more)

    def create(self, name, model, **more):
        self.post("create " + name, "/api/create", {"model": model, "files": self.files, **more})

    def load(self, name, model):
        self.post("load " + name, "/api/generate", {"model": model, "stream": False})

    def ps(self, name, until=None):
        """What is loaded; asked again until `until` is true of it, for five seconds.

        A server notes the end of a request after it has answered.
        """
        deadline = time.monotonic() + 5
        while True:
            self.request("ps " + name, "GET", "/api/ps")
            if until is None or until(self.answers["ps " + name]["body"]) or time.monotonic() > deadline:
                return
            time.sleep(0.02)

    def run(self):
        """{name: {status, type, te, body} or {blobs}}"""
        self.what_it_is()
        self.blobs_of_the_store()
        self.refused_creates()
        self.post("POST blob gguf", "/api/blobs/" + self.digest, self.data)
        self.blobs("after upload")
        self.mistyped_models()
        self.a_modelfile()
        self.one_file_under_two_names()
        self.chats()
        self.the_end()
        return self.answers

    def what_it_is(self):
        for line in (
            "GET /", "HEAD /", "GET /api/version", "HEAD /api/version", "GET /api/tags", "HEAD /api/tags",
            "GET /api/ps", "HEAD /api/ps", "GET /nope", "GET /api/show", "PUT /api/tags", "GET /health",
            "GET /v1/models",
        ):  # fmt: skip
            self.request(line, *line.split())
        for name, body in {
            "empty": None,
            "emptybytes": b"",
            "badjson": b"{",
            "{}": {},
            "unknown": {"model": "nope"},
            "badname": {"model": "Bad Name!"},
            "unknownfield": {"model": "nope", "zzz": 1},
            "nametag": {"name": "nope:7b"},
        }.items():
            self.post("show " + name, "/api/show", body)

    def blobs_of_the_store(self):
        blob = "/api/blobs/"
        self.request("HEAD blob missing", "HEAD", blob + ZERO)
        self.request("HEAD blob bad", "HEAD", blob + "sha256:abc")
        self.post("POST blob bad digest", blob + "sha256:abc", b"xx")
        self.post("POST blob mismatch", blob + ZERO, b"xx")
        self.blobs("after mismatch")
        self.small = "sha256:" + hashlib.sha256(b"hello").hexdigest()
        dashed = self.small.replace(":", "-")
        self.post("POST blob small", blob + self.small, b"hello")
        self.post("POST blob again", blob + self.small, b"hello")
        self.post("POST blob dash digest again", blob + dashed, b"hello")
        self.request("HEAD blob there", "HEAD", blob + self.small)
        self.request("HEAD blob dash", "HEAD", blob + dashed)
        self.request("HEAD blob upper", "HEAD", blob + "sha256:" + self.small[7:].upper())
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            head = f"POST {blob}{self.digest} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(self.data)}\r\n\r\n"
            connection.sendall(head.encode() + self.data[:CUT_AT])
            self.blobs("during upload", lambda found: any(size == CUT_AT for _name, size in found))
        self.blobs("after cut upload", lambda found: all(size < CUT_AT for _name, size in found))
        self.request("HEAD blob cut", "HEAD", blob + self.digest)

    def refused_creates(self):
        for name, body in {
            "empty": None,
            "{}": {},
            "noname": {"files": {"a.gguf": self.digest}},
            "nofiles": {"model": "m1"},
            "nofiles nostream": {"model": "m1", "stream": False},
            "files {}": {"model": "m1", "files": {}},
            "badname": {"model": "a b", "files": {"a.gguf": self.small}},
            "abs": {"model": "m1", "files": {"/a.gguf": self.small}},
            "dotdot": {"model": "m1", "files": {"../a.gguf": self.small}},
            "missing blob": {"model": "m1", "files": {"a.gguf": ZERO}},
            "missing blob nostream": {"model": "m1", "files": {"a.gguf": ZERO}, "stream": False},
            "bad digest": {"model": "m1", "files": {"a.gguf": "abc"}},
            "not gguf": {"model": "m1", "files": {"a.gguf": self.small}},
            "not gguf noext": {"model": "m1", "files": {"a": self.small}},
            "unknown field": {"model": "m1", "files": {"a.gguf": self.small}, "zzz": 1},
        }.items():
            self.post("create " + name, "/api/create", body)

    def mistyped_models(self):
        self.create("unknown param", "p1", parameters={"frobnicate": 1})
        self.create("wrong type", "p2", parameters={"num_ctx": "many"})
        self.create("float int", "p3", parameters={"num_ctx": 4096.5})
        self.create("str stop", "p4", parameters={"stop": "x"})
        self.create("bad template", "p5", template="{{ .Prompt")
        self.create("unknown tmpl var", "p6", template="{{ .Nope }}")
        self.create("draft_num_predict", "p7", parameters={"draft_num_predict": 4})
        for name in ("p1", "p2", "p3", "p4", "p6", "p7"):
            self.load(name, name)
            self.post("show " + name, "/api/show", {"model": name}, keep=300)
        self.ps("after p")

    def a_modelfile(self):
        self.create("plain", "m1")
        self.post("show plain", "/api/show", {"model": "m1"}, keep=20000)
        self.request("tags", "GET", "/api/tags")
        parameters = {
            "num_ctx": 2048, "temperature": 0.6, "seed": 1234567890, "num_gpu": 31, "use_mmap": True, "top_p": 1.0,
            "stop": ["</s>", 'é\n"q"<|x|>', "\x07\u200b"], "repeat_penalty": 1e-7,
        }  # fmt: skip
        full = {
            "parameters": parameters,
            "template": "<｜User｜>{{ .System }} {{ .Prompt }}<｜Assistant｜>",
            "system": 'You are\n"terse".',
            "license": ["MIT", "Second\nlicence\n"],
        }
        self.create("full", "m1", **full)
        self.post("show full", "/api/show", {"model": "m1"}, keep=20000)
        self.create("full again", "m1", **full)
        self.post("show verbose size", "/api/show", {"model": "m1", "verbose": True}, size_only=True)
        self.post("show M1 upper", "/api/show", {"model": "M1"}, keep=200)
        self.create("m1 again upper", "M1", **full)
        self.request("tags 2", "GET", "/api/tags")
        self.blobs("blobs after creates")

    def one_file_under_two_names(self):
        self.create("nostream", "m2", parameters={"num_ctx": 2048}, stream=False)
        self.post("create from m2", "/api/create", {"model": "m3", "from": "m2", "parameters": {"temperature": 0.1}})
        self.post("show m3", "/api/show", {"model": "m3"}, keep=1500)
        self.load("m2 generate", "m2")
        self.ps("m2")
        self.load("m3 same weights", "m3")
        self.ps("m3")
        recreate = {"model": "m2", "files": self.files, "parameters": {"num_ctx": 4096}, "stream": False}
        self.post("recreate m2 num_ctx 4096", "/api/create", recreate)
        self.ps("after recreate")
        self.load("m2 again", "m2")
        self.ps("after reload")

    def chats(self):
        question = {
            "model": "m2",
            "messages": [{"role": "user", "content": "Say hi."}],
            "options": {"num_predict": 8, "temperature": 0},
        }
        whole = dict(question, stream=False)
        function = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}
        for name, body in {
            "stream": question,
            "nostream": whole,
            "no model": {"messages": question["messages"]},
            "unknown model": dict(question, model="nope"),
            "no messages": {"model": "m2"},
            "empty messages": {"model": "m2", "messages": []},
            "empty": None,
            "unknown option": dict(question, options={"zzz": 1, "num_predict": 2}),
            "wrong option": dict(question, options={"num_predict": "x"}),
            "think": dict(question, think=True),
            "think false": dict(whole, think=False),
            "tools": dict(question, tools=[{"type": "function", "function": function}]),
            "unknown field": dict(whole, zzz=1),
            "keepalive abc": dict(question, keep_alive="abc"),
            "keepalive 10m": dict(whole, keep_alive="10m"),
            "max_tokens1": dict(whole, options={"num_predict": 1, "temperature": 0}),
            "bad model name": dict(question, model="a b"),
        }.items():
            self.post("chat " + name, "/api/chat", body)
        self.ps("keepalive", until=lambda body: '"expires_at":"20' in body)
        self.post("chat keepalive -1", "/api/chat", dict(whole, keep_alive=-1))
        self.ps("keepalive -1", until=lambda body: '"expires_at":"23' in body)
        self.post("generate bad", "/api/generate", {"model": "nope"})
        self.post("chat unload", "/api/chat", {"model": "m2", "messages": [], "keep_alive": 0})
        self.ps("after unload", until=lambda body: body == '{"models":[]}')

    def the_end(self):
        self.load("m2 3", "m2")
        for name, body in {
            "empty": None,
            "{}": {},
            "unknown": {"model": "nope"},
            "bad": {"model": "a b"},
            "m2 loaded": {"model": "m2"},
            "m2 again": {"model": "m2"},
        }.items():
            self.request("delete " + name, "DELETE", "/api/delete", body)
        self.ps("after delete loaded")
        for name in ("p1", "p2", "p3", "p4", "p5", "p6", "p7", "m3", "m1", "M1"):
            self.request("delete " + name, "DELETE", "/api/delete", {"model": name})
        self.ps("after delete all")
        self.request("tags end", "GET", "/api/tags")
        self.request("HEAD blob end", "HEAD", "/api/blobs/" + self.digest)
        self.blobs("blobs end")


def main(arguments):
    answers = Contract(int(arguments[0]), arguments[1], arguments[2]).run()
    for name, answer in answers.items():
        print(json.dumps({"name": name, **answer}, ensure_ascii=False))


if __name__ == "__main__":
    main(sys.argv[1:])
