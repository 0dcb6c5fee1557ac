# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# ruff: noqa: E501
import copy
import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.catalog import (
    check_catalog,
    check_entry,
    resolve,
    total_bytes,
)

ROOT = Path(__file__).resolve().parents[5]

CATALOG = yaml.safe_load(
    (ROOT / "roles/model/defaults/main/catalog.yml").read_text().replace("{{ dsdeploy_data_dir }}", "/var/lib/dsdeploy")
)["model_catalog"]
SMOL = CATALOG["smollm2-135m-instruct"]


OTHERS = yaml.safe_load((ROOT / "roles/model/defaults/main/catalog_others.yml").read_text())["_model_catalog_others"]


def test_shipped_catalog_is_sound():
    assert check_catalog(CATALOG) == []
    assert check_catalog(OTHERS) == []
    assert not set(CATALOG) & set(OTHERS)


def test_seed_sizes():
    assert total_bytes(CATALOG["deepseek-r1-q4_k_m"]) == 404430187616


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        (["format"], "onnx", "model m: format: expected one of gguf, safetensors, found 'onnx'"),
        (["architecture", "layers"], "30", "model m: architecture.layers: expected a whole number, 1 or more, found '30'"),
        (["architecture", "layers"], True, "model m: architecture.layers: expected a whole number, 1 or more, found True"),
        (["engines"], [], "model m: engines: expected a list of at least 1, found []"),
        (["licens"], "x", "model m: licens: expected licence, found this unknown key"),
        (["sources", 0, "kind"], "pipy", "model m: sources[0].kind: expected one of pypi, huggingface, modelscope, url, git_lfs, path, generated; did you mean pypi?, found 'pipy'"),
        (["sources", 0, "sha256"], "abc", "model m: sources[0].sha256: expected 64 hexadecimal digits (sha256), found 'abc'"),
        (["files", 0, "path"], "../x", "model m: files[0].path: expected a path below the model's directory (relative, no '..'), found '../x'"),
        (["files", 0, "path"], "/etc/x", "model m: files[0].path: expected a path below the model's directory (relative, no '..'), found '/etc/x'"),
        (["unverified"], ["architecture.layer"], "model m: unverified: expected the path of a fact of this entry, found 'architecture.layer'"),
        (["serve"], "other.gguf", "model m: serve: expected one of its files, found 'other.gguf'"),
        (["recipes"], {"vllm": [{"started": [{"gpus": "1 x L40", "engine": "0.32.0"}]}]}, "model m: recipes.vllm[0].started[0].ready_s: expected this key to be set, found nothing"),
        (["recipes"], {"vllm": [{"started": [{"gpus": "1 x L40", "engine": "0.32.0", "ready_s": 0}]}]}, "model m: recipes.vllm[0].started[0].ready_s: expected a number above 0, found 0"),
    ],
)  # fmt: skip
def test_wrong_field_gives_one_line(path, value, line):
    entry = copy.deepcopy(SMOL)
    place = entry
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert check_entry("m", entry) == [line]


def test_missing_fields_and_wrong_shape():
    assert check_entry("m", {"format": "gguf", "sources": SMOL["sources"], "files": SMOL["files"]}) == [
        "model m: engines: expected this key to be set, found nothing"
    ]
    assert "expected a mapping" in check_entry("m", ["x"])[0]
    assert "model_catalog_extra: expected a mapping" in check_catalog({}, ["x"])[0]
    assert "name: expected letters" in check_entry("../evil", SMOL)[0]


def test_name_is_case_insensitive_and_extra_wins():
    assert resolve(CATALOG, {}, "SmolLM2-135M-Instruct", "llama_cpp")["name"] == "smollm2-135m-instruct"
    extra = {"smollm2-135m-instruct": dict(SMOL, title="mine")}
    assert resolve(CATALOG, extra, "smollm2-135m-instruct")["title"] == "mine"


def test_unknown_model_did_you_mean():
    with pytest.raises(Failure) as error:
        resolve(CATALOG, {}, "smollm2-135-instruct", "llama_cpp")
    line = "model smollm2-135-instruct is not in the catalog; did you mean smollm2-135m-instruct"
    assert error.value.problems[0].startswith(line)


def test_engine_that_cannot_serve_it():
    with pytest.raises(Failure) as error:
        resolve(CATALOG, {}, "deepseek-r1-q4_k_m", "vllm")
    assert error.value.problems == [
        "model deepseek-r1-q4_k_m (Q4_K_M) is not served by engine vllm; engines that serve it: llama_cpp, ollama"
    ]
    assert "that vllm serves: deepseek-r1-awq, deepseek-r1," in error.value.hint


@pytest.mark.parametrize(
    ("path", "name", "model_format"),
    [
        ("/models/a/My-00001-of-00003.gguf", "My", "gguf"),
        ("/models/a/b.gguf", "b", "gguf"),
        ("/models/DeepSeek-R1-awq/", "DeepSeek-R1-awq", None),
    ],
)
def test_absolute_path(path, name, model_format):
    entry = resolve(CATALOG, {}, path, "vllm")
    assert (entry["name"], entry.get("format")) == (name, model_format)
    assert entry["sources"] == [{"kind": "path", "path": path.rstrip("/")}]
    # What preflight looks at before anything is installed: whether the engine's user gets there.
    assert entry["path"] == path.rstrip("/")


