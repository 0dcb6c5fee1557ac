# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files in directories that others may write to."""

import errno
import os

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.desired import Desired
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import write_durably


@pytest.mark.parametrize("where", ["", ".new"])
def test_a_link_is_replaced_and_never_written_through(tmp_path, where):
    victim, path = tmp_path / "victim", tmp_path / "note"
    victim.write_text("precious")
    os.symlink(victim, f"{path}{where}")
    write_durably(str(path), "ours")
    assert victim.read_text() == "precious"
    assert path.read_text() == "ours" and not path.is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["note", "victim"]


def test_what_a_killed_run_left_is_no_obstacle_and_the_mode_is_as_wanted(tmp_path):
    (tmp_path / "note.new").write_text("half")
    before = os.umask(0o027)
    try:
        write_durably(str(tmp_path / "note"), "whole")
        write_durably(str(tmp_path / "other"), "whole", 0o644)
    finally:
        os.umask(before)
    assert (tmp_path / "note").read_text() == "whole"
    assert [os.stat(tmp_path / name).st_mode & 0o777 for name in ("note", "other")] == [0o640, 0o644]


@pytest.mark.parametrize(
    "write",
    [write_durably, lambda path, text: Desired().file(path, text, 0o600, os.getuid(), os.getgid())],
    ids=["durably", "desired"],
)
def test_a_disk_that_is_full_is_told_with_the_file_and_leaves_nothing(tmp_path, monkeypatch, write):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as write(2), without a name

    (tmp_path / "note").write_text("before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught:
        write(str(tmp_path / "note"), "after")
    assert caught.value.filename == str(tmp_path / "note.new")
    assert os.listdir(tmp_path) == ["note"] and (tmp_path / "note").read_text() == "before"
