# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files on a host: written so that a crash leaves the old or the new one, hashed at disk speed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat

CHUNK = 4 * 1024 * 1024  # bytes


def sha256_of(path, report=None):
    """Hash a file at disk speed; ``report(bytes)`` is called for each chunk read."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(CHUNK))
    with open(path, "rb", buffering=0) as handle:
        while True:
            count = handle.readinto(buffer)
            if not count:
                return digest.hexdigest()
            digest.update(buffer[:count])
            if report:
                report(count)


def fsync_directory(path):
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_device(state):
    """Whether it is a device, such as /dev/null, which everybody needs: none is ever ours."""
    return stat.S_ISCHR(state.st_mode) or stat.S_ISBLK(state.st_mode)


def make_way(path):
    """Remove the file or link that lies where a file of ours is to be made anew; what a link names stays.

    :raises OSError: a directory is there.
    """
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def reading(path):
    """A file to be read, as `open(path, "rb")`, which waits for nobody: of a pipe that somebody has put in its place
    there is nothing to read."""
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_CLOEXEC))


def let_all_read(path):
    """Everybody may read a file from now on; never what a link in its place names.

    :raises OSError: it is a link, or gone.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o644)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def whole_or_not(path):
    """While a new file is written: where that fails, as on a full disk, the error names it, and it does not stay."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or path
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise


def write_durably(path, text, mode=None):
    """Replace a small file: the old or the new content is there, whatever happens in between.

    :param mode: of the file; None: as the umask has it.
    """
    temporary = path + ".new"
    make_way(temporary)
    if os.path.lexists(path) and is_device(os.lstat(path)):
        raise OSError(errno.EINVAL, "is a device, where a file should be", path)
    # Never through a link: who may write to the directory could have root write wherever it leads.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with whole_or_not(temporary), open(descriptor, "w", encoding="utf-8") as handle:
        if mode is not None:
            os.fchmod(handle.fileno(), mode)
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, path)
    fsync_directory(os.path.dirname(path))


def is_in(path: str, directory: str) -> bool:
    """Whether a path is the directory, or lies in it, by their names alone."""
    path, directory = (os.path.normpath(one).rstrip("/") + "/" for one in (path, directory))
    return path.startswith(directory)


def make_directory(path):
    """Create a directory and its parents, readable for engines whatever the umask is."""
    path = os.path.realpath(path)  # a link that leads nowhere is somebody's wish: what it names is made
    if os.path.isdir(path):
        return
    make_directory(os.path.dirname(path))
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    os.chmod(path, 0o755)
