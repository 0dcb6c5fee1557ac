# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One token of each engine that is ready; the health of disks; RoCE ports of a sysfs tree."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks import look_answers, look_disks, look_network, reading
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.reading import Place

METRICS = """vllm:num_requests_running{engine="0"} 1.0
vllm:num_requests_waiting{engine="0"} 4.0
vllm:num_preemptions_total{engine="0"} 7.0
vllm:request_success_total{finished_reason="stop"} 30.0
vllm:request_success_total{finished_reason="length"} 20.0
"""
TOKEN = 'data: {"model": "m", "choices": [{"delta": {"content": "1"}, "finish_reason": "length"}]}\n\ndata: [DONE]\n\n'


class Engine(BaseHTTPRequestHandler):
    """A stand-in engine: what it answers to a path is in `answers`, what it was sent in `sent`."""

    answers, sent = {}, []

    def do_GET(self):
        self._say(*self.answers.get(self.path, (404, "text/plain", "")))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.sent.append((self.path, body, self.headers.get("Authorization")))
        self.do_GET()

    def _say(self, status, kind, text):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def engine():
    Engine.sent = []
    Engine.answers = {
        "/v1/models": (200, "application/json", '{"data": [{"id": "m"}]}'),
        "/metrics": (200, "text/plain", METRICS),
        "/v1/chat/completions": (200, "text/event-stream", TOKEN),
    }
    server = HTTPServer(("127.0.0.1", 0), Engine)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def record(endpoint, **more):
    service = {"name": "dsdeploy-vllm", "manager": "systemd", "log": None}
    found = {"engine": "vllm", "endpoint": endpoint, "api": "openai", "metrics_path": "/metrics", "service": service}
    return dict(found, **more)


def test_a_token_and_the_engine_s_own_counts(engine):
    found = look_answers._asked(record(engine), "")
    assert 0 < found["seconds"] < 10
    assert (found["waiting"], found["preempted"], found["finished"]) == (4.0, 7.0, 50.0)
    path, body, key = Engine.sent[0]
    assert (path, body["max_tokens"], key) == ("/v1/chat/completions", 1, None)
    assert "keep_alive" not in body


def test_an_engine_that_gives_none(engine, monkeypatch):
    Engine.answers["/v1/chat/completions"] = (500, "application/json", '{"error": {"message": "EngineDeadError"}}')
    found = look_answers._asked(record(engine), "")
    assert (found["seconds"], found["waiting"]) == (None, 4.0)
    assert "EngineDeadError" in found["problem"]


def test_who_has_no_api_is_not_asked(monkeypatch):
    gang = {"hosts": ["a", "b"], "rank": 1}
    records = [record("x", engine="vllm"), record("x", engine="sglang", gang=gang), record("x", api="gateway")]
    monkeypatch.setattr(look_answers, "read_records", lambda _path: (records, []))
    monkeypatch.setattr(look_answers, "look", lambda *_given: {"ready": True})
    monkeypatch.setattr(look_answers, "_asked", lambda one, _config: one["engine"])
    assert look_answers.answers(Place()) == ["vllm"]
    assert look_answers.answers(Place(engine="sglang")) == look_answers.answers(Place(health=False)) == []


def test_a_key_that_cannot_be_read_leaves_the_engine_alone(engine, tmp_path):
    path = tmp_path / "none"
    found = look_answers._asked(record(engine, api_key_file=str(path)), "")
    assert (found["unread"], found["problem"]) == (f"api_key_file: {path}: No such file or directory", "")
    assert Engine.sent == []


def test_a_key_goes_to_nobody_but_the_service_s_process(engine, tmp_path, monkeypatch):
    (tmp_path / "key").write_text("secret")

    def trust(_self, _address, _port):
        raise look_answers.EngineFailure("held by another user: the API key was not sent")

    monkeypatch.setattr(look_answers.WatchedService, "trust", trust)
    found = look_answers._asked(record(engine, api_key_file=str(tmp_path / "key")), "")
    assert "was not sent" in found["problem"]
    assert Engine.sent == []


def test_ollama_is_asked_for_what_is_loaded_and_keeps_it_as_long_as_before(engine):
    ollama = record(engine, engine="ollama", api="ollama", metrics_path=None)
    Engine.answers["/api/ps"] = (200, "application/json", '{"models": []}')
    found = look_answers._asked(ollama, "")
    assert (found["idle"], Engine.sent) == ("no model is loaded", [])
    loaded = {"models": [{"name": "r1:latest", "expires_at": "2318-01-01T00:00:00.123456789+08:00"}]}
    Engine.answers["/api/ps"] = (200, "application/json", json.dumps(loaded))
    done = '{"model": "r1", "message": {"content": "1"}, "done": true, "done_reason": "length"}\n'
    Engine.answers["/api/chat"] = (200, "application/x-ndjson", done)
    assert look_answers._asked(ollama, "")["seconds"] is not None
    body = Engine.sent[0][1]
    assert (body["model"], body["options"]["num_predict"], body["keep_alive"]) == ("r1:latest", 1, -1)


