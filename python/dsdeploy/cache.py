"""What one run leaves for the next in the user's cache directory, named by a hash of all that it is made of.

Only what can be made again is kept there, and nothing of a host.
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

KEPT = 4  # trees: other checkouts, other releases of Ansible


def _files(directory: Path) -> Iterator[str]:
    """A line for each file: which it is, and when it was last changed. The time of the change cannot be set."""
    for path, directories, names in os.walk(directory):
        directories[:] = sorted(name for name in directories if name != "__pycache__")
        for name in sorted(names):
            found = os.stat(os.path.join(path, name))
            yield f"{path}/{name} {found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def key(version: str, directories: Iterable[Path]) -> str:
    """Another one as soon as anything in the directories is another one; `version`: of what else it depends on."""
    lines = [version, sys.version]
    for directory in directories:
        lines += [str(directory), *_files(directory)]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def ours_alone(directory: Path) -> bool:
    """Whether nobody else can have put anything there: what is found there is run."""
    found = os.lstat(directory)
    return os.path.isdir(directory) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def place(what: str) -> Path | None:
    """The directory for `what`, made if need be; None where there is none that is safe to use."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    found = Path(base, "dsdeploy", what)
    if not found.is_absolute():  # no $HOME, and a user that the system does not know
        return None
    with contextlib.suppress(OSError):
        found.mkdir(mode=0o700, parents=True, exist_ok=True)
        if ours_alone(found):
            return found
    return None


def write(path: Path, content: bytes) -> None:
    """Whole or not at all, as another run may look at the same time, and the machine may lose its power."""
    handle, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except OSError:  # a disk that is full: each run would leave some more there
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def remove_old(directory: Path) -> None:
    """All but the newest `KEPT`."""
    entries = sorted(directory.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in entries[KEPT:]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
