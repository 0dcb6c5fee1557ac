# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Looks at a host: records, an engine with metrics behind a key, its log, GPUs. The module that tells them, too."""

import getpass
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import look
from processes import gone

ROOT = Path(__file__).resolve().parents[5]
sys.path.append(str(ROOT / "tests" / "standins"))
from standin_supervisor import StandinSupervisor

SCHEMA = json.loads((ROOT / "docs" / "status.schema.json").read_text())
GPU = "0, 512.33, 1755, 61, 99, 70123, 81559, 700.00, NVIDIA H100 80GB HBM3, 0x0"


class Engine(ThreadingHTTPServer):
    """/health, and metrics that want a key."""

    daemon_threads = True

    def __init__(self):
        self.tokens, self.asked, self.running = 100, [], 2
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                engine.asked.append((self.path, self.headers.get("Authorization")))
                allowed = self.path == "/health" or self.headers.get("Authorization") == "Bearer secret"
                engine.tokens += 10
                body = b"vllm:num_requests_running %d\nvllm:num_requests_waiting %d\nvllm:kv_cache_usage_perc 0.5\n"
                body = (
                    body % (engine.running, engine.running // 2) + b"vllm:generation_tokens_total %d\n" % engine.tokens
                )
                self.send_response(200 if allowed else 401)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *unused):
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def engine():
    with Engine() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def host(tmp_path, engine, monkeypatch):
    """A host whose one deployment runs under supervisor, as this process."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "key").write_text("secret\n")
    (tmp_path / "log").write_text("INFO all well\nERROR 11-27 CUDA error: \x1b[31mout of memory\nINFO and on\n")
    record = {
        "engine": "vllm",
        "version": "0.32.0",
        "model": "deepseek-r1",
        "endpoint": f"http://127.0.0.1:{engine.server_address[1]}",
        "api": "openai",
        "user": getpass.getuser(),
        "api_key_file": str(tmp_path / "key"),
        "health_path": "/health",
        "metrics_path": "/metrics",
        "service": {"name": "dsdeploy-vllm", "manager": "supervisor", "log": str(tmp_path / "log")},
    }
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with StandinSupervisor(tmp_path) as supervisor:
        supervisor.running("dsdeploy-vllm")
        supervisor.programs["dsdeploy-vllm"].update(pid=os.getpid(), start=int(time.time()) - 100)
        (tmp_path / "conf.d" / "dsdeploy-vllm.conf").write_text("[program:dsdeploy-vllm]\nautostart=true\n")
        (tmp_path / "records").mkdir()
        (tmp_path / "records" / "vllm.json").write_text(json.dumps(record))
        supervisor.record = record
        yield supervisor


def gpus(tmp_path, line=GPU):
    path = tmp_path / "bin" / "nvidia-smi"
    path.write_text(f'#!/bin/sh\necho $$ >"{tmp_path}/smi.pid"\nwhile :; do echo "{line}"; sleep 0.1; done\n')
    path.chmod(0o755)


@pytest.fixture
def looker(host, tmp_path):
    made = []

    def make(interval=1.0):
        made.append(look.Looker(interval, None, str(tmp_path / "records"), str(host.config)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def valid(taken):
    jsonschema.validate({"event": "look", "host": "h", "look": json.loads(json.dumps(taken))}, SCHEMA)
    return taken


def test_what_is_seen(host, tmp_path, looker, engine):
    gpus(tmp_path)
    eyes = looker()
    first = valid(eyes.take())["deployments"][0]
    assert (first["running"], first["waiting"], first["kv_use"], first["generated_s"]) == (2.0, 1.0, 0.5, None)
    eyes.gpus_wait(10)
    second = valid(eyes.take())
    (found,) = second["deployments"]
    assert found["ready"] and found["active"] == "running" and found["generated_s"] > 0
    assert 100 <= found["uptime_s"] < 200
    assert found["last_error"] == "ERROR 11-27 CUDA error: out of memory"
    (gpu,) = second["gpus"]
    assert (gpu["memory_total_mib"], gpu["temperature_c"], gpu["power_w"]) == (81559.0, 61.0, 512.33)
    # The manager is asked now and then, not at each look; the key goes to the metrics alone.
    assert [call[0] for call in host.calls].count("supervisor.getProcessInfo") <= 1
    assert {key for path, key in engine.asked if path == "/health"} == {None}
    assert "secret" not in json.dumps(second)


def test_one_look_waits_for_rates_only_of_what_works(host, tmp_path, engine, monkeypatch):
    slept = []
    monkeypatch.setattr(look, "time", SimpleNamespace(**{**vars(time), "sleep": slept.append}))

    def once():
        taken = valid(look.look_once(None, str(tmp_path / "records"), str(host.config)))["deployments"][0]
        return taken["running"], taken["generated_s"], slept.count(look.ONCE_S)

    engine.running = 0
    assert once() == (0.0, 0.0, 0)
    engine.running = 1
    running, generated_s, waited = once()
    assert running == 1.0 and generated_s > 0 and waited == 1


def test_one_look_tells_the_gpus_too(host, tmp_path, engine):
    gpus(tmp_path)
    engine.running = 0
    (gpu,) = valid(look.look_once(None, str(tmp_path / "records"), str(host.config)))["gpus"]
    assert gpu["memory_total_mib"] == 81559.0


def test_the_key_is_for_the_service_alone(host, looker, engine, monkeypatch):
    """Another user's process has the port: it gets neither the key nor the word "ready"."""
    monkeypatch.setattr(look.WatchedService, "_uid", lambda self: os.getuid() + 1)
    (found,) = looker().take()["deployments"]
    assert found["running"] is None and ("/metrics", "Bearer secret") not in engine.asked


