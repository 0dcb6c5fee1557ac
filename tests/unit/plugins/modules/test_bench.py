# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module bench, as Ansible runs it, against a server whose delays are scripted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
SCRIPT = json.dumps({"ttft": 0.01, "gap": 0.002, "tokens": 8})


@pytest.fixture(scope="module")
def record():
    program = [sys.executable, str(ROOT / "tests" / "standins" / "scripted_stream.py")]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as server:
        port = int(server.stdout.readline())
        yield {
            "engine": "vllm",
            "version": "1",
            "model": SCRIPT,
            "api": "openai",
            "endpoint": f"http://127.0.0.1:{port}",
        }
        server.kill()


def test_a_measurement(run_module, record, tmp_path):
    key = tmp_path / "key"
    key.write_text("planted-secret\n")
    result = run_module("bench", record=dict(record, api_key_file=str(key)), concurrency=[1, 2], output_tokens=8)
    bench = result["bench"]
    assert [point["max_concurrency"] for point in bench["points"]] == [1, 2]
    assert bench["ended"] == "all points measured" and not bench["interrupted"]
    assert bench["points"][1]["completed"] == 20 and bench["points"][1]["total_output_tokens"] == 160
    assert bench["environment"]["record"]["engine"] == "vllm" and bench["environment"]["cpus"] > 0
    assert "planted-secret" not in result["printed"]


def test_a_missed_limit_fails_with_what_was_measured(run_module, record):
    result = run_module("bench", record=record, concurrency=[1], output_tokens=8, min_tokens_s=1e9)
    assert result["failed"] and result["error_kind"] == "verify" and result["bench"]["points"]
    assert "wanted at least 1e+09" in result["msg"]


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"concurrency": [0]}, "usage", "concurrency: 0 is not between 1 and 1024"),
        ({"record": {"endpoint": "nonsense", "model": "m"}}, "preflight", "'nonsense' is no URL"),
        ({"record": {"endpoint": "http://127.0.0.1:9", "model": "m"}}, "verify", "cannot connect: Connection refused"),
    ],
)
def test_what_cannot_be_measured_is_one_line(run_module, record, options, kind, said):
    result = run_module("bench", **{"record": record, "concurrency": [1], **options})
    assert result["failed"] and result["error_kind"] == kind and said in result["msg"] and "\n" not in result["msg"]


def test_check_mode_asks_nothing(run_module):
    assert run_module("bench", check=True, record={"endpoint": "http://127.0.0.1:9", "model": "m"})["skipped"]


def test_the_key_goes_to_no_stranger_on_the_port(run_module, record, tmp_path):
    """The service has no process here: whoever listens is somebody else."""
    key = tmp_path / "key"
    key.write_text("planted-secret\n")
    service = {"name": "dsdeploy-none", "manager": "supervisor", "log": None}
    result = run_module("bench", record=dict(record, api_key_file=str(key), service=service), concurrency=[1])
    assert result["failed"] and "nothing could be measured" in result["msg"]
    assert "dsdeploy-none: the service is " in result["msg"]
