"""`dsdeploy plan`: what it asks of the playbook, and what it prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dsdeploy import events
from dsdeploy.cli.plan import plan
from dsdeploy.render import text
from dsdeploy.tracker import _module_events


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    def execute(*given: Any) -> int:
        calls.append(given)
        return 0

    monkeypatch.setattr("dsdeploy.session.execute", execute)
    return calls


def test_what_is_given_goes_to_the_playbook(asked: list[Any], tmp_path: Path) -> None:
    args = ["--gpus", "8xH800", "--users", "32", "--context", "16384", "--profile", "latency", "--explain"]
    assert CliRunner().invoke(plan, args, catch_exceptions=False).exit_code == 0
    verb, _options, variables = asked[0]
    wanted = {"gpus": "8xH800", "users": 32, "context": 16384, "profile": "latency", "explain": True}
    assert (verb, variables) == ("plan", {"dsdeploy_plan": wanted})


def test_a_file_is_named_in_full(asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    CliRunner().invoke(plan, ["--facts", "smi.txt"], catch_exceptions=False)
    assert asked[0][2] == {"dsdeploy_plan": {"facts_file": str(tmp_path / "smi.txt")}}


@pytest.mark.parametrize("args", [["--gpus", "x", "--facts", "y"], ["--users", "many"], ["--profile", "fast"]])
def test_wrong_usage(asked: list[Any], args: list[str]) -> None:
    assert CliRunner().invoke(plan, args).exit_code == 2
    assert asked == []


def test_the_plan_is_printed_without_what_would_steer_a_terminal() -> None:
    result = {"plan": {"schema": 1}, "lines": ["machine      8 × H800", "evil \x1b[2J\x07 line"]}
    (event,) = _module_events("h", "deployment_plan", result)
    assert event == events.Plan("h", {"schema": 1}, ["machine      8 × H800", "evil  line"])
    plans = [{"plan": {}, "lines": ["one"]}]
    host = events.HostSummary("ok", 1, 0, 0, 0, 0, 0, [], [], [], plans=plans)
    summary = events.Summary("plan", True, 0, 1.0, 0, {"a": host}, [], {})
    assert list(text.result(summary, False, [], False)) == ["one"]
    both = events.Summary("plan", True, 0, 1.0, 0, {"a": host, "b": host}, [], {})
    assert list(text.result(both, False, [], False)) == ["a:", "one", "b:", "one"]
