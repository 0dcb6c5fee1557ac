# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lines of a program's output while a connection plugin still waits for its end.

A connection plugin gives what a command printed once that has ended. The plugins that matter (ssh, local, podman,
docker, kubectl) start a program for it with subprocess.Popen, in the worker process of their host: there the lines that
begin with a mark are taken out of its output as they come, and the plugin sees the rest, its prompts among it. So all
that the plugin does for a connection (passwords, privilege escalation, multiplexing) is done by it.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any


class Split:
    """Takes output in pieces; calls `told` with each whole line that begins with `mark`, and returns the rest."""

    def __init__(self, mark: bytes, told: Callable[[bytes], None]) -> None:
        self._mark, self._told = mark, told
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        passed = b""
        *lines, last = (self._held + piece).split(b"\n")
        for line in lines:
            if line.startswith(self._mark):
                self._told(line[len(self._mark) :].rstrip(b"\r"))
            else:
                passed += line + b"\n"
        # A prompt has no line end and must not wait for one; what may become a marked line must.
        self._held = last if last.startswith(self._mark[: len(last)]) and last else b""
        return passed + (b"" if self._held else last)

    def end(self) -> bytes:
        held, self._held = self._held, b""
        return held


def _pump(source: Any, target: int, split: Split, stop: int) -> None:
    try:
        while stop not in select.select([source, stop], [], [])[0]:
            piece = os.read(source.fileno(), 65536)
            if not piece:
                break
            _write(target, split.feed(piece))
        _write(target, split.end())
    except (OSError, ValueError):
        pass  # the plugin has closed its end, or killed the program
    finally:
        os.close(target)
        source.close()


def _write(target: int, data: bytes) -> None:
    while data:
        data = data[os.write(target, data) :]


class Programs:
    """The programs that were started while it was taken; `kill` ends those that still run, and hangs up on what they
    have started."""

    def __init__(self) -> None:
        self._running: list[Any] = []
        self._pumps: list[threading.Thread] = []
        self._stop, self._stopper = os.pipe()

    def add(self, program: Any) -> None:
        self._running.append(program)

    def pump(self, source: Any, target: int, split: Split) -> None:
        self._pumps.append(threading.Thread(target=_pump, args=(source, target, split, self._stop), daemon=True))
        self._pumps[-1].start()

    def kill(self) -> None:
        os.write(self._stopper, b".")
        for program in self._running:
            if program.poll() is None:
                program.kill()

    def close(self) -> None:
        os.close(self._stopper)
        for pump in self._pumps:
            pump.join()
        os.close(self._stop)


@contextlib.contextmanager
def taken(mark: bytes, told: Callable[[bytes], None]) -> Iterator[Programs]:
    """Within it, `told` gets the marked lines of every program that this process starts, in another thread."""
    original = subprocess.Popen
    programs = Programs()

    class Popen(original):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, **named)
            programs.add(self)
            if self.stdout is None or hasattr(self.stdout, "encoding"):
                return
            ours, theirs = os.pipe()
            programs.pump(self.stdout, theirs, Split(mark, told))
            self.stdout = os.fdopen(ours, "rb")

    subprocess.Popen = Popen  # type: ignore[misc]
    try:
        yield programs
    finally:
        subprocess.Popen = original  # type: ignore[misc]
        programs.close()