def test_a_service_that_dies_and_comes_back(host, looker, engine):
    eyes = looker()
    assert eyes.take()["deployments"][0]["ready"]
    dead = subprocess.Popen(["true"])
    dead.wait()
    eyes._deployments["vllm"]._service._watch.last["pid"] = dead.pid  # what the manager told is gone from /proc
    host.says("dsdeploy-vllm", "FATAL", "Exited too quickly")
    (found,) = valid(eyes.take())["deployments"]
    assert (found["active"], found["ready"], found["running"], found["uptime_s"]) == ("failed", False, None, None)
    assert "another program has its port" in found["ready_detail"]
    host.running("dsdeploy-vllm")
    host.programs["dsdeploy-vllm"]["pid"] = os.getpid()
    assert valid(eyes.take())["deployments"][0]["ready"]


def test_a_host_where_little_is_known(host, tmp_path, looker):
    (tmp_path / "records" / "vllm.json").unlink()
    (tmp_path / "records" / "broken.json").write_text("{")
    gpus(tmp_path, "No devices were found")
    eyes = looker()
    eyes.gpus_wait(0.3)
    taken = valid(eyes.take())
    assert taken["deployments"] == [] and taken["gpus"] is None
    assert len(taken["problems"]) == 1 and "broken.json" in taken["problems"][0]
    (tmp_path / "bin" / "nvidia-smi").unlink()
    if not look.gather.find(None):
        assert valid(looker().take())["gpus"] == []


@pytest.mark.parametrize(
    ("since", "now", "expected"),
    [
        ("2026-11-27T00:00:00Z", 1795737600.0 + 90, 90),
        ("2026-11-27T00:00:00Z", 1795737600.0 - 1, None),  # the clock was set back
        ("yesterday", 0.0, None),
        (None, 0.0, None),
    ],
)
def test_uptime(since, now, expected):
    assert look.uptime_s(since, now) == expected


@pytest.mark.parametrize(
    ("line", "is_error"),
    [
        ("ERROR 11-27 12:00:00 [core.py:123] EngineCore failed", True),
        ("torch.OutOfMemoryError: CUDA out of memory", True),
        ("ValueError: no such thing", True),
        ("srv  log: error: slot is busy", True),
        ("INFO:     127.0.0.1 - \"GET /v1/errors HTTP/1.1\" 200 OK", False),
        ("INFO errors so far: 0", False),
        ("(APIServer pid=5) WARNING 11-29 00:41:59 [x.py:255] This can cause errors like `OSError: [Errno 24]`", False),
        ("(EngineCore pid=5) ERROR 11-29 00:41:59 [x.py:255] INFO is no help: OSError: [Errno 24]", True),
    ],
)  # fmt: skip
def test_lines_that_tell_of_an_error(line, is_error):
    assert (look.last_error(["INFO before", line, "INFO after"]) is not None) == is_error


