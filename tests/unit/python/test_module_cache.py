"""What Ansible has packed is taken from an earlier run, as long as nothing that goes into it has changed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dsdeploy import bytecode, cache, module_cache

NAME = f"{module_cache.PREFIX}preflight-ZIP_DEFLATED-none"


class Tree:
    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        self.root, self.ansible, self.others, self.place = place / "root", place / "ansible", place / "others", place
        for path in (self.root / "plugins/modules", self.root / "plugins/module_utils", self.ansible / "module_utils"):
            path.mkdir(parents=True)
            (path / "a.py").write_text("1\n")
        self.kept = place / "cache/dsdeploy/modules"
        self.runs = 0

    def run(self, version: str = "2.19", during: Path | None = None) -> set[str]:
        """What Ansible found at the beginning; at the end there is one module of ours, one of its own and a lock."""
        self.runs += 1
        used = self.place / f"used-{self.runs}"
        with module_cache.kept(self.root, version, self.ansible, [str(self.others)], used):
            found = {path.name for path in used.iterdir()} if used.exists() else set()
            used.mkdir(exist_ok=True)
            for name in (NAME, f"{NAME}.lock", "ansible.legacy.apt-ZIP_DEFLATED-none"):
                if name not in found:
                    (used / name).write_text(f"packed by run {self.runs}")
            if during:
                during.write_text("2\n")
        return found


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    return Tree(tmp_path, monkeypatch)


def test_ours_are_kept_for_the_next_run_and_nobody_else_can_write_there(tree: Tree) -> None:
    assert [tree.run(), tree.run()] == [set(), {NAME}]
    (directory,) = tree.kept.iterdir()
    assert {path.name for path in directory.iterdir()} == {NAME, f"{module_cache.COMPILED}{NAME}"}
    assert (directory / NAME).read_text() == "packed by run 1"
    assert [path.stat().st_mode & 0o777 for path in (tree.kept, directory, directory / NAME)] == [0o700, 0o700, 0o600]


def test_what_is_used_again_gets_its_bytecode_once(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(bytecode.Compiler, "packed", lambda self, kept: made.append(kept) or kept + b", compiled")
    said = []
    for _run in range(4):
        tree.run()
        (directory,) = tree.kept.iterdir()
        said.append((directory / NAME).read_text())
    assert said == ["packed by run 1", *["packed by run 1, compiled"] * 3] and made == [b"packed by run 1"]
    assert (tree.place / "used-3" / NAME).read_text() == "packed by run 1, compiled"


@pytest.mark.parametrize(
    "where", ["root/plugins/modules", "root/plugins/module_utils", "ansible/module_utils", "others"]
)
def test_a_file_of_the_same_size_and_time_is_another_one(tree: Tree, where: str) -> None:
    path = tree.place / where / "a.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text("1\n")
    tree.run()
    before = path.stat()
    path.write_text("2\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert tree.run() == set()


def test_a_file_more_and_another_ansible_are_others(tree: Tree) -> None:
    tree.run()
    assert tree.run(version="2.20") == set()
    assert tree.run() == {NAME}
    (tree.root / "plugins/module_utils/b.py").touch()
    assert tree.run() == set()


def test_what_was_changed_during_a_run_is_not_kept(tree: Tree) -> None:
    tree.run(during=tree.root / "plugins/module_utils/a.py")
    assert list(tree.kept.iterdir()) == []


def test_one_that_others_can_write_to_is_not_used(tree: Tree) -> None:
    tree.run()
    tree.kept.chmod(0o770)
    assert tree.run() == set()
    tree.kept.chmod(0o700)
    (directory,) = tree.kept.iterdir()
    directory.chmod(0o777)
    assert tree.run() == set()


def test_without_a_place_to_keep_them_it_runs_all_the_same(tree: Tree) -> None:
    (tree.place / "cache").write_text("a file")
    assert [tree.run(), tree.run()] == [set(), set()]


def test_on_a_disk_that_is_full_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run left some more there."""

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        cache.write(tmp_path / "kept", b"content")
    assert list(tmp_path.iterdir()) == []


def test_one_in_use_does_not_grow_old(tree: Tree) -> None:
    tree.run()
    for number in range(cache.KEPT + 2):
        assert tree.run() == {NAME}
        tree.run(version=str(number))


def test_old_ones_go(tree: Tree) -> None:
    for number in range(cache.KEPT + 2):
        tree.run(version=str(number))
    assert len(list(tree.kept.iterdir())) == cache.KEPT
