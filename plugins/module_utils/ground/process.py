# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a program that may hang, or one that takes long."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from typing import Callable, NamedTuple, Optional

# How long to wait for a killed process. One that sleeps in the kernel (state D: a driver that hangs) outlives SIGKILL.
_REAP_TIMEOUT = 2.0
_PR_SET_PDEATHSIG = 1  # prctl(2), linux/prctl.h


class Answer(NamedTuple):
    """`rc` is None when the program could not be started (`stderr` says why) or did not end in time."""

    rc: int | None
    stdout: str
    stderr: str
    timed_out: bool


def run(argv: list[str], timeout: float, on_second: Optional[Callable[[], None]] = None, **environment: str) -> Answer:
    """Run `argv` for at most `timeout` s, then kill it and its process group, and return at most 2 s later.

    `on_second` is called about once a second while it runs. `environment` is added to our own. With no time left it
    is not even started. Output is read as UTF-8, with U+FFFD for what is not; what was printed before a time-out is
    dropped.
    """
    if timeout <= 0:
        return Answer(None, "", "", True)
    try:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(os.environ, LC_ALL="C", **environment),
            start_new_session=True,
        )
    except OSError as error:
        return Answer(None, "", str(error), False)
    deadline = time.monotonic() + timeout
    try:
        while True:
            left = deadline - time.monotonic()
            try:
                stdout, stderr = child.communicate(timeout=min(left, 1.0))
                break
            except subprocess.TimeoutExpired:
                if left <= 1.0:
                    raise
                if on_second:
                    on_second()
    except subprocess.TimeoutExpired:
        try:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate(timeout=_REAP_TIMEOUT)
        except (subprocess.TimeoutExpired, ProcessLookupError):
            pass  # it sleeps in the kernel, or a grandchild of another session holds its pipes: leave it behind
        return Answer(None, "", "", True)
    return Answer(child.returncode, stdout.decode("utf-8", "replace"), stderr.decode("utf-8", "replace"), False)


def stream(argv: list[str], environ: dict[str, str], on_line: Callable[[str], None], pass_fds: tuple = ()) -> int:
    """Run `argv` to its end and call `on_line` with each line of its output (stdout and stderr together).

    The program gets SIGTERM when this process dies, even by SIGKILL: it is nobody's otherwise. It has to pass that
    on to what it has started, as make, ninja and cmake do.

    :param environ: variables to set besides this process's own; LC_ALL is C.
    :param pass_fds: file descriptors to leave open in the program.
    :returns: the exit status, or minus the signal that ended it.
    :raises OSError: it cannot be started.
    """
    libc = ctypes.CDLL(None)

    def die_with_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    child = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(os.environ, LC_ALL="C", **environ),
        start_new_session=True,
        preexec_fn=die_with_parent,
        pass_fds=pass_fds,
    )
    try:
        for line in child.stdout:
            on_line(line.decode("utf-8", "replace"))
        return child.wait()
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGTERM)
            child.wait()
        child.stdout.close()
