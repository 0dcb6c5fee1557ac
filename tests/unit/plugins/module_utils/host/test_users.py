# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A tree changes hands: nothing outside of it, whatever who may write in it puts there meanwhile."""

import os

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import users

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
UID = 61234  # nobody's here


@pytest.fixture
def tree(tmp_path):
    """A store of root's with a directory that is the user's already, as a run that was cut has left it."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "shadow").write_text("secret")
    store = tmp_path / "store"
    (store / "blobs").mkdir(parents=True)
    (store / "blobs" / "shadow").write_text("a blob")
    (store / "link").symlink_to("../outside/shadow")
    os.chown(store / "blobs", UID, UID)
    return store


def owners(*paths):
    return [os.lstat(path).st_uid for path in paths]


def test_all_in_it_and_nothing_that_a_link_names(tree):
    inside = (tree, tree / "blobs", tree / "blobs/shadow", tree / "link")
    assert users.hand_over(str(tree), UID, UID, give=False) == (3, [])
    assert owners(*inside) == [0, UID, 0, 0]
    assert users.hand_over(str(tree), UID, UID) == (3, [])
    assert owners(*inside, tree / "../outside/shadow") == [UID] * 4 + [0]
    assert users.hand_over(str(tree), UID, UID) == (0, [])


def test_a_file_with_another_name_elsewhere_stays_roots(tree):
    """Where hard links are not protected (fs.protected_hardlinks), anybody makes one to root's file."""
    os.link(tree / "../outside/shadow", tree / "blobs/mine")
    assert users.hand_over(str(tree), UID, UID) == (3, [f"{tree}/blobs/mine"])
    assert owners(tree / "../outside/shadow", tree / "blobs") == [0, UID]
    # Back to root all goes: nobody gets anything by that.
    assert users.hand_over(str(tree), 0, 0).linked == []


@pytest.mark.parametrize("when", ["stat", "open", "fstat"])
def test_a_directory_that_its_user_puts_a_link_in_the_place_of(tree, monkeypatch, when):
    """At each step of root's he is quick enough."""
    real, done = getattr(os, when), []

    def swap(*arguments, **named):
        found = real(*arguments, **named)
        if not done and (arguments[0] == "shadow" or (when == "fstat" and found == os.stat(tree / "blobs"))):
            done.append(True)
            os.rename(tree / "blobs", tree / "before")
            (tree / "blobs").symlink_to("../outside")
        return found

    monkeypatch.setattr(os, when, swap)
    users.hand_over(str(tree), UID, UID)
    monkeypatch.undo()
    assert done and owners(tree / "../outside/shadow", tree / "before/shadow") == [0, UID]


@pytest.mark.parametrize("kind", ["symbolic", "hard"])
def test_a_file_that_its_user_puts_a_link_in_the_place_of(tree, monkeypatch, kind):
    real, done = os.stat, []

    def swap(*arguments, **named):
        found = real(*arguments, **named)
        if not done and arguments[0] == "shadow":
            done.append(True)
            os.unlink(tree / "blobs/shadow")
            if kind == "hard":
                os.link(tree / "../outside/shadow", tree / "blobs/shadow")
            else:
                os.symlink(tree / "../outside/shadow", tree / "blobs/shadow")
        return found

    monkeypatch.setattr(os, "stat", swap)
    users.hand_over(str(tree), UID, UID)
    monkeypatch.undo()
    assert done and owners(tree / "../outside/shadow") == [0]


def test_a_device_is_nobodys(tree):
    try:
        os.mknod(tree / "null", 0o20666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no device can be made here")
    users.hand_over(str(tree), UID, UID)
    assert owners(tree / "null") == [0]
