# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JSON that another wrote or a crash damaged, at every place that reads some: a value, or that place's refusal."""

import json
import os
import struct

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.bench import load, stream_client
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import ollama, ollama_store, parameters
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.shape import read_safetensors_header
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf import journal, survey
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import firewall, lock, owned
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.deployments import parse_record
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import bench_results, progress_action

from dsdeploy.tracker import Tracker

DEEP = "[" * 20000
DIGEST = "sha256:" + "1d" * 32
OURS = lock.holder_of(os.getpid(), "me@here", "2026-01-01T00:00:01Z")
SHARD = {"name": "a", "size": 9, "mtime_ns": 1, "header_digest": "x", "data_start": 1, "data_bytes": 8, "target": 1}
PLAN = {"directory": "/d", "inode": 1, "header_digest": "x", "header_bytes": 1, "total": 9, "tensor_count": 1}
BEGUN = {"format": journal.FORMAT, "plan": dict(PLAN, shards=[SHARD]), "durable": 1}


def refusal(call, text, error=ValueError):
    with pytest.raises(error) as caught:
        call(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize("reader", [parse_record, owned.parse, firewall.parse_notes])
def test_a_nest_of_lists_is_refused_where_notes_are_read(reader):
    refusal(reader, DEEP)


@pytest.mark.parametrize("port", [-1, 0, 65536])
def test_a_rule_of_the_firewall_has_a_port(port):
    refusal(firewall.parse_notes, json.dumps([{"manager": "ufw", "port": port, "network": "10.0.0.0/8"}]))


@pytest.mark.parametrize(
    "header",
    [
        DEEP,
        '{"a": {"data_offsets": [0, "x"]}}',
        '{"a": {"data_offsets": [0, null]}, "b": {"data_offsets": [0, 4]}}',
        '{"a": {"data_offsets": [0, 0.0]}}',
        '{"a": {"data_offsets": [0, -5]}}',
        '{"a": {"data_offsets": [0, 1e999]}}',
        '{"a": {"data_offsets": [0]}}',
    ],
)
def test_a_header_of_safetensors(tmp_path, header):
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode())
    with pytest.raises(ValueError, match="its header cannot be read"):
        read_safetensors_header(str(path))


def test_a_damaged_line_of_a_merges_journal_is_ignored():
    begun = json.dumps(BEGUN)
    good = journal.parse(begun.encode())
    assert good.shards == (("a", {key: value for key, value in SHARD.items() if key != "name"}),)
    old = dict(BEGUN, plan=dict(PLAN, inode=2**64 - 1, shards=[dict(SHARD, mtime_ns=-1)]))
    assert journal.parse(json.dumps(old).encode()).shards[0][1]["mtime_ns"] == -1
    for line in (DEEP, '{"durable": Infinity}', '{"durable": -1}', '{"durable": 10}', '{"durable": "2"}'):
        assert journal.parse("\n".join((begun, line)).encode()) == good
        assert journal.parse(line.encode()) is None
    for changed in ({"size": None}, {"target": "1"}, {"mtime_ns": "1"}):
        line = json.dumps(dict(BEGUN, plan=dict(PLAN, shards=[dict(SHARD, **changed)])))
        assert journal.parse(line.encode()) is None


@pytest.mark.parametrize("more", [{}, {"first": 5, "record": "x"}, {"first": "a"}])
def test_a_record_of_a_merge_that_is_not_whole_is_none(tmp_path, monkeypatch, more):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"x")
    record = {"size": 1, "mtime_ns": path.stat().st_mtime_ns, **more}
    monkeypatch.setattr(os, "getxattr", lambda *_arguments: json.dumps(record).encode(), raising=False)
    assert survey._recognise(str(path), ["/a/b"], False) is None
    monkeypatch.setattr(os, "getxattr", lambda *_arguments: DEEP.encode(), raising=False)
    assert survey._recognise(str(path), ["/a/b"], False) is None


@pytest.mark.parametrize("changed", [{"pid": 2**70}, {"pid": "1"}, {"pid": None}, {"started": 5}, {"machine": None}])
def test_a_lock_that_nobody_can_hold_is_free(tmp_path, changed):
    path = str(tmp_path / "lock")
    with open(path, "w", encoding="utf-8") as handle:
        json.dump(dict(OURS, who="you@there", **changed), handle)
    assert lock.take(path, OURS)["who"] == "me@here"


def test_a_process_id_that_cannot_be_is_dead():
    assert lock.is_dead(dict(OURS, pid=2**70)) and lock.is_dead(dict(OURS, pid=-1))


def test_json_for_an_engine():
    problem = parameters._value_problem({"type": "json"}, DEEP, False)
    assert problem.startswith("expected JSON, found '[[[") and problem.endswith("(nested too deeply)")
    assert len(problem) < 400
    assert parameters._value_problem({"type": "json"}, '{"a": [1]}', False) is None


def test_parameters_as_ollama_shows_them():
    assert ollama.parse_parameters("a " + DEEP) == {"a": [DEEP]}
    assert ollama.parse_parameters(r'stop "\U00ffffff"') == {"stop": ["\ufffd"]}


@pytest.mark.parametrize("digest", ["/etc/passwd", "../../x", "sha256:12", 5, None])
def test_a_manifest_names_blobs_and_no_other_file(digest):
    refusal(ollama_store._layers, json.dumps({"layers": [], "config": {"digest": digest}}).encode())
    refusal(ollama_store._layers, DEEP.encode())
    good = {"layers": [{"digest": DIGEST}], "config": {"digest": DIGEST}}
    assert ollama_store._layers(json.dumps(good).encode()) == [{"digest": DIGEST}] * 2


def test_what_a_measured_server_says(monkeypatch):
    assert stream_client.last_usage(b"data: " + DEEP.encode()) == {}
    assert stream_client.reported_error(b"data: " + DEEP.encode()) == ""

    class Connection(load.http.client.HTTPConnection):
        def connect(self):
            raise load.http.client.BadStatusLine("x")

    monkeypatch.setattr(load.http.client, "HTTPConnection", Connection)
    assert load.post_json(load.Target("127.0.0.1", 1, "", {}, None, "completions", "m"), "/tokenize", {}) is None


def test_a_measurement_with_odd_values_is_listed_with_what_is_odd(tmp_path):
    (tmp_path / "h").mkdir()
    whole = {"schema": bench_results.SCHEMA, "profile": {}, "environment": {"record": ["x"]}, "taken": 5}
    points = [{"output_throughput": "x", "max_concurrency": 1}, {"output_throughput": 2.5, "max_concurrency": 1}]
    (tmp_path / "h/a.json").write_text(json.dumps(dict(whole, points=points)))
    (tmp_path / "h/b.json").write_text(DEEP)
    (tmp_path / "h/c.json").write_text(json.dumps(dict(whole, points=points, taken="2026")))
    found = bench_results.listing(str(tmp_path))
    problems = {row["path"][-6:]: str(row.get("problem")) for row in found}
    assert "points[0]" in problems["a.json"]
    assert "nested too deeply" in problems["b.json"]
    assert "c.json: " in problems["c.json"]


def test_a_line_of_progress_that_cannot_be_read():
    assert progress_action.parse(DEEP) is None
    for text in (DEEP, '{"host": "h", "done": %s}' % ("9" * 400)):
        assert not list(Tracker._progress(None, text))
