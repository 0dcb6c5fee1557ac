# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-in for Ollama, which no registry ships: its release archive, its store and its HTTP API. No model computes.

    python3 tests/standins/standin_ollama archive DIR [VERSION]   write ollama-linux-ARCH.tar.zst (.tgz before 0.14)
                                                                  and sha256sum.txt

The archive holds bin/ollama (this package as one executable file) and lib/ollama/ like the real one. Written after the
source of Ollama 0.24.0. What it answers is held against the answers of the real server by test_ollama_contract.py. From
0.30 on it writes weights anew, as the real one does. `ollama serve` honours HOME and OLLAMA_HOST, _MODELS, _KEEP_ALIVE,
_CONTEXT_LENGTH, _NUM_PARALLEL, _MAX_LOADED_MODELS, _KV_CACHE_TYPE, _ORIGINS, _NO_CLOUD and _NOPRUNE.

What tests ask of it, by environment variables:
    STANDIN_OLLAMA_GPU_LAYERS   layers that its GPUs take (0: it has none)
    STANDIN_OLLAMA_CUT_UPLOADS  bytes after which it cuts the connection of every upload
    STANDIN_OLLAMA_UPLOAD_RATE  bytes a second that it takes of an upload
    STANDIN_OLLAMA_REGISTRY     directory of NAME.gguf files that can be pulled
    STANDIN_OLLAMA_CLOUD        base URL that it asks instead of https://ollama.com:443; without it such a request is
                                only written to the log
    STANDIN_OLLAMA_CRASH        text that `serve` dies with when it starts
"""

from __future__ import annotations

VERSION = "0.24.0"


def version_tuple(text=None):
    return tuple(int(part) for part in (text or VERSION).split(".")[:3])


def write_archive(directory, version=VERSION):
    """Write the archive of a release and its sha256sum.txt; returns (path, sha256)."""
    from standin_ollama import archive

    return archive.write(directory, version)
