# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's half of bench: what was measured is kept, and what cannot be kept is said."""

import errno
import json
from types import SimpleNamespace

import pytest
from ansible_collections.dsdeploy.llm.plugins.action import bench
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.progress_action import ProgressAction

RESULT = {"profile": {"name": "quick"}, "environment": {"record": {"engine": "vllm", "model": "a\nb/../c\x1b[2J"}}}


@pytest.fixture
def run(monkeypatch, tmp_path):
    def run(result, directory=tmp_path):
        monkeypatch.setattr(ProgressAction, "_run_job", lambda self, task_vars: dict(result))
        action = bench.ActionModule.__new__(bench.ActionModule)
        action._task = SimpleNamespace(args={"results_dir": str(directory)})
        return action._run_job({"inventory_hostname": "gpu/../1"})

    return run


def test_a_result_is_kept_by_host_and_time(run, tmp_path):
    path = run({"bench": RESULT})["path"]
    assert path.startswith(f"{tmp_path}/gpu_.._1/") and path.endswith("-vllm-quick.json")
    with open(path, encoding="utf-8") as file:
        assert json.load(file)["environment"] == RESULT["environment"]
    # A second one in the same second is another file.
    assert run({"bench": RESULT})["path"] != path


def test_a_disk_that_is_full_takes_nothing_of_the_result(run, monkeypatch):
    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device", "/full")

    monkeypatch.setattr(bench.bench_results, "save", full)
    result = run({"bench": RESULT})
    assert result["failed"] and result["bench"] == RESULT and result["path"] == ""
    assert result["msg"] == "the measurement could not be kept: /full: No space left on device"
    # A limit that was missed is said, too.
    assert run({"bench": RESULT, "msg": "too slow", "failed": True})["msg"].startswith("too slow; the measurement")


def test_nothing_half_written_is_left(run, monkeypatch, tmp_path):
    def fail(*_args, **_named):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bench.bench_results.json, "dump", fail)
    assert "No space left" in run({"bench": RESULT})["msg"]
    assert list((tmp_path / "gpu_.._1").iterdir()) == []


def test_a_failure_without_a_measurement_is_left_alone(run):
    assert run({"failed": True, "msg": "x"}) == {"failed": True, "msg": "x"}


@pytest.mark.parametrize("kind", ["file", "dangling link", "read-only"])
def test_where_nothing_can_be_kept_nothing_is_measured(run, monkeypatch, tmp_path, kind):
    place = tmp_path / "results"
    if kind == "file":
        place.write_text("")
    elif kind == "dangling link":
        place.symlink_to(tmp_path / "nowhere")
    else:
        place.mkdir()

        def refused(*_args, **_named):
            raise OSError(errno.EROFS, "Read-only file system", str(place))

        monkeypatch.setattr(bench.bench_results.tempfile, "mkstemp", refused)
        monkeypatch.setattr(bench.bench_results.tempfile, "TemporaryFile", refused)
    result = run({"bench": RESULT}, place)
    assert result["failed"] and "bench" not in result and "--results" in result["hint"]
    assert result["msg"].startswith(f"a measurement could not be kept: {place}")


def test_a_link_to_a_directory_is_one(run, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert run({"bench": RESULT}, tmp_path / "link")["path"].startswith(f"{tmp_path}/link/gpu_")


def test_it_is_followed_where_a_home_directory_has_a_space(monkeypatch):
    said = []
    action = bench.ActionModule.__new__(bench.ActionModule)
    monkeypatch.setattr(bench.ActionModule, "_low_level_execute_command", lambda self, command: said.append(command))
    monkeypatch.setattr(ProgressAction, "_poll", lambda self, command: said.append(command) or (True, None, "dead"))
    monkeypatch.setattr(ProgressAction, "_follow", lambda self, host, job, progress: self._poll(f"cat '{progress}' x"))
    action._follow("h", "j", "/home/my user/.ansible_async/x.progress")
    assert said[0].startswith(": > '/home/my user/.ansible_async/x.progress'.alive; cat ")
    assert said[1].startswith("rm -f '/home/my user/.ansible_async/x.progress'.alive ")
