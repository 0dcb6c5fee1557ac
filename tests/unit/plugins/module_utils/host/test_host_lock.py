# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds a host's lock, and from whom it may be taken."""

import os
import subprocess
import sys
import time

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.lock import (
    holder_of,
    is_dead,
    is_ending,
    parent_of,
    release,
    same,
    started,
    take,
)
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import run_lock


@pytest.fixture
def lock(tmp_path):
    return str(tmp_path / "lock")


@pytest.fixture
def ended():
    """The holder that a process was which has ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        holder = holder_of(process.pid, "root@gone", "2026-01-01T00:00:00Z")
        assert not is_dead(holder)
        process.communicate(b"\n")
    return holder


OURS = holder_of(os.getpid(), "me@here", "2026-01-01T00:00:01Z")
ELSEWHERE = dict(OURS, machine="another", who="you@there")


def test_one_at_a_time(lock):
    assert same(take(lock, OURS), OURS)
    assert same(take(lock, dict(OURS, since="later")), OURS)  # the same run again
    assert take(lock, ELSEWHERE)["who"] == "me@here"
    release(lock, ELSEWHERE)  # not theirs to release
    assert take(lock, ELSEWHERE)["who"] == "me@here"
    release(lock, OURS)
    assert take(lock, ELSEWHERE)["who"] == "you@there"
    assert take(lock, OURS)["who"] == "you@there"


def test_the_lock_of_a_dead_run_is_taken_unless_another_was_quicker(lock, ended):
    take(lock, ended)
    assert same(take(lock, OURS), ended)
    assert is_dead(ended)
    assert same(take(lock, ELSEWHERE, dead=ended), ELSEWHERE)
    assert same(take(lock, OURS, dead=ended), ELSEWHERE)
    assert same(take(lock, OURS, force=True), OURS)


def test_who_is_dead():
    assert not is_dead(OURS)
    assert is_dead(dict(OURS, started="1"))  # the process id belongs to another process now
    assert not is_dead(dict(ELSEWHERE, pid=2**22 + 1))  # of another machine nothing is known
    assert not is_dead({"who": "a file of someone else's"})


def test_one_whose_end_nobody_has_asked_for_is_dead():
    """A container's first process may leave it so for ever."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        holder = holder_of(process.pid, "root@gone", "2026-01-01T00:00:00Z")
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and still there
        assert started(process.pid) and is_dead(holder)


def test_a_run_whose_command_is_gone_is_ending(ended):
    starter = [ended["pid"], ended["started"]]
    assert is_ending(dict(OURS, starter=starter))
    assert not is_ending(dict(OURS, starter=parent_of(os.getpid())))
    assert not is_ending(dict(ELSEWHERE, starter=starter))
    for damaged in (None, [], 5, "x", [starter[0]], [None, None], [True, ""], [-1, ""], [2**70, ""], [[], {}]):
        assert not is_ending(dict(OURS, starter=damaged))


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_what_is_no_lock_is_free(lock, content):
    with open(lock, "w", encoding="utf-8") as handle:
        handle.write(content)
    assert same(take(lock, OURS), OURS)


def test_nothing_is_left_of_it(lock):
    take(lock, OURS)
    release(lock, OURS)
    assert not os.path.exists(lock)
    release(lock, OURS)
    assert not os.path.exists(lock)


def test_who_waits_for_one_that_is_removed_takes_the_next(lock):
    """Of many that take it at once, only one ever has it."""
    script = (
        "import sys; from ansible_collections.dsdeploy.llm.plugins.module_utils.host.lock import *\n"
        "import os; mine = holder_of(os.getpid(), 'x', 'y'); had = 0\n"
        "while had < 50:\n"
        "    if same(take(sys.argv[1], mine), mine):\n"
        "        os.mkdir(sys.argv[1] + '.held'); os.rmdir(sys.argv[1] + '.held'); had += 1\n"
        "        release(sys.argv[1], mine)\n"
    )
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    running = [subprocess.Popen([sys.executable, "-c", script, lock], env=environment) for _each in range(4)]
    assert [process.wait(120) for process in running] == [0] * 4


def test_a_link_is_not_followed(lock, tmp_path):
    os.symlink(str(tmp_path / "victim"), lock)
    with pytest.raises(Failure, match="is not a file"):
        take(lock, OURS)
    assert not (tmp_path / "victim").exists()


def test_a_lock_whose_machine_is_gone_is_free_after_its_lease(lock):
    """Nobody says any more that the run lives: no colleague has to break its lock."""
    theirs = dict(OURS, machine="another", lease_s=900)
    assert take(lock, theirs) == theirs
    assert take(lock, OURS) == theirs
    os.utime(lock, (time.time() - 901, time.time() - 901))
    assert take(lock, OURS) == OURS
    # One that promised nothing, or something odd, is waited for.
    for lease in ({}, {"lease_s": 0}, {"lease_s": -1}, {"lease_s": True}, {"lease_s": "900"}):
        odd = dict(theirs, **lease) if lease else {key: value for key, value in theirs.items() if key != "lease_s"}
        assert take(lock, odd, force=True) == odd
        os.utime(lock, (0, 0))
        assert take(lock, OURS) == odd


def test_a_beat_touches_the_lock_of_its_run_alone(lock):
    take(lock, OURS)
    os.utime(lock, (5, 5))
    other = dict(OURS, started="other")
    assert subprocess.run(["sh", "-c", run_lock.beat(str(lock), other)]).returncode == 1
    assert os.stat(lock).st_mtime == 5
    assert subprocess.run(["sh", "-c", run_lock.beat(str(lock), OURS)]).returncode == 0
    assert os.stat(lock).st_mtime > 5
    os.unlink(lock)
    subprocess.run(["sh", "-c", run_lock.beat(str(lock), OURS)], stderr=subprocess.DEVNULL)
    assert not os.path.exists(lock)
