# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which chunks of a half-downloaded file are there: what makes a download resume after kill -9 and after power loss.

The journal is a header and one byte per chunk: missing, written (in the page cache: survives the death of the
process), durable (survives the loss of power). After a restart of the host only durable chunks count.
"""

from __future__ import annotations

import errno
import json
import os
import threading

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

CHUNK = 1024 * 1024
HEADER = 4096
MISSING, WRITTEN, DURABLE = 0, 1, 2
_FLAGS = bytes([ord("0")] + [ord("1")] * 255)


def boot_id():
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as handle:
            return handle.read().strip()
    except OSError:
        return ""


class PartFile:
    """A file that is being downloaded: ``path`` with its bytes, ``path + ".journal"`` with what is there.

    :param size: bytes of the whole file.
    :param identity: what the content is, such as its sha256; a part of something else is thrown away.
    """

    def __init__(self, path, size, identity, boot=None):
        self.path = path
        self.size = size
        self.count = -(-size // CHUNK)
        self._header = {"size": size, "identity": identity, "chunk": CHUNK, "boot": boot or boot_id()}
        self._lock = threading.Lock()
        for name in (path, path + ".journal"):
            _only_a_file(name)
        self._states = self._load()
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        if os.fstat(self.fd).st_size != size or self._states is None:
            os.ftruncate(self.fd, 0)
            self._states = bytearray(self.count)
        _reserve(self.fd, size)
        self._journal = os.open(path + ".journal", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        os.pwrite(self._journal, json.dumps(self._header).encode().ljust(HEADER), 0)
        os.pwrite(self._journal, bytes(self._states), HEADER)
        os.ftruncate(self._journal, HEADER + self.count)

    def _load(self):
        try:
            with open(self.path + ".journal", "rb") as handle:
                header = foreign.loads(handle.read(HEADER))
                states = bytearray(handle.read(self.count + 1))
        except (OSError, ValueError):
            return None
        if not isinstance(header, dict) or len(states) != self.count:
            return None
        if any(header.get(key) != self._header[key] for key in ("size", "identity", "chunk")):
            return None
        trusted = (WRITTEN, DURABLE) if header.get("boot") == self._header["boot"] else (DURABLE,)
        return bytearray(state if state in trusted else MISSING for state in states)

    def missing(self):
        """Byte ranges ``(start, end)`` that are still to be fetched, in order."""
        runs, start = [], None
        for index in range(self.count + 1):
            gone = index < self.count and self._states[index] == MISSING
            if gone and start is None:
                start = index
            elif not gone and start is not None:
                runs.append((start * CHUNK, min(index * CHUNK, self.size)))
                start = None
        return runs

    def done_bytes(self):
        """Bytes that are there."""
        return self.size - sum(end - start for start, end in self.missing())

    def there(self, unit):
        """The runs of ``unit`` chunks that are there whole, as bits, the first one lowest."""
        flags = bytes(self._states).translate(_FLAGS)
        flags += b"1" * (-len(flags) % unit)
        bits = -1
        for offset in range(unit):
            bits &= int(flags[offset::unit][::-1] or b"0", 2)
        return bits

    def has(self, start, end):
        """Whether all bytes of ``start..end`` are there."""
        return MISSING not in self._states[start // CHUNK : -(-end // CHUNK)]

    def frontier(self, start):
        """End of the bytes that are there without a gap from ``start``."""
        index = start // CHUNK
        while index < self.count and self._states[index] != MISSING:
            index += 1
        return min(index * CHUNK, self.size)

    def write(self, view, offset):
        """Write bytes at ``offset``; all of them, or an OSError."""
        while view:
            count = os.pwrite(self.fd, view, offset)
            view, offset = view[count:], offset + count

    def mark(self, start, end):
        """Note that all bytes of ``start..end`` were written: whole chunks, or the file's last one."""
        first, last = start // CHUNK, -(-end // CHUNK)
        with self._lock:
            self._states[first:last] = bytes([WRITTEN]) * (last - first)
            os.pwrite(self._journal, bytes(self._states[first:last]), HEADER + first)

    def sync(self):
        """Make what was written durable, then say so in the journal."""
        with self._lock:
            written = bytes(self._states)
        if WRITTEN not in written:
            return
        os.fdatasync(self.fd)
        with self._lock:
            for index, state in enumerate(written):
                if state == WRITTEN:
                    self._states[index] = DURABLE
            os.pwrite(self._journal, bytes(self._states), HEADER)
        os.fdatasync(self._journal)

    def close(self):
        os.close(self.fd)
        os.close(self._journal)

    def discard(self):
        """Throw the part away: its content is wrong."""
        for path in (self.path, self.path + ".journal"):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass


def _only_a_file(path):
    """Make way for a file of ours: a link is removed, never followed; a directory is refused."""
    if os.path.islink(path):
        os.unlink(path)
    elif os.path.lexists(path) and not os.path.isfile(path):
        raise Failure("%s is no file; a half-downloaded one belongs there" % path, "remove it, and run again")


def _reserve(fd, size):
    """Take the disk space now, so that a full disk shows before the download and the file is in one piece."""
    if not size:
        return
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        os.ftruncate(fd, size)
