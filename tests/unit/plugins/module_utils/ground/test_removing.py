# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is removed, and what of others is not."""

import os

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.builds import prefix, releases
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import files, removing
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.desired import Desired
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure


@pytest.fixture
def mount(tmp_path, monkeypatch):
    """Tells the rules that a directory is a mount point, as the kernel writes it."""
    table = tmp_path / "mountinfo"
    table.write_text("22 1 254:1 / / rw shared:1 - ext4 /dev/vda1 rw\n")
    monkeypatch.setattr(removing, "MOUNTS", str(table))

    def mount(path):
        path.mkdir(parents=True)
        word = str(path).replace(" ", "\\040")
        with table.open("a") as handle:
            handle.write(f"40 22 0:33 /their/share {word} rw,relatime shared:9 - nfs4 nas:/ rw\n")

    return mount


def test_what_others_mount_is_read_from_the_kernel():
    assert "/" in removing.mount_points() and "/proc" in removing.mount_points()


@pytest.mark.parametrize(
    "remove",
    [
        removing.remove,
        prefix.remove,
        lambda path: releases.remove([path]),
        lambda path: Desired().absent(path),
    ],
    ids=["remove", "prefix", "releases", "desired"],
)
def test_a_share_inside_is_not_emptied(tmp_path, mount, remove):
    ours = tmp_path / "opt/engine"
    mount(ours / "their share")
    (ours / "their share/precious").write_text("precious")
    (ours / "program").write_text("ours")
    (tmp_path / "opt/link").symlink_to(ours)
    with pytest.raises(Failure, match="their share: mounted inside of what is to be removed") as refused:
        remove(str(ours))
    assert "umount" in refused.value.hint and (ours / "program").exists()
    assert (ours / "their share/precious").read_text() == "precious"
    remove(str(tmp_path / "opt/link"))  # the link alone
    assert (ours / "program").exists() and not (tmp_path / "opt/link").exists()


def test_of_a_disk_of_its_own_the_content_goes_and_the_mount_point_stays(tmp_path, mount):
    ours = tmp_path / "opt/engine"
    mount(ours)
    (ours / "release/bin").mkdir(parents=True)
    (ours / "lost+found").mkdir()
    desired = Desired()
    assert desired.absent(str(ours)) and os.listdir(ours) == ["lost+found"]
    assert not desired.absent(str(ours))  # nothing to do any more


def test_files_trees_and_what_is_not_there(tmp_path):
    (tmp_path / "tree/below").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    for name in ("tree", "file", "nowhere", "nothing"):
        removing.remove(str(tmp_path / name))
    assert os.listdir(tmp_path) == []


def test_a_device_is_neither_replaced_nor_removed():
    # In check mode: were it wrong, this machine would lose its /dev/null.
    desired = Desired(check_mode=True)
    assert not desired.absent(os.devnull)
    with pytest.raises(Failure, match="/dev/null is a device, where a file should be"):
        desired.file(os.devnull, "words", 0o600)
    assert desired.changes == []


def test_a_small_file_does_not_take_a_device_s_place(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "is_device", lambda state: True)
    place = tmp_path / "device"
    place.touch()
    with pytest.raises(OSError, match="is a device"):
        files.write_durably(str(place), "words")
    assert place.read_text() == ""
    assert sorted(tmp_path.iterdir()) == [place]


def test_a_unit_that_is_masked_stays_so_and_is_named(tmp_path):
    unit = tmp_path / "dsdeploy-vllm.service"
    unit.symlink_to(os.devnull)
    with pytest.raises(Failure, match="is masked") as refused:
        Desired(check_mode=False).file(str(unit), "[Unit]", 0o644)
    assert "systemctl unmask dsdeploy-vllm.service" in refused.value.hint
    assert os.readlink(unit) == os.devnull
