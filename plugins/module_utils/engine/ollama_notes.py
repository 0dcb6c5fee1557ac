# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of files and of models in Ollama's store from earlier runs, in a file of ours.

`files`: {path: {bytes, mtime_ns, inode, sha256}}. `models`: {"URL NAME": {digest, weights, request, of, loaded}}, where
`of` is the model's name in the catalog and `loaded` the digest that /api/ps shows of it: a runner that needs no other
options keeps that of the model that it was loaded for.
"""

from __future__ import annotations

import json
import os
from typing import Any, Dict, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.ollama import qualified
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import write_durably


def identity(path: str) -> List[int]:
    """What changes with a file's content: [bytes, mtime_ns, inode]."""
    stat = os.stat(path)
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


class Notes:
    """A file that is none of ours, or broken, is one that knows nothing: what it knew is found out again."""

    def __init__(self, path: str) -> None:
        self.path = path
        found: Any = None
        try:
            found = foreign.read(path).value
        except (OSError, Failure):
            pass
        self.files: Dict[str, Dict[str, Any]] = _dicts(found, "files")
        self.models: Dict[str, Dict[str, Any]] = _dicts(found, "models")

    def write(self) -> None:
        text = json.dumps({"files": self.files, "models": self.models}, indent=1, sort_keys=True)
        write_durably(self.path, text + "\n")

    def sha256(self, path: str) -> Optional[str]:
        note = self.files.get(path) or {}
        same = [note.get("bytes"), note.get("mtime_ns"), note.get("inode")] == identity(path)
        return note.get("sha256") if same else None

    def note_file(self, path: str, sha256: str) -> None:
        size, mtime_ns, inode = identity(path)
        self.files[path] = {"bytes": size, "mtime_ns": mtime_ns, "inode": inode, "sha256": sha256}
        self.write()

    def made(self) -> Dict[str, Dict[str, Any]]:
        """The models that dsdeploy made, by their qualified name in lower case, whatever the server's address was."""
        return {qualified(key.rpartition(" ")[2]).lower(): note for key, note in self.models.items()}

    def forget(self, name: str) -> bool:
        """Drop what is noted of a model; whether there was anything."""
        wanted = qualified(name).lower()
        keys = [key for key in self.models if qualified(key.rpartition(" ")[2]).lower() == wanted]
        for key in keys:
            del self.models[key]
        return bool(keys)


def _dicts(found: Any, name: str) -> Dict[str, Dict[str, Any]]:
    values = found.get(name) if isinstance(found, dict) else None
    if not isinstance(values, dict):
        return {}
    return {key: value for key, value in values.items() if isinstance(value, dict)}
