"""Make what the scenario downloads: the stand-in's release archive, and a split model with its entry of the catalog;
in mirror.tar as a mirror has them.

usage: make_release.py DIR
"""

import hashlib
import json
import sys
import tarfile
from pathlib import Path

TESTS = Path(__file__).parents[2] / "tests"
sys.path[:0] = [str(TESTS / "standins"), str(TESTS / "unit/plugins/module_utils/gguf")]
import gguf_files  # noqa: E402
import standin_ollama  # noqa: E402

directory = Path(sys.argv[1])
standin_ollama.write_archive(str(directory))
split = directory / "split"
split.mkdir(exist_ok=True)
files = [
    {"path": path.name, "bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    for path in gguf_files.write_set(split, gguf_files.model(seed=1, shards=3, big=1 << 20).shards())
]
entry = {
    "format": "gguf",
    "engines": ["ollama"],
    "revision": "main",
    "sources": [{"kind": "url", "base": "http://127.0.0.1:8099/split"}],
    "files": files,
}
(directory / "catalog.json").write_text(json.dumps({"split": entry}), encoding="utf-8")
with tarfile.open(directory / "mirror.tar", "w") as mirror:
    mirror.add(split, "split")
    for path in directory.glob("ollama-linux-*"):
        url = f"https:/github.com/ollama/ollama/releases/download/v{standin_ollama.VERSION}/{path.name}"
        mirror.add(path, url)
