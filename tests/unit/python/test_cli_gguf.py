# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`dsdeploy gguf`: arguments, output and exit codes over real files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dsdeploy.cli import cli

sys.path.insert(0, str(Path(__file__).parents[1] / "plugins" / "module_utils" / "gguf"))
import gguf_files as files  # noqa: E402

MODEL = files.model(70)


@pytest.fixture
def shards(tmp_path):
    (tmp_path / "set").mkdir()
    return files.write_set(tmp_path / "set", MODEL.shards())


def run(*arguments):
    """(exit code, stdout, stderr)"""
    done = CliRunner().invoke(cli, ["gguf", *map(str, arguments)], standalone_mode=False)
    if done.exception:
        raise done.exception
    return done.return_value, done.stdout, done.stderr


def test_merge(tmp_path, shards):
    dest = tmp_path / "out.gguf"
    code, out, _err = run("merge", "--check", shards[0], dest)
    assert code == 0 and "would be merged" in out and " free, has " in out and not dest.exists()
    code, out, _err = run("merge", shards[0], dest)
    assert code == 0 and out.startswith(f"{dest}: is merged (") and dest.read_bytes() == MODEL.merged()
    assert run("merge", shards[0], dest)[1].startswith(f"{dest}: complete already")
    assert run("merge", "--consume", tmp_path / "set", dest)[1].endswith("3 shards removed\n")
    assert list((tmp_path / "set").iterdir()) == []


def test_merge_as_json(tmp_path, shards):
    code, out, _err = run("merge", "--json", shards[0], tmp_path / "out.gguf")
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and {event["event"] for event in events[:-1]} == {"progress"}
    assert events[-1]["event"] == "result" and events[-1]["bytes"] == len(MODEL.merged()) and events[-1]["changed"]


def test_failures_name_the_file_and_what_to_do(tmp_path, shards):
    shards[1].write_bytes(shards[1].read_bytes()[:-50])
    code, out, err = run("merge", shards[0], tmp_path / "out.gguf")
    assert code == 1 and out == "" and f"dsdeploy: {shards[1]}: is cut off" in err
    assert "  next: Give a whole GGUF model" in err
    (tmp_path / "out.gguf").write_bytes(b"mine")
    shards[1].write_bytes(MODEL.shards()[1])
    code, out, err = run("merge", "--json", shards[0], tmp_path / "out.gguf")
    assert code == 1 and "use force" in json.loads(out.splitlines()[-1])["hint"]
    assert run("info", tmp_path / "out.gguf")[0] == 1


def test_no_such_file_is_wrong_usage(tmp_path):
    (tmp_path / "empty").mkdir()
    for given in (["info", tmp_path / "nothing"], ["info", tmp_path / "empty"],
                  ["merge", tmp_path / "nothing", tmp_path / "out.gguf"],
                  ["merge", tmp_path / "empty", tmp_path / "out.gguf"]):  # fmt: skip
        code, _out, err = run(*given)
        said, hint = err.splitlines()
        assert (code, said.startswith(f"dsdeploy: {given[1]}: ")) == (2, True)
        assert hint.startswith("  next: Give a GGUF file")


def test_info(shards, tmp_path):
    code, out, _err = run("info", shards[0])
    assert code == 0 and "architecture       llama" in out and out.count(" tensors  ") == 3
    code, out, _err = run("info", "--json", tmp_path / "set")
    found = json.loads(out)
    assert found["tensors"] == 9 and found["layers"] == 2 and found["chat_template"] and len(found["shards"]) == 3


def test_help():
    assert "merge " in run("--help")[1] and "info " in run("--help")[1]
    assert "--consume" in run("merge", "--help")[1]
