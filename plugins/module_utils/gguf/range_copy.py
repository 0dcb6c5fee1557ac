# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy ranges between files inside the kernel where it can, and make them durable behind the copy's back."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from typing import Callable, Optional

CHUNK = 16 * 1024 * 1024  # bytes a system call: small enough that a signal is answered at once
BUFFER = 1024 * 1024
AHEAD = 32 * 1024 * 1024  # bytes that the kernel is asked to read before they are copied
FLUSH = 256 * 1024 * 1024  # bytes between two calls of fdatasync
MAX_UNFLUSHED = 4 * FLUSH

# What a kernel, a file system or a container's system call filter answers where it has no such call for these files.
_UNSUPPORTED = (errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.ENOTSOCK, errno.EBADF)


class SourceEnded(Exception):
    """The source file ended before the range did."""


class Copier:
    """Copies ranges by the best method that works: ``method`` is copy_file_range, sendfile or read/write."""

    def __init__(self, method: str = "copy_file_range") -> None:
        self._calls = {"copy_file_range": _copy_file_range, "sendfile": _sendfile, "read/write": _read_write}
        self.methods = list(self._calls)[list(self._calls).index(method) :]

    @property
    def method(self) -> str:
        return self.methods[0]

    def copy(self, source: int, target: int, source_at: int, target_at: int, count: int) -> int:
        """Copy up to `count` bytes; return how many, at least 1. Raises OSError, SourceEnded."""
        while True:
            last = len(self.methods) == 1
            try:
                done = self._calls[self.method](source, target, source_at, target_at, min(count, CHUNK))
            except OSError as error:
                if last or error.errno not in _UNSUPPORTED:
                    raise
                done = 0
            if done:
                return done
            # Some file systems answer 0 instead of an error; a source that has really ended ends up in read/write.
            if last:
                raise SourceEnded
            self.methods.pop(0)


def _copy_file_range(source: int, target: int, source_at: int, target_at: int, count: int) -> int:
    if not hasattr(os, "copy_file_range"):
        return 0
    return os.copy_file_range(source, target, count, source_at, target_at)


def _sendfile(source: int, target: int, source_at: int, target_at: int, count: int) -> int:
    if not hasattr(os, "sendfile"):
        return 0
    os.lseek(target, target_at, os.SEEK_SET)
    return os.sendfile(target, source, source_at, count)


def _read_write(source: int, target: int, source_at: int, target_at: int, count: int) -> int:
    data = os.pread(source, min(count, BUFFER), source_at)
    write_all(target, data, target_at)
    return len(data)


class ReadOnce:
    """Has a file that is read once, from `start` to `end`, read ahead of the copy and dropped from memory behind it.

    Left alone the kernel reads 128 KiB ahead, and the disk waits for the copy. Copied bytes that stay in memory make
    the kernel look for fresh pages for what is written: a merge from a cold cache then took 1.6 times as long.
    """

    def __init__(self, fd: int, start: int, end: int) -> None:
        self._fd = fd
        self._asked = start
        self._kept = start
        self._end = end

    def reach(self, offset: int) -> None:
        """Every byte before `offset` is copied."""
        if not hasattr(os, "posix_fadvise"):
            return
        if offset > self._kept:
            os.posix_fadvise(self._fd, self._kept, offset - self._kept, os.POSIX_FADV_DONTNEED)
            self._kept = offset
        while self._asked < min(self._end, offset + AHEAD):
            os.posix_fadvise(self._fd, self._asked, min(CHUNK, self._end - self._asked), os.POSIX_FADV_WILLNEED)
            self._asked += CHUNK


def write_all(fd: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


def sync_data(fd: int) -> None:
    """Return when the file's bytes, and what it takes to read them again, are on the disk."""
    getattr(os, "fdatasync", os.fsync)(fd)


def sync_directory(path: str) -> None:
    """Return when the names in the directory `path` are on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def reserve(fd: int, offset: int, count: int) -> bool:
    """Reserve disk space for a range; False where the file system cannot. Raises OSError(ENOSPC, EDQUOT).

    fallocate(2) itself: os.posix_fallocate writes zeros where the file system cannot reserve.
    """
    try:
        call = ctypes.CDLL(None, use_errno=True).fallocate
    except (AttributeError, OSError):  # not Linux
        return False
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    while count and call(fd, 0, offset, count):
        code = ctypes.get_errno()
        if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(code, os.strerror(code))
        if code != errno.EINTR:
            return False
    return True


class Flusher:
    """Makes a file durable from a thread of its own while the next bytes are copied.

    ``on_durable(offset)`` is called in that thread once every byte before `offset` is on the disk. Give each Flusher
    one file that is written from the start on, and call finish() or abort().
    """

    def __init__(self, fd: int, start: int, on_durable: Callable[[int], None]) -> None:
        self._fd = fd
        self._on_durable = on_durable
        self._written = start
        self.durable = start
        self._wanted = start  # a caller waits for this offset
        self._stop = False
        self._error: Optional[BaseException] = None
        self._state = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="flusher", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while True:
                with self._state:
                    while not self._due():
                        if self._stop:
                            return
                        self._state.wait()
                    target = self._written
                sync_data(self._fd)
                self._on_durable(target)
                with self._state:
                    self.durable = target
                    self._state.notify_all()
        except BaseException as error:  # handed to the copying thread
            with self._state:
                self._error = error
                self._state.notify_all()

    def _due(self) -> bool:
        if self._stop:
            return False
        return self._written - self.durable >= FLUSH or self._wanted > self.durable

    def wrote(self, offset: int) -> None:
        """Every byte before `offset` is written. Waits where the disk is far behind."""
        with self._state:
            self._written = offset
            self._state.notify_all()
            while self._error is None and self._written - self.durable > MAX_UNFLUSHED:
                self._state.wait()
            self._check()

    def flush(self) -> None:
        """Return when every byte written so far is durable."""
        with self._state:
            self._wanted = self._written
            self._state.notify_all()
            while self._error is None and self.durable < self._wanted:
                self._state.wait()
            self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        """flush(), and end the thread."""
        self.flush()
        self.abort()

    def abort(self) -> None:
        """End the thread without a flush; what it has begun, it ends."""
        with self._state:
            self._stop = True
            self._state.notify_all()
        self._thread.join()
