# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a program that may hang."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import NamedTuple

# How long to wait for a killed process. One that sleeps in the kernel (state D: a driver that hangs) outlives SIGKILL.
_REAP_TIMEOUT = 2.0


class Answer(NamedTuple):
    """`rc` is None when the program could not be started (`stderr` says why) or did not end in time."""

    rc: int | None
    stdout: str
    stderr: str
    timed_out: bool


def run(argv: list[str], timeout: float, **environment: str) -> Answer:
    """Run `argv` for at most `timeout` s, then kill it and its process group, and return at most 2 s later.

    `environment` is added to our own. With no time left it is not even started. Output is read as UTF-8, with U+FFFD
    for what is not; what was printed before a time-out is dropped.
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
    try:
        stdout, stderr = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        try:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate(timeout=_REAP_TIMEOUT)
        except (subprocess.TimeoutExpired, ProcessLookupError):
            pass  # it sleeps in the kernel, or a grandchild of another session holds its pipes: leave it behind
        return Answer(None, "", "", True)
    return Answer(child.returncode, stdout.decode("utf-8", "replace"), stderr.decode("utf-8", "replace"), False)