def test_an_entry_of_the_user_s_own_that_names_a_path_has_it_too():
    mine = dict(SMOL, sources=[{"kind": "path", "path": "/srv/mine.gguf"}])
    assert resolve(CATALOG, {"mine": mine}, "mine")["path"] == "/srv/mine.gguf"
    assert "path" not in resolve(CATALOG, {}, "smollm2-135m-instruct")


def test_a_repository_of_the_hubs():
    entry = resolve(CATALOG, {}, "Qwen/Qwen2.5-7B-Instruct", "vllm")
    assert (entry["name"], entry["format"]) == ("Qwen2.5-7B-Instruct", "safetensors")
    ids = [(source["kind"], source["id"]) for source in entry["sources"]]
    assert ids == [(kind, "Qwen/Qwen2.5-7B-Instruct") for kind in ("modelscope", "huggingface")]


@pytest.mark.parametrize(
    ("attention", "line"),
    [
        ([{"kind": "quantum", "layers": [0]}], "attention[0].kind: expected one of full, latent, indexed, sliding"),
        ([{"kind": "full"}], "attention[0].layers: expected this key to be set"),
        ([{"kind": "sliding", "layers": [0], "window": 0}], "window: expected a whole number, 1 or more"),
        ([{"kind": "full", "layers": [0], "windows": 5}], "windows: expected window, found this unknown key"),
    ],
)
def test_the_schema_of_attention(attention, line):
    facts = dict(SMOL["architecture"], attention=attention)
    (problem,) = check_entry("m", dict(SMOL, architecture=facts))
    assert line in problem


@pytest.mark.parametrize(
    ("path", "line"),
    [("models/x.gguf", "is not absolute"), ("/m/x-00002-of-00009.gguf", "is shard 2 of 9"), ("", "no model is named")],
)
def test_bad_path(path, line):
    with pytest.raises(Failure, match=line):
        resolve(CATALOG, {}, path)


def test_every_entry_has_the_sha256_of_its_files_or_says_why_not():
    for name, entry in dict(CATALOG, **OTHERS).items():
        files = entry.get("files") or []
        pinned = bool(files) and all("sha256" in item for item in files)
        assert pinned != ("unpinned" in entry), name
        if pinned:
            assert any(item["path"].endswith((".gguf", ".safetensors")) for item in files), name


def test_the_documents_name_what_is_pinned():
    pinned = {name for name, entry in dict(CATALOG, **OTHERS).items() if "unpinned" not in entry}
    text = " ".join((ROOT / "roles/model/README.md").read_text(encoding="utf-8").split())
    named = text.partition("Pinned today: ")[2].partition(" and the tiny test models")[0]
    assert set(re.findall(r"`([^`]+)`", named)) == {name for name in pinned if not name.startswith("tiny-")}
    assert "SmolLM2 135M, and DeepSeek R1's distilled Qwen 1.5B and Llama 8B are" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("value", [{}, [], {"a": "x"}, {"../a": "0" * 64}, {"a": None}, {".dsdeploy-x": "0" * 64}])
def test_hashes_that_are_none(value):
    assert len(check_entry("m", dict(copy.deepcopy(SMOL), hashes=value))) == 1


@pytest.mark.parametrize(
    "revision",
    ["..", ".", "../x", "a/../b", "-x", "--upload-pack=x", "", "a b", "a\nb", "/x", "x/", "a.lock", ".x", "x" * 201, 5],
)
def test_a_revision_is_a_branch_a_tag_or_a_commit(revision):
    entry = copy.deepcopy(SMOL)
    entry["revision"] = revision
    (line,) = check_entry("m", entry)
    assert line.startswith("model m: revision: expected a branch, tag or commit") and "\n" not in line
    entry = copy.deepcopy(SMOL)
    entry["sources"] = [{"kind": "huggingface", "id": "a/b", "revision": revision}]
    assert any("sources[0].revision: expected a branch, tag or commit" in line for line in check_entry("m", entry))


@pytest.mark.parametrize("revision", ["main", "0.1.2", "refs/pr/1", "v1.0+cpu", "a" * 40, "release-2_x"])
def test_what_is_a_revision(revision):
    entry = copy.deepcopy(SMOL)
    entry["revision"] = revision
    assert check_entry("m", entry) == []


def test_a_password_in_an_address_is_refused_and_not_said():
    entry = copy.deepcopy(SMOL)
    entry["sources"] = [{"kind": "git_lfs", "url": "https://me:planted@git.example/x"}]
    lines = [line for line in check_entry("m", entry) if "sources[0].url" in line]
    assert len(lines) == 1 and "without user and password" in lines[0] and "planted" not in lines[0]


@pytest.mark.parametrize("repository", ["../..", "a/..", "./b", "a/b\n", "a/b/c", "模型/x", "a", "/a", "-x/y"])
def test_a_repository_is_owner_and_name(repository):
    entry = copy.deepcopy(SMOL)
    entry["sources"] = [{"kind": "huggingface", "id": repository}]
    assert any("sources[0].id: expected owner/name" in line for line in check_entry("m", entry))


@pytest.mark.parametrize(
    ("path", "value"), [(["sources", 0, "sha256"], "a" * 64 + "\n"), (["files", 0, "sha256"], "a" * 64 + "\n")]
)
def test_a_line_break_at_the_end_is_no_part_of_a_value(path, value):
    entry = copy.deepcopy(SMOL)
    place = entry
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert any("64 hexadecimal digits" in line and "\n" not in line for line in check_entry("m", entry))
    assert any("name" in line for line in check_entry("m\n", copy.deepcopy(SMOL)))
