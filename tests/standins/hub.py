#!/usr/bin/env python3
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stand-in hub: serves a directory as Hugging Face, ModelScope, plain URLs and git-lfs do, with faults on demand.

It speaks the protocols closely enough that the real `hf` and `modelscope` clients and git-lfs download from it
(tests/hub_clients/test_hub_clients.py). `ROOT/<owner>/<name>/...` are the repositories.

    hub.py ROOT [--port N] [--storage-port N] [--bind ADDRESS]

Large files are answered by a redirect to the storage port, as hubs do: another origin, which must never see a token.

    POST /_faults  {"match": "part of the path", "fault": NAME, "times": 1, "after": 0}   adds one
    DELETE /_faults                                                                       forgets all
    GET /_log                                       what was asked: [{port, method, path, range, authorization, status}]

Faults: cut (after bytes), wrong (one byte is flipped after bytes), 429, 503, 401, 404, html, pointer, empty, slow
(after bytes a second), no_range, answer (the body, status and headers that the fault names).
"""

import argparse
import contextlib
import gzip
import hashlib
import json
import os
import subprocess
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LARGE = 1024 * 1024  # files of this size and more are kept in LFS


class Hub:
    def __init__(self, root, large=LARGE):
        self.root = Path(root)
        self.large = large
        self.faults = []
        self.log = []
        self.lock = threading.Lock()
        self.hashes = {}
        self.url = None
        self.storage = None  # URL of the storage port
        # Of files that are only listed, such as sparse ones of a model's real sizes: `{path: sha256}`.
        told = self.root / ".sha256.json"
        self.told = json.loads(told.read_text()) if told.is_file() else {}

    def sha256(self, path):
        if str(path.relative_to(self.root)) in self.told:
            return self.told[str(path.relative_to(self.root))]
        key = (str(path), path.stat().st_size, path.stat().st_mtime_ns)
        with self.lock:
            if key not in self.hashes:
                digest = hashlib.sha256()
                with path.open("rb") as handle:
                    for block in iter(lambda: handle.read(1 << 20), b""):
                        digest.update(block)
                self.hashes[key] = digest.hexdigest()
            return self.hashes[key]

    def files(self, repository):
        base = self.root / repository
        return sorted(
            path for path in base.rglob("*") if path.is_file() and ".git" not in path.relative_to(base).parts[0:1]
        )

    def commit(self, repository):
        text = "".join(f"{path}{path.stat().st_size}" for path in self.files(repository))
        return hashlib.sha1(text.encode()).hexdigest()

    def take_fault(self, path):
        with self.lock:
            for fault in self.faults:
                if fault["match"] in path and fault.get("times", 1) != 0:
                    fault["times"] = fault.get("times", 1) - 1
                    return fault
        return None


def git_blob(path):
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub = None
    status = 0

    def log_message(self, *_arguments):
        pass

    def log_request(self, code="-", size="-"):
        entry = {
            "port": self.server.server_port,
            "method": self.command,
            "path": urllib.parse.unquote(self.path),
            "range": self.headers.get("Range"),
            "authorization": self.headers.get("Authorization"),
            "cookie": self.headers.get("Cookie"),
            "status": int(code),
        }
        if not self.path.startswith("/_"):
            with self.hub.lock:
                self.hub.log.append(entry)

    # --- answers ---

    def answer(self, body, status=200, kind="application/json", headers=None):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        parts = urllib.parse.urlsplit(self.path)
        path, query = urllib.parse.unquote(parts.path), dict(urllib.parse.parse_qsl(parts.query))
        if path == "/_log":
            return self.answer(self.hub.log)
        fault = self.hub.take_fault(urllib.parse.unquote(self.path))
        if fault and fault["fault"] in ("429", "503", "401", "404"):
            return self.answer(b"busy", int(fault["fault"]), "text/plain", fault.get("headers"))
        if fault and fault["fault"] == "answer":
            body = fault["body"].encode()
            return self.answer(body, fault.get("status", 200), headers=fault.get("headers"))
        steps = path.strip("/").split("/")
        if steps[:2] == ["api", "models"]:
            return self.huggingface(steps[2:], query)
        if steps[:3] == ["api", "v1", "models"]:
            return self.modelscope(steps[3:], query, fault)
        if len(steps) > 4 and steps[2] == "resolve":
            return self.content("/".join(steps[:2]), "/".join(steps[4:]), fault, redirect=True)
        if steps[0] in ("raw", "lfs"):
            return self.content("/".join(steps[1:3]), "/".join(steps[3:]), fault)
        if path.endswith("/info/refs"):
            return self.git_refs(steps, query)
        return self.answer({"error": "Not Found"}, 404)

    do_HEAD = do_GET

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while True:
                size = int(self.rfile.readline().strip(), 16)
                body += self.rfile.read(size)
                self.rfile.readline()
                if not size:
                    break
        path = urllib.parse.urlsplit(self.path).path
        if path == "/_faults":
            self.hub.faults.append(json.loads(body))
            return self.answer({})
        if path.endswith("/info/lfs/objects/batch"):
            return self.lfs_batch(path, json.loads(body))
        if path.endswith("/git-upload-pack"):
            return self.git_pack(path, body)
        return self.answer({}, 404)

    def do_DELETE(self):
        self.hub.faults.clear()
        self.hub.log.clear()
        self.answer({})

    def do_PUT(self):
        self.answer({"Code": 404, "Success": False}, 404)

    # --- protocols ---

    def huggingface(self, steps, query):
        repository = "/".join(steps[:2])
        if not (self.hub.root / repository).is_dir():
            return self.answer({"error": "Repository not found"}, 404, headers={"X-Error-Code": "RepoNotFound"})
        base, commit = self.hub.root / repository, self.hub.commit(repository)
        if "tree" in steps:
            items = []
            for path in self.hub.files(repository):
                item = {"type": "file", "path": str(path.relative_to(base)), "size": path.stat().st_size}
                if item["size"] >= self.hub.large:
                    item["oid"] = "0" * 40
                    item["lfs"] = {"oid": self.hub.sha256(path), "size": item["size"], "pointerSize": 134}
                else:
                    item["oid"] = git_blob(path)
                items.append(item)
            start = int(query.get("cursor", 0))
            link = {}
            if start + 50 < len(items):
                link["Link"] = f'<{self.here()}{self.path.split("&cursor")[0]}&cursor={start + 50}>; rel="next"'
            return self.answer(items[start : start + 50], headers=link)
        siblings = [{"rfilename": str(path.relative_to(base))} for path in self.hub.files(repository)]
        info = {"_id": "0", "id": repository, "modelId": repository, "sha": commit, "siblings": siblings, "tags": []}
        return self.answer(dict(info, private=False, downloads=0, likes=0))

    def here(self):
        return f"http://{self.headers.get('Host')}"

    def modelscope(self, steps, query, fault):
        repository = "/".join(steps[:2])
        base = self.hub.root / repository
        if not base.is_dir():
            return self.answer({"Code": 10010205001, "Message": "not found", "Success": False}, 404)
        if steps[2:] == ["repo", "files"]:
            items = [
                {
                    "Path": str(path.relative_to(base)),
                    "Name": path.name,
                    "Type": "blob",
                    "Size": path.stat().st_size,
                    "Sha256": self.hub.sha256(path),
                    "Revision": self.hub.commit(repository),
                    "IsLFS": path.stat().st_size >= self.hub.large,
                    "Mode": "33188",
                    "CommittedDate": 1740000000,
                }
                for path in self.hub.files(repository)
            ]
            return self.answer({"Code": 200, "Success": True, "Message": "success", "Data": {"Files": items}})
        if steps[2:] == ["repo"]:
            return self.content(repository, query["FilePath"], fault, redirect=True)
        if steps[2:] == ["revisions"]:
            branches = [{"Revision": "master", "CreatedAt": 1740000000}]
            data = {"RevisionMap": {"Branches": branches, "Tags": []}}
            return self.answer({"Code": 200, "Success": True, "Data": data})
        data = {"Id": 1, "Name": repository.split("/")[1], "Path": repository.split("/")[0], "Visibility": 5}
        return self.answer({"Code": 200, "Success": True, "Data": data})

    def lfs_batch(self, path, request):
        repository = path.strip("/").removeprefix("git/").split(".git")[0]
        by_hash = {self.hub.sha256(file): file for file in self.hub.files(repository)}
        objects = []
        for item in request["objects"]:
            file = by_hash.get(item["oid"])
            if file is None:
                objects.append(dict(item, error={"code": 404, "message": "Object does not exist"}))
                continue
            name = urllib.parse.quote(str(file.relative_to(self.hub.root)))
            objects.append(dict(item, actions={"download": {"href": f"{self.hub.storage}/lfs/{name}"}}))
        return self.answer({"transfer": "basic", "objects": objects}, kind="application/vnd.git-lfs+json")

    def git_directory(self, steps):
        return str(self.hub.root / ".git-repositories" / "/".join(steps))

    def git_refs(self, steps, query):
        directory = self.git_directory(steps[1:3])
        command = ["git", "upload-pack", "--stateless-rpc", "--advertise-refs", directory]
        environment = dict(os.environ, GIT_PROTOCOL=self.headers.get("Git-Protocol", ""))
        refs = subprocess.run(command, capture_output=True, env=environment).stdout
        head = b"# service=git-upload-pack\n"
        body = b"%04x" % (len(head) + 4) + head + b"0000" + refs
        return self.answer(body, kind="application/x-git-upload-pack-advertisement")

    def git_pack(self, path, body):
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        command = ["git", "upload-pack", "--stateless-rpc", self.git_directory(path.strip("/").split("/")[1:3])]
        environment = dict(os.environ, GIT_PROTOCOL=self.headers.get("Git-Protocol", ""))
        done = subprocess.run(command, input=body, capture_output=True, env=environment)
        return self.answer(done.stdout, kind="application/x-git-upload-pack-result")

    # --- bytes ---

    def content(self, repository, name, fault, redirect=False):
        path = self.hub.root / repository / name
        if not path.is_file():
            return self.answer({"error": "Entry not found"}, 404, headers={"X-Error-Code": "EntryNotFound"})
        size = path.stat().st_size
        kind = fault["fault"] if fault else ""
        if kind == "html":
            return self.answer(b"<!DOCTYPE html><html>sign in</html>", kind="text/html")
        if kind == "empty":
            return self.answer(b"", kind="application/octet-stream")
        if kind == "pointer":
            text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.hub.sha256(path)}\nsize {size}\n"
            return self.answer(text.encode(), kind="text/plain")
        headers = {"X-Repo-Commit": self.hub.commit(repository), "Accept-Ranges": "bytes"}
        if redirect and size >= self.hub.large:
            etag = self.hub.sha256(path)
            headers.update({"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(size), "ETag": f'"{etag}"'})
            target = f"{self.hub.storage}/raw/{urllib.parse.quote(f'{repository}/{name}')}?signature=secret"
            if not fault or self.server.server_port == urllib.parse.urlsplit(self.hub.storage).port:
                return self.answer(b"", 302, "text/plain", dict(headers, Location=target))
            with self.hub.lock:  # the fault is for the bytes, on the other port
                self.hub.faults.insert(0, dict(fault, times=1, match=f"/raw/{repository}/{name}"))
            return self.answer(b"", 302, "text/plain", dict(headers, Location=target))
        if kind == "gzip":
            packed = gzip.compress(path.read_bytes())
            return self.answer(packed, kind="application/octet-stream", headers={"Content-Encoding": "gzip"})
        headers["ETag"] = f'"{git_blob(path) if size < self.hub.large else self.hub.sha256(path)}"'
        return self.bytes_of(path, size, headers, fault or {})

    def bytes_of(self, path, size, headers, fault):
        first, last, status = 0, size - 1, 200
        asked = self.headers.get("Range")
        if asked and fault.get("fault") not in ("no_range", "odd_length"):
            low, _dash, high = asked.removeprefix("bytes=").partition("-")
            first = int(low) if low else size - int(high)
            last = min(int(high), size - 1) if high and low else size - 1
            status = 206
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        unknown = fault.get("fault") == "odd_length"
        self.close_connection |= unknown
        self.send_header("Content-Length", "all" if unknown else str(last - first + 1 if size else 0))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD" or not size:
            return
        kind, after = fault.get("fault"), fault.get("after", 0)
        with path.open("rb") as handle:
            handle.seek(first)
            left = last - first + 1
            if kind in ("cut", "wrong", "slow"):
                return self.faulty(handle, left, kind, after)
            self.wfile.flush()
            offset = first
            while left:
                count = os.sendfile(self.connection.fileno(), handle.fileno(), offset, left)
                offset, left = offset + count, left - count

    def faulty(self, handle, left, kind, after):
        sent = 0
        while left:
            step = min(left, 65536 if kind != "slow" else max(1, after // 10))
            if kind == "cut":
                step = min(step, max(0, after - sent))
                if not step:
                    self.close_connection = True
                    return
            block = bytearray(handle.read(step))
            if kind == "wrong" and sent <= after < sent + step:
                block[after - sent] ^= 0xFF
            self.wfile.write(block)
            sent, left = sent + step, left - step
            if kind == "slow":
                time.sleep(0.1)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        pass  # clients that are killed are part of the tests


def serve(root, port=0, storage_port=0, bind="127.0.0.1", large=LARGE, name=None):
    """Start both ports in threads; returns ``(hub, URL, [servers])``."""
    hub = Hub(root, large)
    handler = type("HubHandler", (Handler,), {"hub": hub})
    servers = [Server((bind, port), handler), Server((bind, storage_port), handler)]
    name = name or bind
    hub.storage = f"http://{name}:{servers[1].server_port}"
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    return hub, f"http://{name}:{servers[0].server_port}", servers


@contextlib.contextmanager
def served(root, large=LARGE):
    """A hub for one test, its `url` set."""
    hub, hub.url, servers = serve(root, large=large)
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def make_git(root, repository, large=LARGE):
    """Make the git repository of ``ROOT/<owner>/<name>``: large files as LFS pointers."""
    source, bare = Path(root) / repository, Path(root) / ".git-repositories" / f"{repository}.git"
    work = bare.with_suffix(".work")
    work.mkdir(parents=True)

    def git(*arguments):
        identity = ["-c", "user.name=hub", "-c", "user.email=hub@localhost", "-c", "filter.lfs.clean=cat"]
        options = ["-c", "filter.lfs.process=", "-c", "filter.lfs.required=false", "-C", str(work)]
        subprocess.run(["git", *identity, *options, *arguments], check=True, capture_output=True)

    git("init", "--quiet", "--initial-branch", "main")
    (work / ".gitattributes").write_text("*.gguf filter=lfs diff=lfs merge=lfs -text\n*.bin filter=lfs -text\n")
    for path in Hub(root).files(repository):
        target = work / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.stat().st_size >= large:
            oid = hashlib.sha256(path.read_bytes()).hexdigest()
            target.write_text(
                f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {path.stat().st_size}\n"
            )
        else:
            target.write_bytes(path.read_bytes())
    git("add", "--all")
    git("commit", "--quiet", "--message", "model")
    subprocess.run(["git", "clone", "--quiet", "--bare", str(work), str(bare)], check=True, capture_output=True)
    return bare


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--storage-port", type=int, default=0)
    parser.add_argument("--bind", default="127.0.0.1")
    parser.add_argument("--name", help="host name for the storage port's URLs")
    arguments = parser.parse_args()
    hub, url, _servers = serve(
        arguments.root, arguments.port, arguments.storage_port, arguments.bind, name=arguments.name
    )
    print(url, hub.storage, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
