# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine was seen to take, in its deployment record."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import figures
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.chat import Endpoint
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import deployments
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.watched import WatchedService
from ansible_collections.dsdeploy.llm.plugins.modules import chat_probe

sys.path.append(str(Path(__file__).resolve().parents[3] / "standins"))
from standin_supervisor import StandinSupervisor

SEEN = {"weights": 98362432, "kv": 1024, "kv_tokens": 8192, "source": "log", "since": "2026-11-27T20:00:00Z"}
LOG = """\
load_tensors:   CPU_Mapped model buffer size =    93.72 MiB
llama_kv_cache: size =  180.00 MiB (  8192 cells,  30 layers,  1/1 seqs), K (f16):   90.00 MiB, V (f16):   90.00 MiB
"""


@pytest.fixture
def record(tmp_path, monkeypatch):
    """The file of a record of llama_cpp."""
    monkeypatch.setattr(places, "RECORDS", str(tmp_path / "deployments"))
    os.mkdir(places.RECORDS)
    path = Path(places.RECORDS, "llama_cpp.json")
    service = {"name": "dsdeploy-llama-cpp", "manager": "supervisor", "log": str(tmp_path / "log")}
    found = {"engine": "llama_cpp", "endpoint": "http://127.0.0.1:1", "api": "openai", "service": service}
    path.write_text(deployments.dump(dict(found, version="1", model="m", model_path="/m.gguf")))
    return path


def test_it_is_noted_once_and_everybody_can_read_it(record):
    os.umask(old := os.umask(0o077))
    try:
        os.umask(0o077)
        assert deployments.note_measured("llama_cpp", SEEN)
    finally:
        os.umask(old)
    assert stat.S_IMODE(record.stat().st_mode) == 0o644
    (found,), problems = deployments.read_records()
    assert (found["measured"], problems) == (SEEN, [])
    assert not deployments.note_measured("llama_cpp", SEEN)
    # The same figures of a later start are nothing new.
    assert not deployments.note_measured("llama_cpp", dict(SEEN, since="2026-11-28T20:00:00Z"))
    assert deployments.note_measured("llama_cpp", dict(SEEN, kv_tokens=4096))
    assert os.listdir(places.RECORDS) == ["llama_cpp.json"]


def test_how_long_a_start_took_is_noted_where_it_differs(record):
    def noted(**more):
        written = deployments.note_measured("llama_cpp", dict(SEEN, **more))
        return written, deployments.read_records()[0][0]["measured"].get("ready_s")

    assert noted() == (True, None)
    assert noted(ready_s=100) == (True, 100)
    assert noted(ready_s=119) == (False, 100)
    assert noted(ready_s=80) == (False, 100)
    assert noted(ready_s=121) == (True, 121)
    # One that was not seen to start says nothing of it.
    assert noted() == (False, 121)


def test_a_later_start_that_was_not_seen_keeps_what_was():
    before = dict(SEEN, ready_s=100)
    seen = figures.measured("llama_cpp", LOG.splitlines(), since="2026-11-28T00:00:00Z", before=before)
    assert seen["ready_s"] == 100
    assert figures.measured("llama_cpp", [], ready_s=7) == {"source": "log", "since": None, "ready_s": 7}
    assert figures.measured("llama_cpp", []) is None
    again = figures.measured("llama_cpp", LOG.splitlines(), since=SEEN["since"], before=SEEN, ready_s=7)
    assert again["ready_s"] == 7


def test_where_there_is_no_record_nothing_is_written(record):
    assert not deployments.note_measured("vllm", SEEN)
    record.write_text("{")
    assert not deployments.note_measured("llama_cpp", SEEN)
    assert record.read_text() == "{"


@pytest.mark.parametrize(
    "value",
    [
        [],
        "much",
        {"weights": 1},
        dict(SEEN, kv=-1),
        dict(SEEN, kv=True),
        dict(SEEN, kv=1.5),
        dict(SEEN, since=5),
        dict(SEEN, ready_s=-1),
    ],
)
def test_what_is_none_makes_no_record(record, value):
    text = json.dumps(dict(json.loads(record.read_text()), measured=value))
    with pytest.raises(ValueError, match="'measured' is not what an engine was seen to take"):
        deployments.parse_record(text)


def test_a_new_record_keeps_it_as_long_as_the_same_is_served():
    before = {"engine": "vllm", "version": "0.32.0", "model": "m", "model_path": "/m", "measured": SEEN}
    same = {key: value for key, value in before.items() if key != "measured"}
    assert deployments.kept_measured(before, same) == {"measured": SEEN}
    for key in same:
        assert deployments.kept_measured(before, dict(same, **{key: "other"})) == {}
    assert deployments.kept_measured({}, same) == {}


def test_an_engine_that_has_answered_is_read_once(record, tmp_path):
    """In this process: the module itself would write into the records of this machine."""
    (tmp_path / "log").write_text(LOG)
    service = {"name": "dsdeploy-llama-cpp", "manager": "supervisor", "log": str(tmp_path / "log")}
    asked = {"figures_of": "llama_cpp", "metrics_path": None}
    with StandinSupervisor(tmp_path) as supervisord:
        supervisord.says("dsdeploy-llama-cpp", "RUNNING", "pid 1, uptime 0:00:10", pid=os.getpid())
        watched = WatchedService(service, str(supervisord.config))
        watched.check()
        first = chat_probe.note_figures(asked, Endpoint("http://127.0.0.1:1"), watched)
        again = chat_probe.note_figures(asked, Endpoint("http://127.0.0.1:1"), watched)
        (tmp_path / "log").write_text("rotated\n")
        gone = chat_probe.note_figures(asked, Endpoint("http://127.0.0.1:1"), watched)
    assert (first["changed"], first["changes"]) == (True, ["note what llama_cpp takes of memory, and to start"])
    assert first["measured"]["kv_tokens"] == 8192 and first["measured"]["kv"] == 180 * 1024**2
    assert "changed" not in again and "changed" not in gone
    assert gone["measured"]["kv_tokens"] == 8192
    assert json.loads(record.read_text())["measured"]["weights"] == int(93.72 * 1024**2)
