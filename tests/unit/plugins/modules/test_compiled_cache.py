# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import os
import pwd

import pytest
import run_module

ME = pwd.getpwuid(os.getuid()).pw_name
ABOUT = {"release": "0.32.0-cuda-1c0ffee5", "gpus": "1 NVIDIA H200", "driver": "580.159.04", "architecture": "x86_64"}


@pytest.fixture
def call(tmp_path):
    def run(state, name="one", check=False, **more):
        return run_module.run("compiled_cache", {"state": state, "path": str(tmp_path / name / "made"), **more}, check)

    (tmp_path / "one" / "made").mkdir(parents=True)
    (tmp_path / "one" / "made" / "kernel.so").write_text("code")
    return run


def test_from_one_host_to_its_like(call, tmp_path):
    seen = call("look", about=ABOUT, user=ME)
    assert (seen["changed"], seen["files"], seen["bytes"], seen["served"]) == (False, 1, 4, True)
    assert call("look", about=ABOUT)["key"] == seen["key"]
    assert call("look", about=dict(ABOUT, driver="550.90.12"))["key"] != seen["key"]
    archive = {"user": ME, "archive": str(tmp_path / "archive")}
    packed = call("packed", **archive)
    assert (packed["changed"], packed["files"], len(packed["checksum"])) == (False, 1, 64)
    taken = call("unpacked", "two", about=ABOUT, checksum=packed["checksum"], **archive)
    assert (taken["changed"], taken["path"]) == (True, str(tmp_path / "two" / "made"))
    assert (tmp_path / "two" / "made" / "kernel.so").read_text() == "code"
    # Now it is there, and stays.
    assert call("unpacked", "two", about=ABOUT, checksum=packed["checksum"], **archive)["changed"] is False
    assert call("forgotten", "two", user=ME)["changed"] is True
    assert call("forgotten", "two", user=ME)["changed"] is False
    assert call("forgotten", user=ME)["changed"] is False


def test_where_nothing_is_compiled_nothing_is_packed(call, tmp_path):
    packed = call("packed", "nowhere", user=ME, archive=str(tmp_path / "archive"))
    assert (packed["files"], packed["checksum"]) == (0, "")
    assert not (tmp_path / "archive").exists()


def test_what_cannot_be_is_one_line(call, tmp_path):
    archive = str(tmp_path / "archive")
    assert call("packed", user="nobody-of-this-name", archive=archive)["msg"] == "there is no user nobody-of-this-name"
    missing = call("unpacked", "two", user=ME, archive=archive, checksum="0" * 64)
    assert missing["failed"] and "No such file" in missing["msg"]
    assert call("look", user="nobody-of-this-name")["served"] is False


def test_check_mode_says_what_would_change_and_changes_nothing(call, tmp_path):
    archive = {"user": ME, "archive": str(tmp_path / "archive")}
    checksum = call("packed", **archive)["checksum"]
    taken = {"about": ABOUT, "checksum": checksum, **archive}
    assert call("unpacked", "two", check=True, **taken)["changed"] is True
    assert not (tmp_path / "two").exists()
    assert call("unpacked", check=True, **taken)["changed"] is False
    assert call("forgotten", user=ME, check=True)["changed"] is False
    call("unpacked", "two", **taken)
    assert call("forgotten", "two", user=ME, check=True)["changed"] is True
    assert (tmp_path / "two" / "made" / "kernel.so").exists()
