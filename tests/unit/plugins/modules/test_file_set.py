# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several small files in one process: contents, owners, modes, secrets, and what a diff shows."""

import getpass
import grp
import os

import pytest
from run_module import run

ME = {"owner": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name}


def wanted(path, content="a\n", **more):
    return dict(ME, path=str(path), content=content, **more)


def test_files_are_written_once_and_mended(tmp_path):
    one, two = tmp_path / "deep" / "one", tmp_path / "two"
    files = [wanted(one, mode="0755"), wanted(two)]
    first = run("file_set", {"files": files})
    assert first["changed"] and first["changes"] == [f"write {one}", f"write {two}"]
    assert one.read_text() == "a\n" and one.stat().st_mode & 0o777 == 0o755 and two.stat().st_mode & 0o777 == 0o644
    assert not run("file_set", {"files": files})["changed"]
    two.chmod(0o600)
    again = run("file_set", {"files": files})
    assert again["changes"] == [f"change {two}"] and two.stat().st_mode & 0o777 == 0o644
    assert "0600" in again["diff"][0]["before"] and "0644" in again["diff"][0]["after"]


def test_check_mode_says_the_same_and_writes_nothing(tmp_path):
    files = [wanted(tmp_path / "new" / "file", "text\n")]
    told = run("file_set", {"files": files}, check=True)
    assert told["changed"] and told["diff"][0]["after"] == "text\n" and not (tmp_path / "new").exists()
    # On a bare host the user is still to be made.
    nobody = [dict(files[0], owner="made-by-a-later-task")]
    assert run("file_set", {"files": nobody}, check=True)["changed"]
    assert "no user made-by-a-later-task" in run("file_set", {"files": nobody})["msg"]


def test_a_strict_umask_hides_nothing_from_other_users(tmp_path):
    before = os.umask(0o077)
    try:
        run("file_set", {"files": [wanted(tmp_path / "a" / "b" / "file")]})
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o755


def test_a_secret_is_shown_nowhere(tmp_path):
    path = tmp_path / "key"
    secret = dict(ME, path=str(path), secret="hunter2-secret", mode="0600")
    path.write_text("older-secret")
    told = run("file_set", {"files": [secret], "_ansible_diff": True})
    assert told["changed"] and path.read_text() == "hunter2-secret" and path.stat().st_mode & 0o777 == 0o600
    assert "hunter2-secret" not in str(told) and "older-secret" not in str(told)
    assert told["diff"] == [{"prepared": f"{path}: changed, not shown\n"}]


def test_a_link_is_replaced_and_not_followed(tmp_path):
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    link = tmp_path / "ours"
    link.symlink_to(theirs)
    assert run("file_set", {"files": [wanted(link)]})["changed"]
    assert theirs.read_text() == "theirs" and not link.is_symlink() and link.read_text() == "a\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mode": "rw"}, "not an octal mode"),
        ({"path": "relative"}, "not an absolute path"),
        ({"path": "/"}, "is a directory"),
    ],
)
def test_what_cannot_be_meant_is_one_line(change, said):
    told = run("file_set", {"files": [dict(wanted("/nowhere/at/all"), **change)]})
    assert told["failed"] and said in told["msg"]
