# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import process
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.process import run, stream


def test_answer():
    answer = run(["sh", "-c", "echo out; printf '\\377' >&2; exit 3"], 10)
    assert answer == (3, "out\n", "\ufffd", False)


def test_no_such_program(tmp_path):
    answer = run([str(tmp_path / "none")], 10)
    assert (answer.rc, answer.timed_out) == (None, False)
    assert "No such file" in answer.stderr


def test_time_out():
    assert run(["sleep", "300"], 0.2) == (None, "", "", True)


def test_no_time_left_starts_nothing(tmp_path):
    assert run(["touch", str(tmp_path / "started")], 0).timed_out
    assert list(tmp_path.iterdir()) == []


def test_stream_gives_lines_as_they_come_and_the_status():
    seen = []
    script = "echo one; echo two >&2; echo $WORD $LC_ALL; printf 'x\\377'; exit 3"
    assert stream(["sh", "-c", script], {"WORD": "moin"}, seen.append) == 3
    assert seen == ["one\n", "two\n", "moin C\n", "x\ufffd"]
    assert stream(["sh", "-c", "kill -9 $$"], {}, seen.append) == -9
    with pytest.raises(OSError):
        stream(["/nowhere"], {}, seen.append)


def test_stream_ends_the_program_when_a_line_cannot_be_taken():
    def refuse(line):
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        stream(["sh", "-c", "echo $$; exec sleep 60"], {}, refuse)
    assert time.monotonic() - began < 30


def children():
    """Of this process, with those that have ended and were not waited for."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(") ")[2].split()[1]) == os.getpid():
                found.add(int(path.parent.name))
    return found


def test_work_aside_that_crashes_hangs_or_fails_is_an_error():
    before = children()
    assert process.aside(lambda: {"a": [1, "é"]}, 5) == {"a": [1, "é"]}
    with pytest.raises(OSError, match="it crashed"):
        process.aside(lambda: os.kill(os.getpid(), signal.SIGSEGV), 5)
    with pytest.raises(OSError, match="ZeroDivisionError"):
        process.aside(lambda: 1 // 0, 5)
    with pytest.raises(TimeoutError, match="no answer within 0.2 s"):
        process.aside(lambda: time.sleep(60), 0.2)
    assert children() <= before


def test_a_program_that_prints_without_end_is_killed(monkeypatch):
    monkeypatch.setattr(process, "MOST_OUTPUT", 1024 * 1024)
    answer = process.run(["cat", "/dev/zero"], 20)
    assert (answer.rc, answer.stdout, answer.stderr, answer.timed_out) == (
        None,
        "",
        "cat printed more than 1 MiB",
        False,
    )