class Watched:
    """The module as a process whose output is read here."""

    def __init__(self, tmp_path, **more):
        arguments = {"path": str(tmp_path / "records"), "supervisor_config": str(tmp_path / "supervisord.conf"), **more}
        paths = [str(ROOT / ".collections"), *filter(None, sys.path)]
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "plugins" / "modules" / "host_watch.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(os.environ, PYTHONPATH=os.pathsep.join(paths)),
        )
        self.process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
        self.process.stdin.close()

    def look(self):
        return told(next(filter(str.strip, self.process.stdout)))  # without those that keep the connection


def told(line):
    assert line.startswith("DSDEPLOY_LOOK "), line
    return valid(json.loads(line[len("DSDEPLOY_LOOK ") :]))


def test_the_module_tells_looks_until_its_time_is_over(host, tmp_path):
    for duration in (0.6, 10, 60):  # on a busy machine the first look alone takes longer
        watched = Watched(tmp_path, interval_s=0.5, duration_s=duration)
        *lines, result = filter(str.strip, watched.process.stdout)
        looks, result = [told(line) for line in lines], json.loads(result)
        if len(looks) > 1:
            break
    assert looks[0]["deployments"][0]["engine"] == "vllm"
    assert looks[1]["deployments"][0]["generated_s"] is not None
    assert result["look"]["schema"] == 1 and result["changed"] is False and watched.process.wait(60) == 0


@pytest.mark.parametrize("end", ["closed", "hup", "term", "kill"])
def test_nothing_is_left_when_the_connection_ends(host, tmp_path, end):
    gpus(tmp_path)
    watched = Watched(tmp_path, interval_s=3600)
    watched.look()
    smi = int((tmp_path / "smi.pid").read_text())
    if end == "closed":
        watched.process.stdout.close()
    else:
        watched.process.send_signal({"hup": signal.SIGHUP, "term": signal.SIGTERM, "kill": signal.SIGKILL}[end])
    # At once, not at the next look.
    assert watched.process.wait(60) in (0, -signal.SIGKILL)
    assert gone(smi)


@pytest.mark.parametrize("interval", [0.0, -1, 1e9, float("nan")])
def test_an_interval_that_makes_no_sense(host, tmp_path, interval):
    watched = Watched(tmp_path, interval_s=interval if interval == interval else "nan")
    said = json.loads(watched.process.stdout.read())
    assert said["failed"] and said["error_kind"] == "usage" and "interval_s" in said["msg"]


def test_the_last_error_is_why_the_engine_ended():
    lines = [
        "ValueError: No available memory for the cache blocks.",
        "RuntimeError: Engine core initialization failed.",
    ]
    assert look.last_error(lines).startswith("ValueError: No available memory")
    assert look.last_error(lines[1:]).startswith("RuntimeError: Engine core initialization")


def test_a_service_that_dies_over_and_over_is_told_with_its_last_words(host, tmp_path, looker, engine):
    """A manager shows it as starting, and nobody listens: that says nothing of why."""
    eyes = looker()
    assert eyes.take()["deployments"][0]["last_error"] == "ERROR 11-27 CUDA error: out of memory"
    (tmp_path / "log").write_text("loading\nllama-server: cannot read the model /m.gguf\n\n")
    assert eyes.take()["deployments"][0]["last_error"] is None
    host.programs["dsdeploy-vllm"].update(statename="BACKOFF", pid=0, description="Exited too quickly")
    engine.shutdown()
    engine.server_close()
    found = valid(looker().take())["deployments"][0]
    assert found["ready"] is False
    assert found["ready_detail"] == "the service dies, and is started again: BACKOFF Exited too quickly"
    assert found["last_error"] == "llama-server: cannot read the model /m.gguf"


def test_last_words_are_not_those_of_the_manager():
    journal = [
        "2026-11-28T14:16:20+00:00 h dsdeploy-llama-cpp[1]: cannot read the model",
        "2026-11-28T14:16:20+00:00 h systemd[1]: dsdeploy-llama-cpp.service: Main process exited, code=exited",
        "2026-11-28T14:16:20+00:00 h dsdeploy-llama-cpp[2]: the engine died before it answered at http://x/health",
        "",
    ]
    assert look.last_words(journal).endswith("cannot read the model")
    assert look.last_words(journal[1:]) is None
