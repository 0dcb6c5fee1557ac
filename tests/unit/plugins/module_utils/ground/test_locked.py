# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks that no other user can hold, and that nobody waits for without an end."""

import fcntl
import os
import re
import stat
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.locked import hold, holder, open_lock
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import lock as host_lock

ROOT = Path(__file__).resolve().parents[5]


@pytest.fixture
def held(tmp_path):
    """A lock that another process holds, and whose file everybody can open."""
    path = tmp_path / "lock"
    path.touch(mode=0o644)
    with open(path) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield str(path)


def test_the_file_is_its_owners_alone(tmp_path, held):
    for path in (held, str(tmp_path / "new")):
        os.close(open_lock(path))
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_who_holds_it(tmp_path, held):
    # The kernel does not name it on every file system.
    assert holder(held) in (os.getpid(), 0)
    (tmp_path / "free").touch()
    assert holder(str(tmp_path / "free")) is None and holder(str(tmp_path / "none")) is None


def test_a_link_is_no_lock(tmp_path):
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(Failure, match="link should be a lock file, and is not a file"):
        open_lock(str(tmp_path / "link"))


def test_the_wait_has_an_end_and_says_for_what(held):
    told = []
    descriptor = open_lock(held)
    with pytest.raises(Failure, match=re.escape(f"another process has held {held} for 1 s")) as failure:
        hold(descriptor, held, 1.3, lambda: told.append(1))
    assert failure.value.hint and told
    os.close(descriptor)


def test_the_lock_of_a_host_is_not_waited_for_without_end(held, monkeypatch):
    monkeypatch.setattr(host_lock, "LIMIT", 0.2)
    with pytest.raises(Failure, match="another process has held"):
        host_lock.take(held, {"pid": 1})


def test_no_code_waits_for_a_lock_without_end_or_lets_others_hold_it():
    for path in (ROOT / "plugins").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"flock\([^)]*LOCK_EX\)", text), path
        if "LOCK_EX" in text and path.name not in ("locked.py", "journal.py", "admin.py"):
            assert "open_lock(" in text, path