@pytest.mark.parametrize(
    ("expires", "left"),
    [
        ("1970-01-01T00:05:00Z", 290),
        ("1970-01-01T08:05:00.987654321+08:00", 290),
        ("1969-12-31T23:00:00Z", 1),
        ("2318-01-01T00:00:00Z", -1),
        ("soon", None),
        (None, None),
        (7, None),
    ],
)
def test_how_long_ollama_still_keeps_a_model(expires, left):
    assert look_answers.left_s(expires, 10.0) == left


BAD_SECTORS = {"id": 197, "raw": {"value": 8}}


def smartctl(**more):
    return json.dumps(dict({"smartctl": {"exit_status": 0}, "smart_status": {"passed": True}}, **more))


@pytest.mark.parametrize(
    ("output", "failing", "worn"),
    [
        (smartctl(nvme_smart_health_information_log={"critical_warning": 0, "percentage_used": 12}), "", 12),
        (
            smartctl(
                smart_status={"passed": False},
                nvme_smart_health_information_log={"critical_warning": 9, "percentage_used": 130},
            ),
            "its own verdict is FAILED, its spare blocks are used up, it can only be read",
            130,
        ),
        (
            smartctl(ata_smart_attributes={"table": [{"id": 5, "raw": {"value": 9}}, BAD_SECTORS]}),
            "8 sectors pending",
            None,
        ),
        (smartctl(scsi_grown_defect_list=0), "", None),
    ],
)
def test_what_smartctl_says(output, failing, worn):
    found = look_disks.read_smartctl("sda", output)
    assert (found["failing"], found["worn"], found["problem"]) == (failing, worn, "")


def test_a_virtual_disk_and_one_that_may_not_be_asked():
    assert look_disks.read_smartctl("sda", '{"smartctl": {"exit_status": 4}}') is None
    denied = {"exit_status": 2, "messages": [{"string": "Smartctl open device: /dev/sda failed: Permission denied"}]}
    assert "Permission denied" in look_disks.read_smartctl("sda", json.dumps({"smartctl": denied}))["problem"]
    for rubbish in ("", "no JSON", "[]", "7"):
        with pytest.raises(look_disks.Failure):
            look_disks.read_smartctl("sda", rubbish)


def test_the_health_page_of_an_nvme_disk():
    page = bytearray(512)
    page[5] = 42
    assert look_disks.read_health_page("nvme0", bytes(page))["failing"] == ""
    page[0] = 0x04
    found = look_disks.read_health_page("nvme0", bytes(page))
    assert (found["failing"], found["worn"]) == ("it is unreliable after errors", 42)


def test_disks_are_asked_by_smartctl_or_not_at_all(tmp_path, monkeypatch):
    for path, text in (("block/sda/removable", "0\n"), ("block/sdb/removable", "1\n"), ("block/vda/removable", "0\n")):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(text)
    (tmp_path / "class/nvme/nvme97").mkdir(parents=True)
    # reading.Place.at: class/nvme and block are below /sys.
    place = Place(sysfs=str(tmp_path))
    monkeypatch.setattr(reading, "program", lambda name: None)
    found = {one["name"]: one["problem"] for one in look_disks.smart(place)}
    assert found == {"nvme97": "No such file or directory", "sda": "smartctl is not installed (package smartmontools)"}
    program = tmp_path / "smartctl"
    program.write_text(f"#!/bin/sh\necho '{smartctl()}'\nexit 4\n")
    program.chmod(0o755)
    monkeypatch.setattr(reading, "program", lambda name: str(program))
    assert {(one["name"], one["problem"]) for one in look_disks.smart(place)} == {("nvme97", ""), ("sda", "")}


def test_ports_of_roce(tmp_path):
    port = tmp_path / "class/infiniband/mlx5_0/ports/1"
    v4, link_local = "0000:0000:0000:0000:0000:ffff:0a00:0001", "fe80:0000:0000:0000:a288:c2ff:fe3b:506a"
    files = {"state": "4: ACTIVE", "rate": "400 Gb/sec (4X NDR)", "link_layer": "Ethernet"}
    for index, (kind, address) in enumerate(
        (("IB/RoCE v1", link_local), ("RoCE v2", link_local), ("IB/RoCE v1", v4), ("RoCE v2", v4))
    ):
        files[f"gid_attrs/types/{index}"], files[f"gids/{index}"] = kind, address
        files[f"gid_attrs/ndevs/{index}"] = "eth7"
    for path, text in files.items():
        (port / path).parent.mkdir(parents=True, exist_ok=True)
        (port / path).write_text(text + "\n")
    (found,) = look_network.infiniband(Place(sysfs=str(tmp_path)))
    assert (found["roce"], found["gids"], found["interface"]) == (True, [3], "eth7")
