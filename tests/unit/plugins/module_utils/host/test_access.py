# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a user gets to a path, and by what it is stopped."""

import os
import tempfile

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.access import barrier


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
