"""`dsdeploy doctor`: what it asks of the playbook, and what it refuses before a host is asked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from dsdeploy.cli.doctor import doctor
from dsdeploy.errors import DsdeployError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []

    def execute(*given: Any) -> int:
        calls.append(given)
        return 0

    monkeypatch.setattr("dsdeploy.session.execute", execute)
    return calls


def test_what_is_given_goes_to_the_playbook(asked: list[Any]) -> None:
    args = [
        "--only",
        "gpu,driver_xid",
        "--only",
        "disk*",
        "--strict",
        "--deep",
        "--textfile",
        "/srv/t",
        "--unprivileged",
    ]
    assert CliRunner().invoke(doctor, args, catch_exceptions=False).exit_code == 0
    verb, _options, variables = asked[0]
    wanted = {"only": ["gpu", "driver_xid", "disk*"], "deep": True, "fail_on": "warn", "textfile": "/srv/t"}
    assert (verb, variables) == ("doctor", {"dsdeploy_doctor": dict(wanted, become=False)})


def test_alone_it_asks_for_everything(asked: list[Any]) -> None:
    CliRunner().invoke(doctor, [], catch_exceptions=False)
    assert asked[0][2] == {"dsdeploy_doctor": None}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--only", "gpu_persistance"], "did you mean gpu_persistence?"),
        (["--only", " , "], "names no check"),
        (["--only", "deep"], "add --deep"),
        (["--only", "deep_disk_read"], "add --deep"),
        (["--textfile", "relative"], "must be an absolute path"),
    ],
)
def test_wrong_usage_is_told_before_a_host_is_asked(asked: list[Any], args: list[str], said: str) -> None:
    error = CliRunner().invoke(doctor, args).exception
    assert isinstance(error, DsdeployError) and said in str(error) and "\n" not in str(error)
    assert asked == []


def test_wrong_usage_with_json_ends_in_a_summary(asked: list[Any]) -> None:
    done = CliRunner().invoke(doctor, ["--json", "--only", "gpu_persistance"], standalone_mode=False)
    failure, summary = [json.loads(line) for line in done.stdout.splitlines()]
    assert "did you mean gpu_persistence?" in failure["msg"]
    assert (summary["event"], summary["verb"], summary["exit_code"], done.return_value) == ("summary", "doctor", 2, 2)
    assert asked == []


def test_the_list_needs_no_host(asked: list[Any]) -> None:
    found = CliRunner().invoke(doctor, ["--list", "--json", "--only", "deep"], catch_exceptions=False).output
    checks = [json.loads(line) for line in found.splitlines()]
    assert all(one["deep"] and one["fix"] and one["source"] for one in checks) and len(checks) == 4
    assert asked == []
