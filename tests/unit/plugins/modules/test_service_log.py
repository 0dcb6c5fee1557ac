# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[3] / "standins"))
from standin_supervisor import StandinSupervisor


@pytest.fixture
def supervisor(tmp_path):
    """Options of a service that has failed."""
    (tmp_path / "log").write_text("".join(f"line {number}\n" for number in range(100)))
    with StandinSupervisor(tmp_path) as supervisord:
        supervisord.says("engine", "FATAL", "Exited too quickly")
        yield {
            "name": "engine",
            "manager": "supervisor",
            "log": str(tmp_path / "log"),
            "supervisor_config": str(supervisord.config),
        }


@pytest.mark.parametrize("check", [False, True])
def test_lines_and_state(run_module, supervisor, check):
    result = run_module("service_log", check, lines=2, **supervisor)
    assert result["lines"] == ["line 98", "line 99"]
    assert result["state"]["active"] == "failed"
    assert len(run_module("service_log", **supervisor)["lines"]) == 50


def test_an_absent_service_has_no_lines(run_module, supervisor):
    result = run_module("service_log", **dict(supervisor, supervisor_config="/not/there"))
    assert (result["state"]["active"], result["lines"]) == ("absent", [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "--version"}, "name: '--version' is not a service's name"),
        ({"log": None}, "log must name the file that the service writes"),
        ({"log": "/not/there"}, "/not/there: No such file or directory"),
        ({"lines": -1}, "lines: -1 is negative"),
    ],
)
def test_bad_input(run_module, supervisor, options, message):
    result = run_module("service_log", **dict(supervisor, **options))
    assert result["failed"] and message in result["msg"] and "\n" not in result["msg"]
