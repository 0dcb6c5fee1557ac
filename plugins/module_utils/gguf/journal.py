# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a merge keeps beside its destination until it ends: the unfinished file, and a journal that is also its lock.

For the destination ``/models/r1.gguf``:

``/models/.r1.gguf.merge-part``
    the merged file so far: the whole header, then tensor data up to somewhere.
``/models/.r1.gguf.merge-journal``
    JSON lines. The first is the plan: the header's digest and each shard's identity and range. It is written only
    after the part's header is durable. Each later line says ``{"durable": N}``: every byte of the part before N is on
    the disk; it is written after fdatasync() of the part has returned, and is durable itself before any shard is
    removed. So with journal and part alone, without the headers of shards removed meanwhile, a merge can be taken up
    again after any crash. (Where a shard was downloaded again meanwhile, a later line is a plan too, with the durable
    bytes before that shard; the last one counts.)

The journal is held under flock(2) by the process that merges, so the lock ends with the process.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from typing import Callable, Dict, NamedTuple, Optional, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.plan import Plan, Shard
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.range_copy import sync_data, sync_directory
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

FORMAT = 1
LOCK_POLL_S = 0.25
_SHARD_FIELDS = ("size", "mtime_ns", "header_digest", "data_start", "data_bytes", "target")


class Entry(NamedTuple):
    """A journal as it was read: the plan of the merge it belongs to, and how far that merge is durable."""

    directory: str  # where the shards were
    inode: int  # of the part
    header_digest: str
    header_bytes: int
    total: int
    tensor_count: int
    shards: Tuple[Tuple[str, Dict[str, object]], ...]  # (file name, _SHARD_FIELDS)
    durable: int


def part_path(dest: str) -> str:
    """The unfinished file of a merge to `dest`."""
    return _beside(dest, "merge-part")


def journal_path(dest: str) -> str:
    """The journal of a merge to `dest`."""
    return _beside(dest, "merge-journal")


def _beside(dest: str, what: str) -> str:
    directory, name = os.path.split(dest)
    return os.path.join(directory, ".%s.%s" % (name, what))


def open_own(path: str, flags: int, mode: int = 0o600, inode: Optional[int] = None) -> int:
    """Open a regular file of our own, or the one of that `inode`, which may have got its later owner already.

    Raises OSError also for a link, and PermissionError for somebody else's file: a merge must not go on from what
    another user has put into a shared directory.
    """
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, mode)
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode) or (info.st_uid != os.geteuid() and info.st_ino != inode):
        os.close(fd)
        raise PermissionError(1, "is not a file of user %d" % os.geteuid(), path)
    return fd


def read_entry(dest: str) -> Optional[Entry]:
    """The journal of an unfinished merge to `dest`; None where there is none, or it has not begun to write."""
    try:
        fd = open_own(journal_path(dest), os.O_RDONLY)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        return parse(file.read(foreign.MOST_BYTES))


def parse(text: bytes) -> Optional[Entry]:
    """The journal's lines as one Entry. A line torn by a crash is ignored; None without a whole first line."""
    entry = None
    for line in text.splitlines():
        try:
            record = foreign.parse(line, "the journal").mapping("")
            if record.has("plan"):
                if record.count("format") != FORMAT:
                    return None
                plan = record.mapping("plan")
                entry = Entry(
                    plan.text("directory"),
                    plan.count("inode", most=2**64),
                    plan.text("header_digest"),
                    plan.count("header_bytes"),
                    plan.count("total"),
                    plan.count("tensor_count"),
                    tuple(_shard(item) for item in plan.items("shards")),
                    record.count("durable"),
                )
            elif entry is not None:
                entry = entry._replace(durable=record.count("durable", most=entry.total))
        except Failure:
            continue
    return entry


def _shard(item: foreign.Foreign) -> Tuple[str, Dict[str, object]]:
    known = {field: item.count(field) for field in _SHARD_FIELDS if field not in ("header_digest", "mtime_ns")}
    # A file may be older than 1970.
    return item.text("name"), dict(known, header_digest=item.text("header_digest"), mtime_ns=item.number("mtime_ns"))


def describe(shard: Shard) -> Dict[str, object]:
    """What the journal keeps of a shard."""
    return {field: getattr(shard, field) for field in _SHARD_FIELDS}


class Journal:
    """The journal of a merge to `dest`, locked: ``with Journal(dest, waiting) as journal: ...``.

    ``waiting()`` is called while another process holds the lock. Raises OSError where the file system has no locks.
    """

    def __init__(self, dest: str, waiting: Callable[[], None]) -> None:
        self.path = journal_path(dest)
        self._waiting = waiting
        self._fd = -1

    def __enter__(self) -> Journal:
        while True:
            fd = open_own(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
            try:
                self._lock(fd)
                # The merge we waited for has removed its journal: take a new one.
                if self._is_current(fd):
                    self._fd = fd
                    return self
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _lock(self, fd: int) -> None:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                self._waiting()
                time.sleep(LOCK_POLL_S)

    def _is_current(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self.path))
        except FileNotFoundError:
            return False

    def __exit__(self, *unused: object) -> None:
        # Nothing was begun, nothing is left behind.
        if self._is_current(self._fd) and not os.fstat(self._fd).st_size:
            self.remove()
        os.close(self._fd)

    def read(self) -> Optional[Entry]:
        """What an earlier run has left."""
        return parse(os.pread(self._fd, foreign.MOST_BYTES, 0))

    def clear(self) -> None:
        """Forget, durably, what an earlier run has left. Call it before its part is removed."""
        os.ftruncate(self._fd, 0)
        sync_data(self._fd)

    def begin(self, plan: Plan, part: int, durable: int) -> None:
        """Record `plan`; of its `part` (a descriptor) the bytes before `durable`, at least the header, are durable."""
        self._append(
            {
                "format": FORMAT,
                "plan": {
                    "directory": os.path.dirname(os.path.abspath(plan.shards[0].path)),
                    "inode": os.fstat(part).st_ino,
                    "header_digest": plan.header_digest,
                    "header_bytes": len(plan.header),
                    "total": plan.total,
                    "tensor_count": plan.tensor_count,
                    "shards": [dict(describe(shard), name=shard.name) for shard in plan.shards],
                },
                "durable": durable,
            }
        )
        sync_directory(os.path.dirname(self.path))

    def durable(self, offset: int) -> None:
        """Record that every byte of the part before `offset` is durable."""
        self._append({"durable": offset})

    def _append(self, record: Dict[str, object]) -> None:
        # The leading newline ends a line that a crash or a full disk has torn.
        data = b"\n" + json.dumps(record).encode() + b"\n"
        while data:
            data = data[os.write(self._fd, data) :]
        sync_data(self._fd)

    def remove(self) -> None:
        """Remove the journal: the merge has ended."""
        os.unlink(self.path)
