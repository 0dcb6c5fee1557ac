# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OLLAMA_MODELS: blobs/sha256-…, manifests/HOST/NAMESPACE/MODEL/TAG; and names of models."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import time
from typing import NamedTuple

from standin_ollama import go

DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})\Z")
DEFAULT_HOST, DEFAULT_NAMESPACE = "registry.ollama.ai", "library"
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}\Z"
_PARTS = (re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}\Z"), re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}\Z"),
          re.compile(_PART), re.compile(_PART))  # fmt: skip
PRUNE_AFTER_S = 3600
IMAGE = "application/vnd.ollama.image."
WEIGHTS = IMAGE + "model"
CONFIG = "application/vnd.docker.container.image.v1+json"


class Refused(Exception):
    """An answer with an error."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


class Name(NamedTuple):
    host: str
    namespace: str
    model: str
    tag: str

    @classmethod
    def parse(cls, text):
        """None for what is no name."""
        tag = "latest"
        if text.rfind(":") > text.rfind("/"):
            text, _colon, tag = text.rpartition(":")
        rest, _slash, model = text.rpartition("/")
        host, _slash, namespace = rest.rpartition("/")
        name = cls(host or DEFAULT_HOST, namespace or DEFAULT_NAMESPACE, model, tag)
        return name if all(form.match(part) for form, part in zip(_PARTS, name, strict=True)) else None

    @property
    def shortest(self):
        before = ""
        if self.host.lower() != DEFAULT_HOST:
            before = f"{self.host}/{self.namespace}/"
        elif self.namespace.lower() != DEFAULT_NAMESPACE:
            before = self.namespace + "/"
        return f"{before}{self.model}:{self.tag}"

    def __str__(self):
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"


class Manifest(NamedTuple):
    name: Name
    layers: list
    config: dict
    digest: str
    changed: int  # ns

    def all_layers(self):
        return [*self.layers, self.config]


class Store:
    def __init__(self, directory):
        self.directory = directory
        self.blobs = os.path.join(directory, "blobs")
        self.manifests = os.path.join(directory, "manifests")

    def open(self, prune):
        """What a start does: the directories, and blobs that nobody needs and that are an hour old. Raises OSError."""
        os.makedirs(self.blobs, exist_ok=True)
        names = os.listdir(self.blobs)
        if not prune:
            return
        os.makedirs(self.manifests, exist_ok=True)
        old = [name for name in names if time.time() - os.stat(f"{self.blobs}/{name}").st_mtime > PRUNE_AFTER_S]
        used = self.used()
        for name in old:
            if not DIGEST.match(name) or name.replace("-", ":") not in used:
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(self.blobs, name))
        self._prune_directories(self.manifests)

    def _prune_directories(self, path):
        for entry in os.listdir(path):
            if os.path.isdir(os.path.join(path, entry)):
                self._prune_directories(os.path.join(path, entry))
        if not os.listdir(path):
            os.rmdir(path)

    # --- blobs ---

    def blob(self, digest):
        if not DIGEST.match(digest):
            raise Refused(400, "invalid digest format")
        os.makedirs(self.blobs, exist_ok=True)
        return os.path.join(self.blobs, digest.replace(":", "-"))

    def receive(self, chunks):
        """(digest, bytes, whether it is new) of a blob. One that nobody finishes is left where the server is killed."""
        temporary = os.path.join(self.blobs, f"sha256-{random.randrange(1 << 32)}")
        os.makedirs(self.blobs, exist_ok=True)
        sha256, size = hashlib.sha256(), 0
        try:
            with open(temporary, "xb", buffering=0) as out:
                for chunk in chunks:
                    out.write(chunk)
                    sha256.update(chunk)
                    size += len(chunk)
            digest = "sha256:" + sha256.hexdigest()
            new = not os.path.exists(self.blob(digest))
            if new:
                os.chmod(temporary, 0o644)
                os.replace(temporary, self.blob(digest))
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        os.utime(self.blob(digest))
        return digest, size, new

    def layer(self, kind, content):
        """(layer, the status that a create tells of it)"""
        digest, size, new = self.receive([content])
        kind = kind if "/" in kind else IMAGE + kind
        status = f"{'creating new' if new else 'using existing'} layer {digest}"
        return {"mediaType": kind, "digest": digest, "size": size}, status

    def layer_of(self, digest, kind, origin):
        size = os.path.getsize(self.blob(digest))
        return {"mediaType": kind, "digest": digest, "size": size, "from": origin}, f"using existing layer {digest}"

    def text(self, manifest, kind):
        """The texts of the layers of one kind."""
        found = []
        for layer in manifest.layers:
            if layer["mediaType"] == IMAGE + kind:
                with open(self.blob(layer["digest"]), encoding="utf-8") as handle:
                    found.append(handle.read())
        return found

    def drop_layer(self, layer):
        if layer["digest"] not in self.used():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.blob(layer["digest"]))

    def used(self):
        return {layer["digest"] for manifest in self.all() for layer in manifest.all_layers()}

    # --- manifests ---

    def path(self, name):
        return os.path.join(self.manifests, *name)

    def all(self):
        found = []
        for base, _directories, files in os.walk(self.manifests):
            for file in sorted(files):
                parts = os.path.relpath(os.path.join(base, file), self.manifests).split("/")
                if len(parts) == 4:
                    found.append(self.read(Name(*parts)))
        return found

    def read(self, name):
        """The manifest of exactly this name; None where there is none."""
        try:
            with open(self.path(name), "rb") as handle:
                text = handle.read()
                changed = os.fstat(handle.fileno()).st_mtime_ns
        except FileNotFoundError:
            return None
        value = json.loads(text)
        return Manifest(name, value["layers"], value["config"], hashlib.sha256(text).hexdigest(), changed)

    def existing(self, name):
        """The name as it is written in the store: case makes no difference."""
        for manifest in self.all():
            pairs = zip(manifest.name, name, strict=True)
            name = Name(*(there if there.lower() == part.lower() else part for there, part in pairs))
        return name

    def write(self, name, config, layers):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        value = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": config,
            "layers": layers,
        }
        with open(self.path(name), "w", encoding="utf-8") as handle:
            handle.write(go.dumps(value) + "\n")

    def remove(self, manifest):
        os.unlink(self.path(manifest.name))
        self._prune_directories(self.manifests)
        self.drop(manifest)

    def drop(self, manifest):
        """Remove the blobs of a manifest that is no more and that no other one has."""
        used = self.used()
        for layer in manifest.all_layers():
            if layer["digest"] not in used:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.blob(layer["digest"]))
