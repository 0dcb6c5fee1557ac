# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module host_check, over what a stand-in's directories hold."""

import json
import os

import pytest
from run_module import run


@pytest.fixture
def arguments(tmp_path):
    """Of a host whose kernel counts memory strictly (a warning) and whose disk died (a failure)."""
    for path, text in {
        "proc/sys/vm/overcommit_memory": "2\n",
        "proc/sys/vm/max_map_count": "65530\n",
        "sys/class/nvme/nvme0/state": "dead\n",
    }.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    only = ["system_overcommit", "system_max_map_count", "disk_nvme"]
    return {"sysfs": str(tmp_path / "sys"), "procfs": str(tmp_path / "proc"), "only": only}


def told(result):
    """Its warnings, a line each; newer versions of ansible-core say more of one than its text."""
    return [line if isinstance(line, str) else line["event"]["msg"] for line in result.get("warnings", [])]


def status(result):
    return {one["id"]: one["status"] for one in result["checks"]}


def test_it_fails_for_what_fails_and_tells_all_of_it(arguments):
    result = run("host_check", arguments)
    assert status(result) == {"system_overcommit": "warn", "system_max_map_count": "pass", "disk_nvme": "fail"}
    assert (result["failed"], result["changed"], result["status"]) == (True, False, "fail")
    assert result["msg"] == "1 of 3 checks do not pass: disk_nvme"
    assert result["hint"].startswith("disk_nvme: dmesg")
    assert result["counts"] == {"pass": 1, "warn": 1, "fail": 1, "skip": 0, "unknown": 0}


def test_what_it_fails_for_can_be_chosen(arguments):
    assert "failed" not in run("host_check", dict(arguments, fail_on="never"))
    arguments["only"] = ["system_overcommit"]
    assert "failed" not in run("host_check", arguments)
    assert run("host_check", dict(arguments, fail_on="warn"))["failed"]


def test_warnings_are_a_line_each_and_none_of_what_passes(arguments):
    lines = told(run("host_check", dict(arguments, report_warnings=True, fail_on="never")))
    assert [line.partition(":")[0] for line in lines] == ["system_overcommit", "disk_nvme"]
    arguments["only"] = ["system_max_map_count"]
    assert told(run("host_check", dict(arguments, report_warnings=True))) == []


def test_a_name_that_is_none_is_wrong_usage(arguments):
    result = run("host_check", dict(arguments, only=["disk_nvm"]))
    assert (result["error_kind"], result["msg"]) == ("usage", "there is no check disk_nvm; did you mean disk_nvme?")


def test_metrics_are_put_in_place_in_one_step_for_everybody(arguments, tmp_path):
    directory = tmp_path / "textfile"
    directory.mkdir()
    arguments.update(textfile=str(directory), fail_on="never")
    # Somebody's link under that name, and another's file next to it, are left alone.
    (tmp_path / "precious").write_text("mine")
    (directory / "dsdeploy_doctor.prom").symlink_to(tmp_path / "precious")
    assert run("host_check", arguments, check=True)["changed"]
    assert (directory / "dsdeploy_doctor.prom").is_symlink()
    before = os.umask(0o077)
    try:
        assert run("host_check", arguments)["changed"]
    finally:
        os.umask(before)
    assert (tmp_path / "precious").read_text() == "mine"
    assert [path.name for path in directory.iterdir()] == ["dsdeploy_doctor.prom"]
    file = directory / "dsdeploy_doctor.prom"
    assert file.stat().st_mode & 0o777 == 0o644
    lines = file.read_text().splitlines()
    assert 'dsdeploy_check_status{check="disk_nvme",group="disk"} 2' in lines
    assert 'dsdeploy_check_status{check="system_overcommit",group="system"} 1' in lines
    assert 'dsdeploy_check_status{check="system_max_map_count",group="system"} 0' in lines
    assert 'dsdeploy_checks{status="fail"} 1' in lines
    assert all(line.startswith(("# HELP ", "# TYPE ", "dsdeploy_")) for line in lines)
    assert not run("host_check", arguments)["changed"]


def test_whoever_owns_the_directory_holds_up_nothing(arguments, tmp_path):
    """Debian's exporter has its directory for a user of its own: a pipe in the file's place would be waited for, and
    what has no end be read."""
    directory = tmp_path / "textfile"
    directory.mkdir()
    path = directory / "dsdeploy_doctor.prom"
    for plant in (lambda: os.mkfifo(path), lambda: path.symlink_to("/dev/zero"), lambda: path.write_bytes(b"\xff")):
        path.unlink(missing_ok=True)
        plant()
        assert run("host_check", dict(arguments, textfile=str(directory), fail_on="never"))["changed"]
        assert path.is_file() and not path.is_symlink() and "dsdeploy" in path.read_text()


def test_a_directory_that_is_not_there(arguments, tmp_path):
    result = run("host_check", dict(arguments, textfile=str(tmp_path / "none")))
    assert result["failed"] and "No such file or directory" in result["msg"] and "textfile" in result["hint"]
    assert len(result["checks"]) == 3


def test_the_report_of_a_run_makes_the_quick_checks_in_the_same_process(tmp_path):
    record = {
        "engine": "llama_cpp", "version": "b1", "endpoint": "http://127.0.0.1:9", "api": "openai", "device": "cpu",
        "model": "m", "service": {"name": "none-such", "manager": "supervisor"}, "user": "nobody",
    }  # fmt: skip
    (tmp_path / "llama_cpp.json").write_text(json.dumps(record))
    arguments = {"path": str(tmp_path), "supervisor_config": str(tmp_path / "none"), "lock": str(tmp_path / "lock")}
    result = run("deployment_report", arguments)
    found = status(result)
    assert found["engine_running"] == "fail"
    assert not {name for name in found if name.startswith("deep")}
    assert any(line.startswith("engine_running: llama_cpp: ") for line in told(result))
    assert "checks" not in run("deployment_report", dict(arguments, checks=False))
