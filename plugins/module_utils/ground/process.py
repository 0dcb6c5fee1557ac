# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a program that may hang, or one that takes long."""

from __future__ import annotations

import ctypes
import json
import os
import select
import selectors
import signal
import subprocess
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional

# How long to wait for a killed process. One that sleeps in the kernel (state D: a driver that hangs) outlives SIGKILL.
_REAP_TIMEOUT = 2.0
MOST_OUTPUT = 64 * 1024 * 1024  # bytes; what a program in order never prints
# Where programs run that have no business in any directory. Ours may be one where others can write: Python imports from
# it (`-c`, `-m`), and uv takes its settings from there and from all above it.
NOWHERE = "/"
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
    dropped. One that prints more than MOST_OUTPUT is killed: `rc` is None, and `stderr` says it.
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
            cwd=NOWHERE,
            start_new_session=True,
        )
    except OSError as error:
        return Answer(None, "", str(error), False)
    try:
        output = _read(child, time.monotonic() + timeout, on_second)
    except subprocess.TimeoutExpired:
        _kill(child)
        return Answer(None, "", "", True)
    if output is None:
        _kill(child)
        return Answer(None, "", "%s printed more than %d MiB" % (argv[0], MOST_OUTPUT // 1024**2), False)
    stdout, stderr = (data.decode("utf-8", "replace") for data in output)
    return Answer(child.returncode, stdout, stderr, False)


def _read(child: Any, deadline: float, on_second: Optional[Callable[[], None]]) -> Optional[List[bytes]]:
    """What it prints until it ends, [stdout, stderr]; None for too much. Raises TimeoutExpired."""
    chunks: Dict[Any, List[bytes]] = {child.stdout: [], child.stderr: []}
    size, second = 0, time.monotonic() + 1.0

    def wait() -> float:
        """Seconds until the next thing to do."""
        nonlocal second
        now = time.monotonic()
        if now >= deadline:
            raise subprocess.TimeoutExpired(child.args, 0)
        if now >= second:
            second = now + 1.0
            if on_second:
                on_second()
        return max(0.01, min(deadline, second) - now)

    with selectors.DefaultSelector() as selector:
        for pipe in chunks:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            for key, _events in selector.select(wait()):
                data = os.read(key.fd, 65536)
                size += len(data)
                if size > MOST_OUTPUT:
                    return None
                if data:
                    chunks[key.fileobj].append(data)
                else:
                    selector.unregister(key.fileobj)
    while True:  # it has closed its output, and may go on
        try:
            child.wait(wait())
            break
        except subprocess.TimeoutExpired:
            if time.monotonic() >= deadline:
                raise
    for pipe in chunks:
        pipe.close()
    return [b"".join(parts) for parts in chunks.values()]


def _kill(child: Any) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait(_REAP_TIMEOUT)
    except (subprocess.TimeoutExpired, ProcessLookupError):
        pass  # it sleeps in the kernel: leave it behind
    for pipe in (child.stdout, child.stderr):
        pipe.close()


def aside(work: Callable[[], Any], timeout: float) -> Any:
    """What `work` returns, from a copy of this process: for a call of the system that may wait for ever, or crash.

    Far cheaper than a program of its own. What is returned goes through JSON. Only while there is one thread.
    :raises OSError: it failed, in its own words; it was ended by a signal; or (TimeoutError) it did not end in time.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            try:
                told = {"value": work()}
            except Exception as error:  # whatever it is, the other side is to hear of it
                told = {"error": "%s: %s" % (type(error).__name__, error)}
            with os.fdopen(writer, "w", encoding="utf-8") as pipe:
                json.dump(told, pipe)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    deadline, data = time.monotonic() + timeout, b""
    try:
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([reader], [], [], left)[0]:
                os.kill(child, signal.SIGKILL)
                raise TimeoutError("no answer within %g s" % timeout)
            chunk = os.read(reader, 65536)
            if not chunk:
                break
            data += chunk
    finally:
        os.close(reader)
        # One that sleeps in the kernel is left behind.
        reap = time.monotonic() + _REAP_TIMEOUT
        while os.waitpid(child, os.WNOHANG)[0] == 0 and time.monotonic() < reap:
            time.sleep(0.002)
    if not data:
        raise OSError("it crashed")
    told = json.loads(data.decode("utf-8", "replace"))
    if "error" in told:
        raise OSError(told["error"])
    return told["value"]


def dying_with_parent(number: int) -> Callable[[], None]:
    """For the child of a fork: it gets signal `number` when the process that called this dies, even by SIGKILL.

    Another user or group of the child takes that away again (prctl(2)): after them, then.
    """
    libc = ctypes.CDLL(None)  # not in the child, which may not load anything

    def die_with_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, number)

    return die_with_parent


def stream(argv: list[str], environ: dict[str, str], on_line: Callable[[str], None], pass_fds: tuple = ()) -> int:
    """Run `argv` to its end and call `on_line` with each line of its output (stdout and stderr together).

    The program gets SIGTERM when this process dies, even by SIGKILL: it is nobody's otherwise. It has to pass that
    on to what it has started, as make, ninja and cmake do.

    :param environ: variables to set besides this process's own; LC_ALL is C.
    :param pass_fds: file descriptors to leave open in the program.
    :returns: the exit status, or minus the signal that ended it.
    :raises OSError: it cannot be started.
    """
    child = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(os.environ, LC_ALL="C", **environ),
        cwd=NOWHERE,
        start_new_session=True,
        preexec_fn=dying_with_parent(signal.SIGTERM),
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
