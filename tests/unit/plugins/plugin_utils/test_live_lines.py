# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lines of a program while a connection plugin waits for its end."""

import subprocess
import threading
import time

import pytest
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import live_lines

MARK = b"DSDEPLOY_LOOK "


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_marked_lines_are_taken_out_and_the_rest_passes(size):
    whole = b'BECOME-SUCCESS-x\nDSDEPLOY_LOOK {"a": 1}\r\nDSDEPLOY_LOO\nDSDEPLOY_LOOK 2\n\n{"changed": false}\nDSDEP'
    told, passed = [], b""
    split = live_lines.Split(MARK, told.append)
    for start in range(0, len(whole), size):
        passed += split.feed(whole[start : start + size])
    passed += split.end()
    assert told == [b'{"a": 1}', b"2"]
    assert passed == b'BECOME-SUCCESS-x\nDSDEPLOY_LOO\n\n{"changed": false}\nDSDEP'


def test_a_prompt_does_not_wait_for_its_line_end():
    split = live_lines.Split(MARK, lambda line: None)
    assert split.feed(b"[sudo via ansible] password:") == b"[sudo via ansible] password:"
    # But what may become a marked line is held.
    assert split.feed(b"\nDSDEPLOY") == b"\n" and split.feed(b"_LOOK 1\nrest") == b"rest"


def test_lines_come_while_the_program_runs():
    told, first = [], threading.Event()

    def take(line):
        told.append((time.monotonic(), line))
        first.set()

    with live_lines.taken(MARK, take):
        # As a connection plugin does it.
        command = [
            "sh",
            "-c",
            "echo DSDEPLOY_LOOK 1; read line; echo DSDEPLOY_LOOK 2; echo result; echo end >&2; exit 3",
        ]
        program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert first.wait(60) and program.poll() is None
        stdout, stderr = program.communicate(b"go on\n")
    assert (stdout, stderr, program.returncode) == (b"result\n", b"end\n", 3)
    assert [line for _at, line in told] == [b"1", b"2"]
    # Outside it, and for programs whose output is text or goes nowhere, nothing is changed.
    assert subprocess.run(["echo", "DSDEPLOY_LOOK 1"], stdout=subprocess.PIPE).stdout == b"DSDEPLOY_LOOK 1\n"
    with live_lines.taken(MARK, take):
        done = subprocess.run(["echo", "DSDEPLOY_LOOK 1"], stdout=subprocess.PIPE, text=True)
    assert done.stdout == "DSDEPLOY_LOOK 1\n"


def test_a_program_that_hangs_can_be_killed():
    with live_lines.taken(MARK, lambda line: None) as programs:
        # The shell's child has the output, too, and must not hold up who waits for its end.
        program = subprocess.Popen(["sh", "-c", "sleep 60; true"], stdout=subprocess.PIPE)
        programs.kill()
        assert program.communicate(timeout=60)[0] == b"" and program.returncode == -9
