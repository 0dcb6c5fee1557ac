# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Merge GGUF shards into one file that exists whole or not at all, and go on after any crash.

1. gguf_survey looks at everything and changes nothing.
2. The part's header is made durable, then the plan in the journal (gguf_journal).
3. Range after range is copied inside the kernel; a thread behind the copy calls fdatasync() and records what is
   durable. With `consume`, a shard is removed only once the journal durably says that all its bytes are durable.
4. The part gets its attributes and its record, is synced, and takes the destination's name by link(2), which never
   replaces a file, or with `force` by rename(2). Then part and journal are removed.

Killed anywhere, the next run goes on from the last durable range. Not killed but stopped or out of space, too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from typing import Callable, Iterator, NamedTuple, Optional, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.header import GGUFError
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.journal import (
    Journal,
    journal_path,
    open_own,
    part_path,
    read_entry,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.plan import Plan, Shard, pieces
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.range_copy import (
    Copier,
    Flusher,
    ReadOnce,
    SourceEnded,
    reserve,
    sync_directory,
    write_all,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.survey import (
    Survey,
    survey,
    write_record,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import Progress
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.sizes import mib


class Stopped(Failure):
    """A signal asked the merge to stop."""


class Result(NamedTuple):
    """What merge() has done."""

    changed: bool
    size: int  # bytes of the destination
    shard_count: Optional[int]  # None where the shards are gone
    resumed_at: int  # bytes that an earlier run had made durable, 0 where there was none
    verified: Optional[str]  # how a destination that was complete already was recognised
    method: Optional[str]  # how the bytes were copied
    removed: int  # shards


def predict(src: str, dest: str, consume: bool, force: bool, progress: Progress) -> Survey:
    """What merge() would do now. Changes nothing; raises what merge() would raise before it writes."""
    dest = os.path.realpath(dest)
    return survey(src, dest, consume, force, read_entry(dest), progress)


def merge(
    src: str,
    dest: str,
    consume: bool,
    force: bool,
    progress: Progress,
    prepare: Callable[[str], object] = lambda path: None,
) -> Result:
    """Merge the shards of `src` (the first shard, or a directory) into the file `dest`.

    `prepare` is called with the path of the finished file before it takes its name, to set its mode and owner.
    Waits for another merge to the same `dest`. Raises GGUFError (a shard at fault), Failure, OSError, Stopped.
    """
    dest = os.path.realpath(dest)
    tidied = False
    if not os.path.lexists(journal_path(dest)):
        # Whatever is wrong is said before even a lock is made.
        found = survey(src, dest, consume, force, None, progress)
        if not found.changed:
            return _unchanged(dest, found)
        if found.verified and found.plan is not None:
            write_record(dest, found.plan)
    with Journal(dest, lambda: progress.begin("wait for another merge")) as journal:
        entry = journal.read()
        found = survey(src, dest, consume, force, entry, progress)
        left: Tuple[str, ...] = ()
        if found.state == "published":
            left = found.removes
            if left:
                # Nothing would remove them once the journal is gone, and they would be taken for a set with gaps.
                sync_directory(os.path.dirname(dest))
                _remove_all(left)
            _tidy(dest, journal)
            tidied = True
            found = survey(src, dest, consume, force, None, progress)
        if found.state == "unchanged":
            _forget(dest, journal)
            _remove_all(found.removes)
            result = _unchanged(dest, found)
            return result._replace(changed=tidied or bool(found.removes), removed=len(left) + len(found.removes))
        inode = entry.inode if entry else None
        return _Merge(dest, found, journal, inode, progress, consume, force).run(prepare)


def _remove_all(paths: Tuple[str, ...]) -> None:
    for path in paths:
        os.unlink(path)
    if paths:
        sync_directory(os.path.dirname(paths[0]))


def _unchanged(dest: str, found: Survey) -> Result:
    if found.verified == "bytes" and found.plan is not None:
        write_record(dest, found.plan)
    count = None if found.plan is None else len(found.plan.shards)
    return Result(False, found.size, count, 0, found.verified, None, 0)


def _forget(dest: str, journal: Journal) -> None:
    """Remove the part, and what the journal says of it. No shard may be gone yet, or the destination has it."""
    journal.clear()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part_path(dest))


def _tidy(dest: str, journal: Journal) -> None:
    """Remove what is left beside a published destination."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part_path(dest))
    journal.remove()
    sync_directory(os.path.dirname(dest))


class _Merge:
    """One run of the copying, the journal's lock held."""

    def __init__(
        self,
        dest: str,
        found: Survey,
        journal: Journal,
        inode: Optional[int],
        progress: Progress,
        consume: bool,
        force: bool,
    ) -> None:
        self.dest = dest
        self.part = part_path(dest)
        self.plan: Plan = found.plan  # there is one where something is left to merge
        self.durable = found.durable
        self.journal = journal
        self.inode = inode  # of the part of an earlier run
        self.progress = progress
        self.consume = consume
        self.force = force
        self.copier = Copier()
        self.removed = 0

    def run(self, prepare: Callable[[str], object]) -> Result:
        resumed_at = self.durable
        fd = -1
        try:
            fd = self._resume() if self.durable else self._start()
            self._copy(fd)
            self._publish(fd, prepare)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise self._no_space(error) from error
            raise
        finally:
            if fd >= 0:
                os.close(fd)
        return Result(True, self.plan.total, len(self.plan.shards), resumed_at, None, self.copier.method, self.removed)

    def _no_space(self, error: OSError) -> Failure:
        return Failure(
            "no space left for %s (%s) after %s of %s"
            % (self.dest, os.strerror(error.errno or 0), mib(self.durable), mib(self.plan.total)),
            "free %s and run it again: it goes on from there" % mib(self.plan.total - self.durable)
            if self.durable
            else "free %s; nothing was kept" % mib(self.plan.total),
        )

    def _start(self) -> int:
        """A new part with its header, and its journal."""
        plan = self.plan
        _forget(self.dest, self.journal)
        fd = open_own(self.part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            # In consume mode the shards' own space is needed: it is reserved shard by shard.
            reserve(fd, 0, len(plan.header) if self.consume else plan.total)
            write_all(fd, plan.header, 0)
            os.fsync(fd)
            self.journal.begin(plan, fd, len(plan.header))
        except BaseException:
            os.close(fd)
            _forget(self.dest, self.journal)
            raise
        self.durable = len(plan.header)
        return fd

    def _resume(self) -> int:
        fd = open_own(self.part, os.O_RDWR, inode=self.inode)
        try:
            self.journal.begin(self.plan, fd, self.durable)
            if not self.consume:
                reserve(fd, 0, self.plan.total)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _is_durable(self, offset: int) -> None:
        """Called by the flusher's thread."""
        self.journal.durable(offset)
        self.durable = offset

    def _copy(self, fd: int) -> None:
        start = self.durable
        self.progress.begin("merge", self.plan.total, start)
        flusher = Flusher(fd, start, self._is_durable)
        try:
            for index, shard in enumerate(self.plan.shards):
                if shard.target_end > start:
                    self._copy_shard(fd, index, max(start, shard.target), flusher)
                if self.consume:
                    flusher.flush()
                    self._remove(shard)
            flusher.flush()
        finally:
            flusher.abort()

    def _copy_shard(self, fd: int, index: int, start: int, flusher: Flusher) -> None:
        shard = self.plan.shards[index]
        if self.consume:
            reserve(fd, start, shard.target_end - start)
        source = os.open(shard.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            passage = ReadOnce(source, shard.data_start + start - shard.target, shard.data_start + shard.data_bytes)
            for piece in pieces(self.plan, index, start):
                done = 0
                if piece.shard is None:
                    write_all(fd, bytes(piece.count), piece.target)
                    done = piece.count
                while done < piece.count:
                    passage.reach(piece.source + done)
                    done += self.copier.copy(source, fd, piece.source + done, piece.target + done, piece.count - done)
                    flusher.wrote(piece.target + done)
                    self.progress.update(piece.target + done)
                flusher.wrote(piece.target + done)
            passage.reach(shard.data_start + shard.data_bytes)
            same = _same_file(shard, os.fstat(source))
        except SourceEnded:
            same = False
        finally:
            os.close(source)
        if not same:
            raise GGUFError(shard.path, "was changed while it was merged: is it still being downloaded?")

    def _remove(self, shard: Shard) -> None:
        try:
            info = os.lstat(shard.path)
        except FileNotFoundError:
            return
        if not _same_file(shard, info):
            raise GGUFError(shard.path, "was replaced while it was merged, so it is not removed")
        os.unlink(shard.path)
        self.removed += 1

    def _publish(self, fd: int, prepare: Callable[[str], object]) -> None:
        self.progress.begin("publish", self.plan.total, self.plan.total)
        os.ftruncate(fd, self.plan.total)
        prepare(self.part)
        write_record(self.part, self.plan)
        os.fsync(fd)
        if self.force or not _link(self.part, self.dest):
            os.rename(self.part, self.dest)
        sync_directory(os.path.dirname(self.dest))
        if self.consume:
            # Before the journal goes, or a power cut could bring shards back that nothing would remove again.
            with contextlib.suppress(FileNotFoundError):
                sync_directory(os.path.dirname(self.plan.shards[0].path))
        _tidy(self.dest, self.journal)


def _same_file(shard: Shard, info: os.stat_result) -> bool:
    return (info.st_ino, info.st_size, info.st_mtime_ns) == (shard.inode, shard.size, shard.mtime_ns)


def _link(part: str, dest: str) -> bool:
    """Give `part` the name `dest` too, which must be free; False where the file system has no hard links."""
    try:
        os.link(part, dest)
    except FileExistsError:
        raise Failure(
            "%s was created by another process during the merge" % dest, "move it away, or use force, and run it again"
        ) from None
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        return False
    return True


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Turn SIGTERM, SIGINT and SIGHUP (not where `nohup` has it ignored) into Stopped, once, so that a merge ends in
    order. In the main thread only."""
    names = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        names.append(signal.SIGHUP)

    def stop(number: int, _frame: object) -> None:
        for name in names:
            signal.signal(name, signal.SIG_IGN)
        raise Stopped("stopped by %s; run it again to go on" % signal.Signals(number).name)

    before = [signal.signal(name, stop) for name in names]
    try:
        yield
    finally:
        for name, handler in zip(names, before):
            signal.signal(name, handler)
