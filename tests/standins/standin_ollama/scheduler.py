# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which models are loaded. The key of a runner is the path of its weights, whatever names there are for them.

So a model that was made anew stays as it was loaded until a request needs other options of the runner, and a second
name for the same weights never shows up in /api/ps while the first one is loaded.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time

from standin_ollama import go
from standin_ollama.gguf import Gguf
from standin_ollama.models import RUNNER

KV_BYTES = {"f16": 2, "q8_0": 1, "q4_0": 0.5}


class Runner:
    def __init__(self, model, options, settings):
        self.model, self.digest = model, model.manifest.digest
        self.options = {name: options[name] for name in RUNNER}
        gguf = Gguf(model.path)
        trained = gguf.of_architecture("context_length")
        self.context = min(options["num_ctx"], trained or options["num_ctx"])
        kv = KV_BYTES.get(settings.text("OLLAMA_KV_CACHE_TYPE") or "f16", 2)
        self.size = gguf.tensor_bytes + gguf.kv_bytes(self.context * settings.number("OLLAMA_NUM_PARALLEL", 1), kv)
        layers = gguf.of_architecture("block_count") + 1
        asked = options["num_gpu"]
        on_gpu = min(settings.number("STANDIN_OLLAMA_GPU_LAYERS"), layers if asked < 0 else asked, layers)
        self.size_vram = self.size * on_gpu // layers
        self.keep = 0  # ns
        self.expires = 0  # time.time_ns()
        print(f"offloaded {on_gpu}/{layers} layers to GPU", flush=True)
        self.process = self._start(model.path)

    def _start(self, path):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        arguments = [sys.executable, sys.argv[0], "runner", "--model", path, "--port", str(self.port)]
        print(f'msg="starting runner" cmd="{" ".join(arguments[1:])}"', flush=True)
        process = subprocess.Popen(arguments)
        while not self.answers() and process.poll() is None:
            time.sleep(0.02)
        return process

    def answers(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 5).close()
        except OSError:
            return False
        return True

    def needs_reload(self, options):
        old, new = dict(self.options), {name: options[name] for name in RUNNER}
        if new["num_gpu"] < 0:
            old["num_gpu"] = -1
        return old != dict(new, num_gpu=max(new["num_gpu"], -1)) or not self.answers()

    def end(self):
        self.process.kill()
        self.process.wait()


class Scheduler:
    def __init__(self, settings):
        self.settings = settings
        self.loaded = {}  # path of the weights: Runner
        self.lock = threading.RLock()

    def run(self, model, options, keep_alive):
        """A loaded runner for a request. keep_alive in ns; None: the server's."""
        options = dict(options, num_ctx=max(options["num_ctx"], 4))
        with self.lock:
            self._expire()
            runner = self.loaded.get(model.path)
            if runner is None or runner.needs_reload(options):
                self.unload(model.path)
                limit = self.settings.number("OLLAMA_MAX_LOADED_MODELS") or 3
                while len(self.loaded) >= limit:
                    self.unload(min(self.loaded, key=lambda path: (self.loaded[path].keep, path)))
                runner = Runner(model, options, self.settings)
                runner.keep = go.setting_duration(self.settings.text("OLLAMA_KEEP_ALIVE"), 300 * 10**9)
                self.loaded[model.path] = runner
            if keep_alive is not None:
                runner.keep = keep_alive
            return runner

    def done(self, runner):
        """The request has ended."""
        with self.lock:
            runner.expires = time.time_ns() + runner.keep
            if runner.keep <= 0 and self.loaded.get(runner.model.path) is runner:
                self.unload(runner.model.path)

    def unload(self, path):
        with self.lock:
            runner = self.loaded.pop(path, None)
            if runner:
                runner.end()

    def _expire(self):
        for path in [path for path, runner in self.loaded.items() if 0 < runner.expires < time.time_ns()]:
            self.unload(path)

    def ps(self):
        with self.lock:
            self._expire()
            runners = sorted(self.loaded.values(), key=lambda runner: -runner.expires)
        return [
            {
                "name": runner.model.name.shortest,
                "model": runner.model.name.shortest,
                "size": runner.size,
                "digest": runner.digest,
                "details": runner.model.details(),
                "expires_at": go.instant(runner.expires or time.time_ns() + runner.keep),
                "size_vram": runner.size_vram,
                "context_length": runner.context,
            }
            for runner in runners
        ]

    def end(self):
        with self.lock:
            for path in list(self.loaded):
                self.unload(path)


class Settings:
    """The environment, trimmed as Ollama does."""

    def __init__(self, environment):
        self.environment = environment

    def text(self, name):
        return (self.environment.get(name) or "").strip().strip("\"'")

    def number(self, name, default=0):
        text = self.text(name)
        return int(text) if text.isdigit() else default

    def on(self, name):
        """strconv.ParseBool; what it cannot read is true."""
        return self.text(name) not in ("", "0", "f", "F", "false", "FALSE", "False")

    @property
    def models(self):
        return self.text("OLLAMA_MODELS") or os.path.join(self.home, ".ollama", "models")

    @property
    def home(self):
        if not self.environment.get("HOME"):
            raise OSError("$HOME is not defined")
        return self.environment["HOME"]
