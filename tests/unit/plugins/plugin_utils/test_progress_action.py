# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the controller shows of a job, and when it takes it for ended or lost; molecule/progress does it for real."""

from __future__ import annotations

import json
import subprocess
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import progress_action
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.progress_action import (
    JobLost,
    ProgressAction,
    as_json,
    as_text,
    duration,
    parse,
)

REPORT = {
    "what": "merge", "done": 12_300_000_000, "total": 404_000_000_000, "unit": "B", "rate": 1.2e9, "eta_s": 326,
    "started": 1.0, "updated": 2.0, "pid": 4194304,
}  # fmt: skip


@pytest.mark.parametrize(
    "change, line",
    [
        ({}, "gpu1: merge 12.3/404.0 GB, 1.2 GB/s, ETA 5 min"),
        ({"total": None, "eta_s": None}, "gpu1: merge 12.3 GB, 1.2 GB/s"),
        ({"rate": 0.0, "eta_s": None}, "gpu1: merge 12.3/404.0 GB"),
        ({"done": 10, "total": 400, "unit": "files", "rate": 2.0}, "gpu1: merge 10/400 files, 2 files/s, ETA 5 min"),
        ({"done": 0, "total": 0, "rate": 0.0, "eta_s": None}, "gpu1: merge 0 B"),
        ({"done": 500, "total": 999, "rate": 10.0, "eta_s": 50}, "gpu1: merge 500/999 B, 10 B/s, ETA 50 s"),
    ],
)  # fmt: skip
def test_a_line_for_a_person(change, line):
    assert as_text("gpu1", {**REPORT, **change}) == line


def test_durations():
    assert [duration(n) for n in (0, 89, 90, 5399, 5400)] == ["0 s", "89 s", "2 min", "90 min", "1.5 h"]


def test_a_line_for_the_dsdeploy_command():
    assert as_json("gpu1", "Merge ü", REPORT) == (
        '{"host":"gpu1","task":"Merge ü","what":"merge","done":12300000000,"total":404000000000,"unit":"B",'
        '"rate":1200000000.0,"eta_s":326}'
    )


def test_parse():
    assert parse('\n{"a": 1}\n') == {"a": 1}
    assert [parse(text) for text in ("", "{", "[1]", "x")] == [None] * 4


class Follower(ProgressAction):
    """The following alone, fed with what polls bring back: (job file, progress file, process) or an exception."""

    def __init__(self, polls, no_log=False):
        self.polls = iter(polls)
        self.shown = []
        self._task = type("Task", (), {"no_log": no_log, "get_name": lambda self: "Merge"})()
        self._connection = type("Connection", (), {"reset": lambda self: None})()

    def _low_level_execute_command(self, _command):
        poll = next(self.polls)
        if isinstance(poll, Exception):
            raise poll
        return {"stdout": "\n--dsdeploy--\n".join(["", *poll, ""])}


RUNNING = '{"started": 1, "finished": 0, "ansible_job_id": "j1.2"}'
ENDED = '{"changed": true}'


def report(updated):
    return json.dumps({**REPORT, "updated": updated})


@pytest.fixture
def follow(monkeypatch):
    class Clock:
        now = 0.0

    def sleep(seconds):
        Clock.now += seconds

    # A clock of its own, not the functions of `time`: threads that tests before have left use those, too.
    monkeypatch.setattr(progress_action, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: Clock.now))

    def run(polls, as_json=True, **how):
        monkeypatch.setenv("DSDEPLOY_PROGRESS", "json" if as_json else "")
        follower = Follower(polls, **how)
        monkeypatch.setattr(progress_action.display, "display", follower.shown.append)
        try:
            follower._follow("gpu1", "/root/.ansible_async/j1.2", "/root/.ansible_async/p")
        finally:
            follower.seconds = Clock.now
            run.last = follower
        return follower

    return run


def test_a_short_job_is_noticed_at_once(follow):
    assert follow([(ENDED, "", "unknown")]).seconds == pytest.approx(0.1)


def test_each_report_is_shown_once(follow):
    polls = [(RUNNING, report(n // 2), "alive") for n in range(10)] + [(ENDED, "", "unknown")]
    done = follow(polls)
    assert len(done.shown) == 5 and all(line.startswith("DSDEPLOY_PROGRESS {") for line in done.shown)
    assert done.seconds == pytest.approx(0.1 + 0.2 + 0.4 + 0.8 + 7)


def test_a_person_gets_a_line_every_ten_seconds(follow):
    polls = [(RUNNING, report(n), "alive") for n in range(35)] + [(ENDED, "", "unknown")]
    assert len(follow(polls, as_json=False).shown) == 3


def test_no_log(follow):
    assert follow([(RUNNING, report(n), "alive") for n in range(9)] + [(ENDED, "", "")], no_log=True).shown == []


def test_polls_that_fail_are_tried_again(follow):
    failure = AnsibleConnectionFailure("no route")
    assert follow([(RUNNING, "", "unknown"), failure, failure, ("garbage",), (ENDED, "", "unknown")]).seconds < 15


def test_a_host_that_stays_away(follow):
    with pytest.raises(AnsibleConnectionFailure, match="lost gpu1 for 5 min; the job goes on there"):
        follow([AnsibleConnectionFailure("no route")] * 100)
    assert 300 < follow.last.seconds < 320


def test_a_process_that_is_gone(follow):
    with pytest.raises(JobLost):
        follow([(RUNNING, report(1), "alive")] * 5 + [(RUNNING, report(1), "dead")] * 100)
    assert 15 < follow.last.seconds < 25


def test_a_job_that_never_says_a_word(follow):
    with pytest.raises(JobLost):
        follow([("", "", "unknown")] * 100)
    assert 60 < follow.last.seconds < 65


def test_a_slow_start_is_not_a_loss(follow):
    follow([(RUNNING, "", "unknown")] * 40 + [(RUNNING, report(1), "alive")] * 100 + [(ENDED, "", "unknown")])


@pytest.mark.parametrize("noise", ["welcome", '{"finished": 1, "changed": true}', "line\n\nline"])
def test_what_a_noisy_shell_prints_is_no_part_of_a_poll(tmp_path, noise):
    """The real command of a poll, run by a shell whose start-up files print something before and after it."""
    job, progress = tmp_path / "job", tmp_path / "progress"
    job.write_text(RUNNING)
    progress.write_text(report(3))
    command = progress_action._POLL.format(job=job, progress=progress, mark=progress_action._MARK)
    said = subprocess.run(
        ["sh", "-c", f"printf '%s' '{noise}'; {command}; printf '%s' '{noise}'"], capture_output=True, text=True
    ).stdout
    follower = Follower([])
    follower._low_level_execute_command = lambda _command: {"stdout": said}
    assert follower._poll(command) == (False, json.loads(report(3)), "dead")
    job.write_text(ENDED)
    said = subprocess.run(["sh", "-c", f"echo '{noise}'; {command}"], capture_output=True, text=True).stdout
    assert follower._poll(command)[0] is True
