"""What the command says, whatever becomes of those who read it: a pipe into `head`, a terminal that was closed, a disk
that is full. None of it stops a run on the hosts half-way."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

UNREAD = (errno.EPIPE, errno.EIO)  # nobody reads it any more: that is no fault
UNWRITABLE = (*UNREAD, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def replace_missing() -> None:
    """Streams that whoever started the command has closed (`>&-`): Python has none then, and the next file that is
    opened would take their place."""
    for number, name, mode in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_WRONLY), (2, "stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, mode)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def drop_unwritable() -> None:
    """What goes to a stream that takes nothing more goes nowhere; else Python would try again at its end."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except OSError:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - lives as long as the process


class Telling:
    """A context for each word that is said. `error`: the first reason, other than that nobody reads it, why one was not
    written."""

    def __init__(self) -> None:
        self.error: OSError | None = None

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            if error.errno not in UNREAD:
                self.error = self.error or error
            drop_unwritable()
