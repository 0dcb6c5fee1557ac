# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are held under flock(2). Who can open such a file can hold it: it is its owner's alone."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from typing import Callable, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

POLL = 0.2  # s


def open_lock(path: str) -> int:
    """The descriptor of a lock's file, made where there is none, readable for its owner alone.

    :raises OSError: it cannot be made. `Failure`: what is there is no file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno in (errno.EISDIR, errno.ELOOP):
            raise _no_lock(path) from None
        raise
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        os.close(descriptor)
        raise _no_lock(path)
    if stat.S_IMODE(state.st_mode) != 0o600:
        os.fchmod(descriptor, 0o600)
    return descriptor


def _no_lock(path: str) -> Failure:
    return Failure("%s should be a lock file, and is not a file" % path, hint="Remove it, and run again.")


def hold(descriptor: int, path: str, limit: float, waiting: Optional[Callable[[], None]] = None) -> None:
    """Hold a lock's file from now on.

    :param limit: s to wait at most for who holds it.
    :param waiting: called about once a second meanwhile.
    :raises Failure: somebody held it all the time.
    """
    deadline = time.monotonic() + limit
    told = time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        now = time.monotonic()
        if now >= deadline:
            raise Failure(
                "another process has held %s for %.0f s" % (path, limit),
                hint="See which one (fuser %s); wait for it, or end it." % path,
            )
        if waiting and now - told >= 1:
            told = now
            waiting()
        time.sleep(min(POLL, max(0.0, deadline - now)))


def holder(path: str) -> Optional[int]:
    """The process that holds a lock's file; 0 where the kernel does not name it, None where nobody does."""
    try:
        # Over NFS only a file that is open for writing can be held alone.
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return None
    except OSError:
        return _named_by_the_kernel(os.fstat(descriptor))
    finally:
        os.close(descriptor)


def _named_by_the_kernel(state: os.stat_result) -> int:
    """The process by /proc/locks (proc(5)): `1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF`."""
    wanted = "%02x:%02x:%d" % (os.major(state.st_dev), os.minor(state.st_dev), state.st_ino)
    try:
        with open("/proc/locks", encoding="ascii", errors="replace") as handle:
            for line in handle:
                words = line.split()
                if len(words) > 5 and words[1] == "FLOCK" and words[5] == wanted and words[4].isdigit():
                    return int(words[4])
    except OSError:
        pass
    return 0
