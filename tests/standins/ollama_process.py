# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in Ollama as processes of its own, started from its release archive as the real one would be."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
import standin_ollama
import standin_ollama.archive


class Ollama:
    """`env` is what the next start gets beside its home, its address and its store."""

    def __init__(self, directory, version=standin_ollama.VERSION):
        self.program = directory / "ollama"
        self.program.write_bytes(standin_ollama.archive.program(version))
        self.home, self.models, self.env, self.process, self.port = directory, directory / "models", {}, None, 0
        self.log = directory / "ollama.log"

    def start(self):
        """Start it and wait until it listens; one that ends instead is left as it is, in `process`."""
        environment = {
            "HOME": str(self.home),
            "OLLAMA_HOST": f"127.0.0.1:{self.port}",
            "OLLAMA_MODELS": str(self.models),
            "OLLAMA_NO_CLOUD": "1",
            **self.env,
        }
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(self.program), "serve"],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
            found = re.search(r"Listening on 127.0.0.1:(\d+)", self.said())
            if found:
                self.port = int(found[1])
                break
        return self

    def stop(self, with_signal=signal.SIGTERM):
        """SIGKILL leaves the runner, as it does in reality; it is ended here all the same."""
        if self.process:
            self.process.send_signal(with_signal)
            self.process.wait(10)
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process = None

    def restart(self, with_signal=signal.SIGTERM, **env):
        self.stop(with_signal)
        self.env = env
        return self.start()

    def said(self):
        return self.log.read_text(encoding="utf-8")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def blobs(self):
        directory = self.models / "blobs"
        return sorted(path.name for path in directory.iterdir()) if directory.exists() else []
