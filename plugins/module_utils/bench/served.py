# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a measured engine really runs with: its command line and environment without secrets, and the model's files."""

from __future__ import annotations

import hashlib
import os
import re
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.dsdeploy.llm.plugins.module_utils.model import store

HIDDEN = "(hidden)"
MOST = 64 * 1024  # bytes of a command line or an environment
# Options and variables whose value is, or may be, a secret; "--max-tokens" and "--tokenizer" are none.
_SECRET = re.compile(r"(^|[-_])(key|keys|token|secret|password|passwd|passphrase|credentials?)$", re.I)
# Variables that change how an engine computes.
_TELLING = re.compile(
    r"^(VLLM|SGL|SGLANG|LLAMA|GGML|OLLAMA|CUDA|NCCL|NVIDIA|TORCH|PYTORCH|TRITON|FLASHINFER|OMP|DG|HF_HUB_OFFLINE)(_|$)"
)


def is_secret(name: str) -> bool:
    return bool(_SECRET.search(name.strip("-")))


def without_secrets(argv: Sequence[str], secrets: Sequence[str] = ()) -> List[str]:
    """A command line whose secret values are hidden: those of options named so, and any of `secrets`."""
    shown: List[str] = []
    hide = False
    for word in argv:
        name, equals, value = word.partition("=")
        if hide and not (word.startswith("--") and len(word) > 2 and is_secret(name)):
            word, hide = HIDDEN, False
        elif word.startswith("-") and is_secret(name):
            word, hide = (name + "=" + HIDDEN, False) if equals else (word, True)
        for secret in secrets:
            word = word.replace(secret, HIDDEN) if secret else word
        # Credentials in a URL.
        shown.append(re.sub(r"(\w+://)[^/@\s]+@", r"\1" + HIDDEN + "@", word))
    return shown


def telling(environment: Mapping[str, str], secrets: Sequence[str] = ()) -> Dict[str, str]:
    """The variables that matter for speed, without those that are secrets."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if _TELLING.match(name) and not is_secret(name) and not any(secret and secret in value for secret in secrets)
    }


def _words(path: str) -> Optional[List[str]]:
    try:
        with open(path, "rb") as handle:
            data = handle.read(MOST)
    except OSError:
        return None
    return [word.decode("utf-8", "replace") for word in data.split(b"\0")[:-1]]


def process(pid: Optional[int], secrets: Sequence[str] = (), proc: str = "/proc") -> Dict[str, Any]:
    """``{command, variables}`` of a process; None each where that is not told."""
    argv = _words(os.path.join(proc, str(pid), "cmdline")) if pid else None
    pairs = _words(os.path.join(proc, str(pid), "environ")) if pid else None
    environment = dict(pair.partition("=")[::2] for pair in pairs) if pairs is not None else None
    return {
        "command": without_secrets(argv, secrets) if argv else None,
        "variables": None if environment is None else telling(environment, secrets),
    }


def model_files(path: Optional[str]) -> Dict[str, Any]:
    """``{revision, manifest_sha256}`` of the store's model that holds `path`; None each of what the store has not."""
    directory = path if path and os.path.isdir(path) else os.path.dirname(path or "")
    manifest = store.read_manifest(directory) if directory else None
    digest = None
    if manifest is not None:
        with open(os.path.join(directory, store.MANIFEST), "rb") as handle:
            digest = hashlib.sha256(handle.read()).hexdigest()
    return {"revision": (manifest or {}).get("revision"), "manifest_sha256": digest}
