# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The target's half of the progress channel."""

from __future__ import annotations

import json
import os
import time
from types import SimpleNamespace

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import progress
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import ENVIRONMENT, Progress


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

    monkeypatch.setattr(progress, "time", SimpleNamespace(time=time.time, monotonic=lambda: Clock.now))
    return Clock


def test_nothing_is_done_when_nobody_asks(monkeypatch, clock):
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setattr(progress.json, "dump", None)
    with Progress("merge", 10) as job:
        job.update(5, force=True)


def test_the_file(monkeypatch, tmp_path, clock):
    path = tmp_path / "p.json"
    monkeypatch.setenv(ENVIRONMENT, str(path))
    with Progress("merge", 1000, unit="B") as job:
        first = json.loads(path.read_text())
        assert (first["what"], first["done"], first["total"], first["unit"]) == ("merge", 0, 1000, "B")
        assert (first["rate"], first["eta_s"], first["pid"]) == (0.0, None, os.getpid())
        clock.now += 0.4
        job.update(50)  # too soon
        assert json.loads(path.read_text()) == first
        clock.now += 0.6
        job.update(100)
        now = json.loads(path.read_text())
        assert (now["done"], now["rate"], now["eta_s"]) == (100, 100.0, 9)
        assert os.listdir(tmp_path) == ["p.json"]
    assert os.listdir(tmp_path) == []


def test_the_rate_is_that_of_the_last_seconds(clock):
    seen = []
    job = Progress("download", None, report=seen.append)
    for second in range(1, 61):
        clock.now += 1
        job.update(second * 10 if second <= 30 else 300 + (second - 30) * 1000)
    assert seen[-1]["rate"] == 1000.0 and seen[-1]["eta_s"] is None
    job.begin("publish", 5)
    assert (seen[-1]["what"], seen[-1]["rate"], seen[-1]["total"]) == ("publish", 0.0, 5)


def test_steps_are_averaged_over_the_stage(clock):
    seen = []
    job = Progress("configure", report=seen.append, unit="steps")
    clock.now += 100
    job.begin("build", 100)
    for step in range(1, 21):  # ten quick ones, then ten slow ones
        clock.now += 1 if step <= 10 else 19
        job.update(step)
    assert (seen[-1]["rate"], seen[-1]["eta_s"]) == (0.1, 800)


def test_a_job_survives_that_its_file_cannot_be_written(monkeypatch, tmp_path, clock):
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "no" / "p.json"))
    with Progress("merge", 10) as job:
        job.update(5, force=True)


def test_home_is_expanded(monkeypatch, tmp_path, clock):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(ENVIRONMENT, "~/p.json")
    job = Progress("merge", 10)
    assert (tmp_path / "p.json").exists()
    job.close()
