"""Modules as Ansible sends them to hosts, kept from one run to the next.

Ansible packs a module with all that it imports, which takes 0.2 to 0.6 s of CPU time each and is most of what a run
that changes nothing costs here. It keeps what it has packed for the time of a run, in a directory of the run. Here
those of our own modules are kept in the user's cache directory, under a hash of every file that goes into them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

PREFIX = "ansible_collections.dsdeploy.llm.plugins.modules."
KEPT = 4  # trees: other checkouts, other releases of Ansible


def _files(directory: Path) -> Iterator[str]:
    """A line for each file: which it is, and when it was last changed. The time of the change cannot be set."""
    for path, directories, names in os.walk(directory):
        directories[:] = sorted(name for name in directories if name != "__pycache__")
        for name in sorted(names):
            found = os.stat(os.path.join(path, name))
            yield f"{path}/{name} {found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def key(version: str, directories: Iterable[Path]) -> str:
    """Another one as soon as anything in the directories is another one; `version`: of Ansible."""
    lines = [version, sys.version]
    for directory in directories:
        lines += [str(directory), *_files(directory)]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _ours_alone(directory: Path) -> bool:
    """Whether nobody else can have put anything there: Ansible runs what it finds in what is packed."""
    found = os.lstat(directory)
    return os.path.isdir(directory) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _place() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base, "dsdeploy", "modules")


def _take(kept: Path, used: Path) -> None:
    used.mkdir(parents=True, exist_ok=True)
    for path in kept.iterdir():
        if path.name.startswith(PREFIX):
            shutil.copyfile(path, used / path.name)


def _keep(used: Path, kept: Path) -> None:
    new = [path for path in used.iterdir() if path.name.startswith(PREFIX) and path.suffix != ".lock"]
    new = [path for path in new if not (kept / path.name).exists()]
    if not new:
        return
    kept.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in new:
        # Whole or not at all, as another run may look at the same time.
        handle, name = tempfile.mkstemp(prefix=".new-", dir=kept)
        with open(path, "rb") as source, open(handle, "wb") as file:
            shutil.copyfileobj(source, file)
        os.replace(name, kept / path.name)
    others = sorted(kept.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[KEPT:]:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def kept(root: Path, version: str, ansible: Path, others: Iterable[str], used: Path) -> Iterator[None]:
    """While it is open, Ansible finds the modules that an earlier run packed.

    `root`: of the collection; `version`, `ansible`: Ansible's, and where it lies; `others`: where Ansible looks for
    code of modules besides; `used`: where it keeps what it packs. A cache that cannot be used is none.
    """

    def name() -> str:
        return key(version, [root / "plugins/modules", root / "plugins/module_utils", ansible / "module_utils", *extra])

    extra = [Path(path) for path in others]
    before = None
    with contextlib.suppress(OSError):
        place = _place()
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _ours_alone(place):
            before = name()
            if (place / before).is_dir() and _ours_alone(place / before):
                _take(place / before, used)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            # Files that were changed while it ran may be in it or not.
            if before is not None and used.is_dir() and name() == before:
                _keep(used, place / before)
