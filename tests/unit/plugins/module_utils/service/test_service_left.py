# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a service under supervisor leaves behind: processes whose parent, the main process, is gone."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.modules.service_control import end_group, group_members

sys.path.insert(0, str(Path(__file__).parents[3] / "roles"))
from resolve import resolve

# A main process with a worker that does not mind its end, as supervisord starts it: leader of a process group.
SERVICE = ["sh", "-c", "trap '' TERM; (trap '' TERM; exec sleep 60) & echo $!; sleep 60"]


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as handle:
            return handle.read().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def gone(pid, wait=5.0):
    deadline = time.monotonic() + wait
    while lives(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not lives(pid)


def start(directory, command):
    process = subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, preexec_fn=os.setpgrp)
    return process, int(process.stdout.readline())


@pytest.fixture
def shell():
    """The part of the service's shell that comes first, and then a service."""
    first = str(resolve("service", "Debian 12", "_service_end_left", service_name="it", service_record={}))
    return lambda then: ["sh", "-c", first + ' exec "$@"', "it", *then]


def test_a_start_ends_what_the_one_before_left(tmp_path, shell):
    main, worker = start(tmp_path, shell(SERVICE))
    other = subprocess.Popen(["sleep", "60"], preexec_fn=os.setpgrp)
    main.kill()
    main.wait()
    assert lives(worker)
    again, second = start(tmp_path, shell(SERVICE))
    try:
        assert gone(worker)
        assert lives(second) and lives(again.pid) and lives(other.pid)
        assert (tmp_path / ".group").read_text().split()[0] == str(again.pid)
    finally:
        os.killpg(again.pid, 9)
        other.kill()
        again.wait()
        other.wait()


def test_a_group_of_another_session_is_left_alone(tmp_path, shell):
    main, worker = start(tmp_path, SERVICE)
    (tmp_path / ".group").write_text(f"{main.pid} {os.getsid(0) + 1}\n")
    again, _second = start(tmp_path, shell(SERVICE))
    try:
        assert lives(worker)
    finally:
        os.killpg(again.pid, 9)
        os.killpg(main.pid, 9)
        again.wait()
        main.wait()


def test_what_outlives_a_stop_is_ended(tmp_path):
    main, worker = start(tmp_path, SERVICE)
    group = f"{main.pid} {os.getsid(0)}"
    assert sorted(group_members(group)) != []
    assert group_members(f"{main.pid} {os.getsid(0) + 1}") == []
    main.kill()
    main.wait()
    assert lives(worker)
    end_group(group, wait=0.3)
    assert gone(worker)
    assert group_members(group) == []


def test_nothing_is_waited_for_where_nothing_was_noted():
    before = time.monotonic()
    end_group("")
    assert time.monotonic() - before < 1
