"""`dsdeploy bench`: what it asks of the playbook, what it prints, and its work on local files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dsdeploy import events
from dsdeploy.cli.bench import bench
from dsdeploy.errors import DsdeployError
from dsdeploy.render import text
from dsdeploy.tracker import Host, Tracker, _module_events

POINT: dict[str, Any] = {
    "max_concurrency": 8,
    "completed": 80,
    "failed": 2,
    "output_throughput": 812.34,
    "request_throughput": 6.3,
    "median_ttft_ms": 98.7,
    "p99_ttft_ms": 401.0,
    "median_tpot_ms": 9.5,
    "p99_tpot_ms": 11.0,
    "p99_e2el_ms": 1500.0,
    "timeline": [{"at_s": 0.0, "tokens_s": 812.0, "running": 8.0}],
}
RESULT: dict[str, Any] = {
    "schema": 1,
    "points": [POINT],
    "profile": {"name": "quick", "prompt_tokens": 512, "output_tokens": 128, "prompts": "token ids, unique"},
    "environment": {"record": {"engine": "vllm", "version": "0.32.0", "model": "m\x1b[31m"}, "gpus": []},
    "ended": "all points measured",
    "interrupted": False,
    "warnings": ["at 8 streams: 2 of the requests failed (HTTP 429)"],
}


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(RESULT))
    return path


def run(*args: str) -> Any:
    return CliRunner().invoke(bench, args, catch_exceptions=False)


def test_options_become_those_of_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("dsdeploy.session.execute", lambda *args, **named: asked.append((args, named)) or 0)
    run("--profile", "chat", "--streams", "1,8", "--budget", "2.5", "--min-tokens-s", "50", "--results", "/r")
    run()
    (verb, _options, variables), named = asked[0]
    assert verb == "bench" and named == {"soft_stop": True}
    assert variables == {
        "dsdeploy_bench": {
            "profile": "chat",
            "concurrency": [1, 8],
            "budget_s": 150,
            "min_tokens_s": 50.0,
            "results_dir": "/r",
        }
    }
    assert asked[1][0][2] == {"dsdeploy_bench": None}
    run("--against", "vllm", "--rounds", "5")
    assert asked[2][0][2] == {"dsdeploy_bench": {"against": "vllm", "rounds": 5}}
    run("--range-ratio", "0.5")
    assert asked[3][0][2] == {"dsdeploy_bench": {"range_ratio": 0.5}}
    assert "0<=x<=0.95" in run("--range-ratio", "1").output
    assert "'x' is not a list of numbers" in run("--streams", "x").output


def test_a_row_for_each_number_of_streams() -> None:
    (event,) = _module_events("h", "bench", {"bench": RESULT, "path": "/kept.json"})
    assert isinstance(event, events.Measurement) and event.model == "m" and "timeline" not in event.points[0]
    host = events.HostSummary("ok", 1, 0, 0, 0, 0, 0, [], [], [], measurements=[event.__dict__])
    summary = events.Summary("bench", True, 0, 1.0, 0, {"h": host}, [], {})
    said = list(text.result(summary, False, [], False))
    assert said[2].split() == ["8", "812.3", "98.7", "ms", "401.0", "ms", "9.5", "ms", "2"]
    assert "  kept      /kept.json" in said and any("2 of the requests failed" in line for line in said)


AGAINST: dict[str, Any] = {
    "tool": "vllm",
    "whole": {"ours": 3, "tool": 2},
    "ours": {"output_throughput": 812.34, "median_ttft_ms": 98.7, "median_tpot_ms": None},
    "figures": {"output_throughput": 795.6, "median_ttft_ms": 90.0, "median_tpot_ms": 9.4},
    "ratio": {"output_throughput": 1.021, "median_ttft_ms": 1.0967, "median_tpot_ms": None},
    "spread": {
        "ours": {"output_throughput": 0.031, "median_ttft_ms": 0.012, "median_tpot_ms": None},
        "tool": {"output_throughput": 0.012, "median_ttft_ms": 0.02, "median_tpot_ms": None},
    },
    "within": {"output_throughput": True, "median_ttft_ms": False, "median_tpot_ms": None},
    "client": {"ours": {"cpus": 0.121, "lag_p99_ms": 0.4}, "tool": {"cpus": None, "lag_p99_ms": None}},
    "rounds": [],
    "notes": [],
}


def test_the_rounds_of_the_engines_own_tool_are_shown_beside_ours() -> None:
    against = {**AGAINST, "notes": ["prompts differ"], "problem": "against vllm: at 8 streams round 3 of 6 \x1b[31mbad"}
    measured = {**RESULT, "points": [{**POINT, "against": against}]}
    (event,) = _module_events("h", "bench", {"bench": measured, "path": "/kept.json"})
    assert isinstance(event, events.Measurement)
    host = events.HostSummary("ok", 1, 0, 0, 0, 0, 0, [], [], [], measurements=[event.__dict__])
    said = list(text.result(events.Summary("bench", True, 0, 1.0, 0, {"h": host}, [], {}), False, [], False))
    assert said[3:10] == [
        "  against   vllm's own tool, 8 streams, 3 and 2 rounds in turns; medians (spread):",
        "            tokens/s  ours 812.3 (3.1 %), its 795.6 (1.2 %): +2.1 %, within the spread",
        "            TTFT p50  ours 98.7 ms (1.2 %), its 90.0 ms (2.0 %): +9.7 %",
        "            TPOT p50  ours not known, its 9.4 ms (? %): not known",
        "            clients   ours 0.12 CPUs, late by 0.4 ms; its ? CPUs, late by ? ms (p99)",
        "            note      prompts differ",
        "  against vllm: at 8 streams round 3 of 6 bad",
    ]
    one = {**AGAINST, "within": dict.fromkeys(AGAINST["within"])}
    assert text._difference(one, "output_throughput") == "+2.1 %, spread not known"


def test_one_that_was_broken_off_ends_as_ctrl_c_does() -> None:
    tracker = Tracker("bench", 0.0)
    for interrupted in (False, True):
        (event,) = _module_events("h", "bench", {"bench": {**RESULT, "interrupted": interrupted}, "path": "/kept.json"})
        assert isinstance(event, events.Measurement)
        tracker.hosts["h"] = Host(measurements=[event])
        assert (list(tracker.finish(0, 1.0))[-1].as_json()["exit_code"] == 130) == interrupted


def test_one_that_was_broken_off_before_its_first_answer_ends_as_ctrl_c_does() -> None:
    tracker = Tracker("bench", 0.0)
    said = events.Failure("h", "", "Measure", "nothing was measured", kind="interrupted")
    tracker.hosts["h"] = Host(failures=[said])
    summary = list(tracker.finish(2, 1.0))[-1]
    assert isinstance(summary, events.Summary) and summary.exit_code == 130
    assert list(text.interrupted(summary)) == ["Nothing was measured."]


def test_a_comparison_of_what_differs_is_refused(measured: Path, tmp_path: Path) -> None:
    other = tmp_path / "b.json"
    other.write_text(json.dumps({**RESULT, "profile": {**RESULT["profile"], "prompt_tokens": 8}}))
    with pytest.raises(DsdeployError, match="prompt_tokens: 512 and 8"):
        run("compare", str(measured), str(other))
    assert "differ: prompt_tokens" in run("compare", "--force", str(measured), str(other)).output


def test_a_comparison_fails_where_that_is_asked_for(measured: Path, tmp_path: Path) -> None:
    other = tmp_path / "b.json"
    other.write_text(json.dumps({**RESULT, "points": [{**POINT, "output_throughput": 700.0}]}))
    done = CliRunner().invoke(bench, ["compare", "--fail-if-worse", str(measured), str(other)], standalone_mode=False)
    assert done.return_value == 3 and "0.862x  worse" in done.output
    same = CliRunner().invoke(
        bench, ["compare", "--fail-if-worse", str(measured), str(measured)], standalone_mode=False
    )
    assert same.return_value == 0


def test_a_report_and_a_file_that_is_none(measured: Path) -> None:
    assert run("report", str(measured), "--lang", "zh").output.strip() == str(measured.with_suffix(".html"))
    assert measured.with_suffix(".html").read_text(encoding="utf-8").startswith("<!doctype html>")
    measured.write_text(json.dumps({**RESULT, "points": [{"completed": 1}]}))
    with pytest.raises(DsdeployError, match=r"a\.json: points\[0\]\.max_concurrency: a whole number expected"):
        run("report", str(measured))
    measured.write_text("null")
    with pytest.raises(DsdeployError, match=r"a\.json is not a measurement"):
        run("report", str(measured))


def test_what_was_measured_is_listed(tmp_path: Path) -> None:
    (tmp_path / "h").mkdir()
    (tmp_path / "h" / "x.json").write_text(
        json.dumps(dict(RESULT, taken="2026-01-01T00:00:00Z", inventory_hostname="h"))
    )
    assert "vllm 0.32.0" in run("--results", str(tmp_path), "list").output
    assert json.loads(run("--results", str(tmp_path), "list", "--json").output)["best_tokens_s"] == 812.34


def test_from_here_goes_with_a_client_s_key_and_not_with_an_engine_s_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("dsdeploy.session.execute", lambda verb, options, variables, **_more: asked.append(variables))
    monkeypatch.chdir(tmp_path)
    Path("bench.key").write_text("k")
    CliRunner().invoke(bench, ["--from", "here", "--key-file", "bench.key"])
    CliRunner().invoke(bench, [])
    assert asked == [{"dsdeploy_bench": {"from_here": True, "key_file": str(tmp_path / "bench.key")}},
                     {"dsdeploy_bench": None}]  # fmt: skip
    for words, said in (
        (["--from", "here", "--against", "vllm"], "on the host itself, not --from here"),
        (["--rounds", "3"], "--rounds is for --against"),
        (["--against", "vllm", "--rounds", "0"], "0 is not in the range 1<=x<=20"),
        (["--key-file", "bench.key"], "--key-file is for --from here"),
        (["--from", "there"], "'there' is not one of"),
    ):
        done = CliRunner().invoke(bench, words)
        assert (done.exit_code, said in done.output) == (2, True), done.output


@pytest.mark.parametrize("target", ["/dev/full", "/proc/report.html", "none/report.html"])
def test_a_report_that_cannot_be_written_is_one_line_and_leaves_nothing(measured: Path, target: str) -> None:
    target = str(measured.parent / target)
    with pytest.raises(DsdeployError, match=f"{target} cannot be written: ") as caught:
        run("report", str(measured), "-o", target)
    assert "-o FILE" in caught.value.hint


def test_a_report_on_a_full_disk_leaves_the_one_before(measured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = measured.with_suffix(".html")
    target.write_text("before")
    target.chmod(0o640)

    def full(*_arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full)
        with pytest.raises(DsdeployError, match="No space left"):
            run("report", str(measured))
    assert target.read_text() == "before"
    assert sorted(path.name for path in measured.parent.iterdir()) == sorted({measured.name, target.name})
    run("report", str(measured))
    assert target.read_text() != "before" and target.stat().st_mode & 0o777 == 0o640
