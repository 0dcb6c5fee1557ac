# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every small file that a run leaves for the next one, damaged in every way: it counts as not there, or is refused in
one line that names it; it is never followed, waited for or read without end, and it stays as it is."""

import json
import os
import random
import tracemalloc

import mutations
import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.builds import prefix, venv_stamp
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import api_key, ollama_notes, ollama_store
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf import journal as merge_journal
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import firewall, lock, owned, supervisor_place
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import admin
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import store as model_store
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import deployments, launcher, managers
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.chunk_journal import CHUNK, PartFile

CONTENT = {
    "empty": b"", "list": b"[]", "number": b"5", "null": b"null", "random": random.Random(3).randbytes(300),
    "not-utf-8": b'{"engine": "\xff\xfe"}', "nul": bytes(4096), "deep": b"[" * 100_000,
}  # fmt: skip
KINDS = [*CONTENT, "cut", "directory", "link", "broken-link", "looped-link", "pipe", "1-GiB"]
NO_FILE = ("directory", "looped-link", "pipe")
OURS = lock.holder_of(os.getpid(), "me@here", "2026-01-01T00:00:01Z")
RECORD = {"engine": "vllm", "endpoint": "http://127.0.0.1:8000", "api": "openai", "model": "m",
          "service": {"name": "dsdeploy-vllm", "manager": "systemd"}}  # fmt: skip
SHARD = {"name": "a", "size": 9, "mtime_ns": 1, "header_digest": "x", "data_start": 1, "data_bytes": 8, "target": 1}
PLAN = {"directory": "/d", "inode": 1, "header_digest": "x", "header_bytes": 1, "total": 9, "tensor_count": 1}
WEIGHTS = {"digest": "sha256:" + "1d" * 32, "mediaType": "application/vnd.ollama.image.model"}


def damage(path, kind):
    whole = path.read_bytes()
    path.unlink()
    if kind == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "directory":
        path.mkdir()
    elif kind == "link":
        (path.parent / "precious").write_bytes(b"somebody else's")
        path.symlink_to(path.parent / "precious")
    elif kind == "broken-link":
        path.symlink_to(path.parent / "gone")
    elif kind == "looped-link":
        path.symlink_to(path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "1-GiB":
        with path.open("wb") as handle:
            handle.truncate(2**30)
    else:
        path.write_bytes(CONTENT[kind])


def state(directory):
    """What must not change by reading."""
    return sorted((path.name, os.lstat(path).st_mode, os.lstat(path).st_size, os.lstat(path).st_mtime_ns)
                  for path in directory.iterdir())  # fmt: skip


def program(directory):
    (directory / "bin").mkdir()
    for name in ("python", "program"):
        (directory / "bin" / name).write_text("x")
        (directory / "bin" / name).chmod(0o755)


def records(path):
    found, problems = deployments.read_records(str(path.parent))
    if problems:
        raise Failure(str(problems[0]))
    return found


# What a file is, by name: its file's name, a good content, how it is read, and what counts as "not there".
# With `refuses` a damaged one fails: it may hold what nothing else knows.
READERS = {
    "record": ("vllm.json", RECORD, records, [], True),
    "record, of the models": ("vllm.json", RECORD, lambda path: admin.served_paths(str(path.parent)),
                              [("vllm.json", "", "")], False),
    "owned": ("owned.json", {"users": {"x": {"uid": 5, "home": "/h"}}}, lambda path: owned.load(str(path)),
              {kind: {} for kind in owned.KINDS}, True),
    "firewall": ("vllm.json", [{"manager": "ufw", "network": "10.0.0.0/8", "port": 8000}],
                 lambda path: firewall.read(str(path)), [], True),
    "host": ("host.json", {"supervisor": "/s", "log_dir": "/l"}, lambda _path: supervisor_place.read_host(), {}, False),
    "manifest": (model_store.MANIFEST, {"version": 1, "format": "gguf", "name": "m", "source": {}, "files": [
        {"path": "a", "bytes": 1, "sha256": "a" * 64, "mtime_ns": 1}]},
        lambda path: model_store.read_manifest(str(path.parent)), None, False),
    "environment": (venv_stamp.STAMP, {"requirements": ["a==1"]}, lambda path: venv_stamp.read_stamp(str(path.parent)),
                    None, False),
    "build": (prefix.STAMP, {"identity": "i", "cmake_args": [], "programs": {"program": 1}},
              lambda path: prefix.read_stamp(str(path.parent)), None, False),
    "ollama notes": ("notes.json", {"models": {"x": {}}}, lambda path: ollama_notes.Notes(str(path)).models, {}, False),
    "ollama manifest": ("manifests/registry.ollama.ai/library/m/latest", {"layers": [WEIGHTS], "config": WEIGHTS},
                        lambda path: ollama_store.models(str(path.parents[4])), [], False),
    "merge": (".m.gguf.merge-journal",
              {"format": merge_journal.FORMAT, "plan": dict(PLAN, shards=[SHARD]), "durable": 1},
              lambda path: merge_journal.read_entry(str(path.parent / "m.gguf")), None, False),
    "revision": ("it.revision", "r1", lambda path: launcher.read_note(str(path)), "", False),
    "unit": ("it.service", managers.MARK, lambda path: managers.is_marked(str(path)), False, False),
    "key": ("key", "sk-1", lambda path: api_key.read(str(path)), None, True),
}  # fmt: skip


# An empty list of rules is one, and some words could be a key.
PLAIN = [("firewall", "list"), *(("key", kind) for kind in ("list", "number", "null", "cut"))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_file(reader, kind, tmp_path, monkeypatch):
    name, good, read, nothing, refuses = READERS[reader]
    path = tmp_path / name
    monkeypatch.setattr(places, "HOST", str(path))
    program(tmp_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(good if isinstance(good, str) else json.dumps(good))
    assert read(path) not in (nothing, None, [])
    damage(path, kind)
    before = state(path.parent)
    tracemalloc.start()
    try:
        found = read(path)
    except (Failure, OSError) as error:
        assert refuses or (
            isinstance(error, OSError) and reader == "merge" and kind in (*NO_FILE, "link", "broken-link")
        )
        mutations.assert_one_line(error)
        assert str(path) in str(error)
    else:
        # A text of which any word is one is what it says; it is compared with another one.
        if reader != "revision" and (reader, kind) not in PLAIN:
            assert found == nothing
            assert not refuses or kind == "broken-link"
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 200 * 2**20
    assert state(path.parent) == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_lock_is_free_or_refused(kind, tmp_path):
    path = tmp_path / "lock"
    lock.take(str(path), dict(OURS, pid=1, started="5"))
    damage(path, kind)
    if kind in (*NO_FILE, "link", "broken-link"):
        with pytest.raises(Failure) as caught:
            lock.take(str(path), OURS)
        mutations.assert_one_line(caught.value)
        assert str(path) in str(caught.value) and caught.value.hint
    else:
        assert lock.take(str(path), OURS) == OURS
        assert path.stat().st_size < 4096


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_journal_is_begun_again_or_refused(kind, tmp_path):
    part = PartFile(str(tmp_path / "m"), 2 * CHUNK, "x", boot="a")
    part.write(memoryview(b"x" * CHUNK), 0)
    part.mark(0, CHUNK)
    part.close()
    damage(tmp_path / "m.journal", kind)
    if kind in ("directory", "pipe"):
        with pytest.raises(Failure) as caught:
            PartFile(str(tmp_path / "m"), 2 * CHUNK, "x", boot="a")
        assert str(tmp_path / "m.journal") in str(caught.value)
    else:
        again = PartFile(str(tmp_path / "m"), 2 * CHUNK, "x", boot="a")
        assert again.missing() == [(0, 2 * CHUNK)]
        again.close()
    if kind == "link":
        assert (tmp_path / "precious").read_bytes() == b"somebody else's"
