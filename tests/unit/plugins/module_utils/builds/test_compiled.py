# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine has compiled goes from host to host as it is, and over nothing that is there."""

import json
import os
import pwd

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.builds import compiled
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import sha256_of

ME = pwd.getpwuid(os.getuid()).pw_name
ABOUT = {"release": "0.32.0-cuda-1c0ffee5", "gpus": "8 NVIDIA H200", "driver": "580.159.04", "architecture": "x86_64"}
CPU = "processor : 0\nmodel name\t: A\nflags\t\t: avx2 fma\nprocessor : 1\nmodel name\t: A\nflags\t\t: avx2 fma\n"


@pytest.fixture
def made(tmp_path):
    """A directory of what was compiled, with a time that only nanoseconds tell."""
    path = tmp_path / "one" / "0.32.0"
    (path / "flashinfer").mkdir(parents=True)
    (path / "flashinfer" / "sampler.so").write_bytes(b"code" * 100)
    os.utime(path / "flashinfer" / "sampler.so", ns=(1, 1_764_300_000_123_456_789))
    (path / "latest").symlink_to("flashinfer")
    return path


@pytest.fixture
def packed(made, tmp_path):
    archive = str(tmp_path / "archive")
    return archive, compiled.pack(str(made), archive, ME)


def test_it_arrives_as_it_was(made, packed, tmp_path):
    there = tmp_path / "two" / "0.32.0"
    assert compiled.unpack(*packed, str(there), ME, "key")
    file = there / "flashinfer" / "sampler.so"
    assert file.read_bytes() == b"code" * 100
    assert file.stat().st_mtime_ns == 1_764_300_000_123_456_789
    assert os.readlink(there / "latest") == "flashinfer"
    assert (there / compiled.FROM).read_text() == "key\n"
    assert compiled.count(str(there)) == compiled.count(str(made))
    assert compiled.count(str(there)) == (1, 400)
    # What was carried here is not told as carried where it goes on.
    again = str(tmp_path / "again")
    assert compiled.pack(str(there), again, ME)
    third = tmp_path / "three"
    assert compiled.unpack(again, sha256_of(again), str(third), ME, "other")
    assert (third / compiled.FROM).read_text() == "other\n"


def test_what_is_there_stays(packed, tmp_path):
    there = tmp_path / "two"
    there.mkdir()
    (there / "own").write_text("newer")
    assert not compiled.unpack(*packed, str(there), ME, "key")
    assert os.listdir(there) == ["own"]
    assert not compiled.forget(str(there), ME)
    link = tmp_path / "link"
    link.symlink_to(there / "nowhere")
    assert not compiled.unpack(*packed, str(link), ME, "key")


def test_an_empty_directory_is_filled_and_what_came_can_be_taken_away(packed, tmp_path):
    there = tmp_path / "two"
    there.mkdir()
    assert compiled.unpack(*packed, str(there), ME, "key")
    assert compiled.forget(str(there), ME)
    assert not there.exists()


def test_another_archive_is_refused_and_leaves_nothing(packed, tmp_path):
    archive, checksum = packed
    with open(archive, "r+b") as handle:
        handle.seek(600)
        handle.write(b"x")
    with pytest.raises(Failure, match="is not what was packed"):
        compiled.unpack(archive, checksum, str(tmp_path / "two"), ME, "key")
    (tmp_path / "cut").write_bytes(open(archive, "rb").read()[:700])
    cut = str(tmp_path / "cut")
    with pytest.raises(Failure, match="^tar: "):
        compiled.unpack(cut, sha256_of(cut), str(tmp_path / "two"), ME, "key")
    assert not (tmp_path / "two").exists() and not (tmp_path / "two.new").exists()


@pytest.mark.parametrize("name", list(ABOUT))
def test_hosts_that_differ_in_one_thing_are_no_likes(name):
    before = compiled.key("/var/lib/x", ABOUT, CPU)
    assert compiled.key("/var/lib/x", dict(ABOUT), CPU) == before
    assert compiled.key("/var/lib/x", dict(ABOUT, **{name: "other"}), CPU) != before


def test_nor_are_other_processors_and_other_places():
    before = compiled.key("/var/lib/x", ABOUT, CPU)
    assert compiled.key("/srv/x", ABOUT, CPU) != before
    assert compiled.key("/var/lib/x", ABOUT, CPU.replace("avx2", "avx512f")) != before
    # The order of the flags says nothing.
    assert compiled.key("/var/lib/x", ABOUT, CPU.replace("avx2 fma", "fma avx2")) == before
    assert json.loads(before)["driver"] == "580.159.04"
