# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a user gets to a path, and by what it is stopped."""

import grp
import os
import pwd
import tempfile

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.access import barrier, weak, weak_ways


@pytest.fixture
def top():
    """A directory that everybody can pass, unlike pytest's."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as path:
        os.chmod(path, 0o755)
        yield path


def make(path, mode=0o755):
    os.makedirs(path)
    os.chmod(path, mode)
    return path


def test_the_component_that_lets_nobody_pass_is_named(top):
    disk = make(f"{top}/disk", 0o700)
    for below in ("", "/models", "/models/r1/x.gguf"):
        assert str(barrier(disk + below, None)) == f"cannot pass through {disk} (mode 0700)"
    os.chmod(disk, 0o711)
    assert barrier(f"{disk}/models/r1", None) is None


def test_links_are_followed_to_what_they_lead_through(top):
    make(f"{top}/home", 0o700)
    make(f"{top}/home/x")
    os.symlink(f"{top}/home/x", f"{top}/data")
    assert barrier(f"{top}/data/models", None).path == f"{top}/home"
    # Also one in the middle that leads out again.
    os.symlink(f"{top}/open", f"{top}/home/x/out")
    make(f"{top}/open")
    assert barrier(f"{top}/data/out", None).path == f"{top}/home"


@pytest.mark.parametrize(
    ("uid", "gids", "mode", "passes"),
    [(61234, (), 0o700, True), (61235, (61236,), 0o710, True), (61235, (), 0o710, False), (61235, (), 0o701, True),
     (61234, (), 0o077, False), (0, (), 0o000, True), (None, (), 0o710, False)],
)  # fmt: skip
@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_owner_group_and_others(top, uid, gids, mode, passes):
    path = make(f"{top}/x", mode)
    os.chown(path, 61234, 61236)
    assert (barrier(path, uid, gids) is None) is passes


@pytest.mark.parametrize(("wants", "mode"), [("read", 0o640), ("run", 0o644), ("write", 0o644)])
def test_files(top, wants, mode):
    path = f"{top}/model.gguf"
    with open(path, "w"):
        os.chmod(path, mode)
    stops = barrier(path, None, wants=wants)
    assert (stops.path, stops.missing) == (path, wants)
    os.chmod(path, 0o777)
    assert barrier(path, None, wants=wants) is None


def test_what_is_not_there_yet_is_no_barrier(top):
    assert barrier(f"{top}/not/there", None, wants="read") is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize(
    ("uid", "gid", "mode", "who"),
    [
        (0, 0, 0o755, None),
        (1, 0, 0o755, "its owner daemon"),
        (1, 0, 0o1777, "its owner daemon"),
        (0, 0, 0o777, "everybody"),
        (0, 0, 0o1777, None),  # as /tmp: nobody moves what is root's
        (0, 61236, 0o775, None),  # a group of nobody
        (0, 1, 0o775, None),  # of the system's own
        (61234, 0, 0o755, None),  # of a disk from outside of a container, or over a network
        (65534, 65534, 0o755, None),
    ],
)
def test_who_else_can_put_another_file_there(top, uid, gid, mode, who):
    disk = make(f"{top}/disk")
    make(f"{disk}/opt/dsdeploy")
    os.chown(disk, uid, gid)
    os.chmod(disk, mode)
    for path in (disk, f"{disk}/opt/dsdeploy", f"{disk}/opt/dsdeploy/not/there/yet"):
        found = weak(path)
        assert found == (None if who is None else (disk, who))
    # By a link, too, and where the link is.
    os.symlink(f"{disk}/opt", f"{top}/opt")
    assert weak(f"{top}/opt/dsdeploy") == found
    make(f"{top}/root")
    os.symlink(f"{top}/root", f"{disk}/link")
    assert weak(f"{disk}/link/dsdeploy") == found


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_who_may_become_root_is_nobody_else(top, monkeypatch):
    disk = make(f"{top}/disk")
    os.chown(disk, 1, 0)
    assert weak(disk, ["daemon"]) is None and weak(disk, ["bin"]) == (disk, "its owner daemon")
    monkeypatch.setattr("grp.getgrnam", lambda name: {"wheel": grp.struct_group(("wheel", "x", 10, ["daemon"]))}[name])
    assert weak(disk) is None


def test_a_volume_that_everybody_may_write_to_may_hold_data_where_nobody_else_is(top, monkeypatch):
    """As /workspace of a rented container is. With another person on the host it is a way to root's files."""
    volume = make(f"{top}/workspace", 0o777)
    root, alice = pwd.getpwnam("root"), pwd.struct_passwd(("alice", "x", 1000, 1000, "", "/home/alice", "/bin/sh"))
    monkeypatch.setattr("pwd.getpwall", lambda: [root, pwd.getpwnam("daemon"), pwd.getpwnam("nobody")])
    assert weak(f"{volume}/dsdeploy", data=True) is None
    assert weak(f"{volume}/dsdeploy") == (volume, "everybody")
    # A directory of programs stays one where data lie in it, too.
    both, other = f"{volume}/both", f"{volume}/data"
    assert weak_ways([both], [both, other], []) == [(both, (volume, "everybody"))]
    monkeypatch.setattr("pwd.getpwall", lambda: [root, alice])
    assert weak(f"{volume}/dsdeploy", data=True) == (volume, "everybody")
    assert weak(f"{volume}/dsdeploy", ["alice"], data=True) is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_persons_in_its_group_can_write(top, monkeypatch):
    disk = make(f"{top}/disk", 0o775)
    os.chown(disk, 0, 61236)
    alice = pwd.struct_passwd(("alice", "x", 1000, 1000, "", "/home/alice", "/bin/sh"))
    monkeypatch.setattr("pwd.getpwall", lambda: [alice, pwd.getpwnam("root"), pwd.getpwnam("nobody")])
    assert weak(disk) is None
    monkeypatch.setattr("grp.getgrgid", lambda gid: grp.struct_group(("data", "x", gid, ["alice", "daemon"])))
    assert weak(disk) == (disk, "alice by its group")
    assert weak(disk, ["alice"]) is None
