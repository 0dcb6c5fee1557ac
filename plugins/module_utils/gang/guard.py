# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guard of one rank of a gang: starts the engine when all ranks are there, and ends it when one is gone.

A program of its own, beside which nothing of the collection is on the host; it is what the service runs, with the
engine as its child, so that the service manager starts both anew when it ends.

The first rank listens, in the gang's own network; the others hold a connection to it. Both sides prove that they know
the gang's key (HMAC-SHA-256 of the other's random number), which never goes over the wire. Then both say a line every
few seconds. The engines are started once all ranks are there. When one rank's engine ends, or one host is silent for
too long, all of them are ended: an engine does not always notice, and a new rank must not meet old ones. A rank whose
first rank is gone stops and waits for it.

Usage: guard.py --rank R --size N --head ADDRESS --own ADDRESS --port P --key-variable NAME [--beat S] [--lost S]
       [--retry S] -- COMMAND...
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import hmac
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any, Dict, List, Optional

TICK = 0.1  # s
HANDSHAKE = 5.0  # s
STOP = 20.0  # s that an engine has to end
MOST = 300  # bytes of a line
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # prctl(2)


def proof(key: bytes, role: str, rank: int, number: str) -> str:
    """What only who has the key can say to a random number. `role`: of who says it."""
    return hmac.new(key, ("%s %d %s" % (role, rank, number)).encode("ascii"), hashlib.sha256).hexdigest()


class Line:
    """Lines over a connection. OSError where it is gone, silent for too long, or says what is no line."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel, self.rest = channel, b""
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def say(self, *words: Any) -> None:
        self.channel.sendall((" ".join(str(word) for word in words) + "\n").encode("ascii"))

    def hear(self, timeout: float) -> List[str]:
        deadline = time.monotonic() + timeout
        while b"\n" not in self.rest:
            left = deadline - time.monotonic()
            if left <= 0 or len(self.rest) > MOST:
                raise OSError("silent for %.0f s" % timeout if left <= 0 else "not a line")
            self.channel.settimeout(left)
            part = self.channel.recv(MOST)
            if not part:
                raise OSError("the connection ended")
            self.rest += part
        line, _newline, self.rest = self.rest.partition(b"\n")
        return line.decode("ascii").split()

    def end(self) -> None:
        """Also for a thread that waits for it; both sides hear of it at once."""
        try:
            self.channel.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has ended

    def close(self) -> None:
        self.channel.close()


def tell(text: str) -> None:
    try:
        sys.stdout.write("dsdeploy-gang: %s\n" % text)
        sys.stdout.flush()
    except OSError:
        pass  # a log that is gone is no reason to stop watching


class Stopping:
    """Whether a stop was asked for. Without a lock, unlike threading.Event: a signal comes at any moment, also while
    whoever waits holds that lock, and would wait for it for ever."""

    asked = False

    def ask(self, *_arguments: Any) -> None:
        self.asked = True

    def wait(self, seconds: float) -> None:
        if not self.asked:
            time.sleep(seconds)


class Engine:
    """The engine as a child, with all that it starts."""

    def __init__(self, command: List[str]) -> None:
        self.command, self.child = command, None  # type: List[str], Optional[subprocess.Popen[bytes]]
        self.prctl = ctypes.CDLL(None, use_errno=True).prctl
        # Whose parent ends becomes this process's child: none of an engine's workers outlives it.
        self.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def start(self) -> bool:
        """Whether it could be started."""
        tell("all ranks are there: the engine starts")
        try:
            self.child = subprocess.Popen(self.command, preexec_fn=self._end_with_the_guard)
        except (OSError, subprocess.SubprocessError) as error:
            tell("%s cannot be started: %s" % (self.command[0], getattr(error, "strerror", None) or error))
        return self.child is not None

    def _end_with_the_guard(self) -> None:
        # Where the guard alone is killed and its service manager ends nothing else (supervisor), an engine that nobody
        # watches would hold the port that the next one wants.
        self.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)

    def status(self) -> Optional[int]:
        """Its exit status once it has ended."""
        return self.child.poll() if self.child else None

    def end(self, wait: float = STOP) -> None:
        if self.child is None:
            return
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(wait)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline:
            left = children()
            if not left:
                return
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                except OSError:
                    pass


def children() -> List[int]:
    """Processes whose parent this one is."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name, encoding="utf-8", errors="replace") as handle:
                    if int(handle.read().rpartition(")")[2].split()[1]) == os.getpid():
                        found.append(int(name))
            except (OSError, ValueError, IndexError):
                pass
    return found


class Head:
    """The first rank: knows which of the others are there."""

    def __init__(self, options: argparse.Namespace, key: bytes) -> None:
        self.options, self.key = options, key
        self.there: Dict[int, Line] = {}
        self.lock = threading.Lock()
        self.lost = ""
        self.going = False
        family = socket.AF_INET6 if ":" in options.own else socket.AF_INET
        self.server = socket.socket(family, socket.SOCK_STREAM)
        self.server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.server.bind((options.own, options.port))
        self.server.listen(64)

    def run(self, engine: Engine, stopping: Stopping) -> int:
        threading.Thread(target=self._accept, daemon=True).start()
        said: List[int] = []
        while not stopping.asked:
            with self.lock:
                missing, lost = [rank for rank in range(1, self.options.size) if rank not in self.there], self.lost
                if missing != said and not self.going:
                    said = missing
                    if missing:
                        tell("waiting for rank %s" % ", ".join(str(rank) for rank in missing))
                if not missing and not self.going:
                    self.going = engine.start()
                    if not self.going:
                        return 1
            if self.going and lost:
                tell("%s: the engine ends, and starts anew with all ranks" % lost)
                return 1
            if engine.status() is not None:
                tell("the engine ended with status %s" % engine.status())
                return engine.status() or 1
            stopping.wait(TICK)
        return 0

    def _accept(self) -> None:
        said = ""
        while True:
            # Whatever this one connection, or this moment, lacks: without this thread no rank could come any more.
            try:
                channel, _address = self.server.accept()
                threading.Thread(target=self._member, args=(Line(channel),), daemon=True).start()
            except (OSError, RuntimeError) as error:
                if str(error) != said:
                    said = str(error)
                    tell("a connection was not taken: %s" % said)
                time.sleep(TICK)

    def _member(self, line: Line) -> None:
        rank = 0
        try:
            rank = self._known(line)
            with self.lock:
                before = self.there.get(rank)
                # Of the same rank there is one: who comes anew has lost what was before.
                if before is not None:
                    before.end()
                    if self.going:
                        self.lost = self.lost or "rank %d came anew" % rank
                self.there[rank] = line
            tell("rank %d is there" % rank)
            while True:
                # Who comes while the engine ends waits for the next first rank: its engine would start for this one.
                line.say("go" if self.going and not self.lost else "wait")
                line.hear(self.options.lost)
                time.sleep(min(self.options.beat, TICK if not self.going else self.options.beat))
        except (OSError, ValueError) as error:
            with self.lock:
                if rank and self.there.get(rank) is line:
                    del self.there[rank]
                    tell("rank %d is gone: %s" % (rank, error))
                    if self.going:
                        self.lost = self.lost or "rank %d is gone (%s)" % (rank, error)
            line.close()

    def _known(self, line: Line) -> int:
        """The rank that proves to be one. OSError for whoever does not."""
        number = secrets.token_hex(16)
        line.say("gang", self.options.size, number)
        words = line.hear(HANDSHAKE)
        rank = int(words[1]) if len(words) == 4 and words[0] == "rank" and words[1].isdigit() else 0
        if not 0 < rank < self.options.size or not hmac.compare_digest(
            words[2], proof(self.key, "member", rank, number)
        ):
            raise OSError("it does not know the gang's key")
        line.say("head", proof(self.key, "head", rank, words[3]))
        return rank


class Member:
    """Any other rank."""

    def __init__(self, options: argparse.Namespace, key: bytes) -> None:
        self.options, self.key, self.lost, self.going = options, key, "", threading.Event()

    def run(self, engine: Engine, stopping: Stopping) -> int:
        threading.Thread(target=self._hold, daemon=True).start()
        while not stopping.asked:
            if self.lost:
                tell("%s: the engine ends, and waits for the first rank" % self.lost)
                return 1
            if self.going.is_set() and engine.child is None and not engine.start():
                return 1
            if engine.status() is not None:
                tell("the engine ended with status %s" % engine.status())
                return engine.status() or 1
            stopping.wait(TICK)
        return 0

    def _hold(self) -> None:
        said = ""
        while True:
            try:
                where = (self.options.head, self.options.port)
                line = Line(socket.create_connection(where, HANDSHAKE, (self.options.own, 0)))
                self._prove(line)
                tell("the first rank is there")
                while True:
                    if line.hear(self.options.lost) == ["go"]:
                        self.going.set()
                    line.say("beat")
            except (OSError, ValueError) as error:
                if self.going.is_set():
                    self.lost = "the first rank is gone (%s)" % error
                    return
                if str(error) != said:
                    said = str(error)
                    tell("waiting for the first rank: %s" % said)
                time.sleep(self.options.retry)

    def _prove(self, line: Line) -> None:
        words = line.hear(HANDSHAKE)
        if len(words) != 3 or words[0] != "gang" or int(words[1]) != self.options.size:
            raise OSError("it is another gang's, or another program")
        number = secrets.token_hex(16)
        line.say("rank", self.options.rank, proof(self.key, "member", self.options.rank, words[2]), number)
        words = line.hear(HANDSHAKE)
        if len(words) != 2 or not hmac.compare_digest(words[1], proof(self.key, "head", self.options.rank, number)):
            raise OSError("it does not know the gang's key")


def main(arguments: List[str]) -> int:
    parser = argparse.ArgumentParser()
    for name in ("--rank", "--size", "--port"):
        parser.add_argument(name, type=int, required=True)
    for name in ("--head", "--own", "--key-variable"):
        parser.add_argument(name, required=True)
    parser.add_argument("--beat", type=float, default=2.0)
    parser.add_argument("--lost", type=float, default=30.0)
    parser.add_argument("--retry", type=float, default=1.0)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    secret = os.environ.get(options.key_variable, "")
    if not secret:
        tell("%s is not set, and is the gang's key" % options.key_variable)
        return 2
    key = hmac.new(secret.encode("utf-8"), b"dsdeploy-gang", hashlib.sha256).digest()
    stopping = Stopping()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stopping.ask)
    engine = Engine(options.command)
    try:
        part = Head(options, key) if options.rank == 0 else Member(options, key)
    except OSError as error:
        tell("%s port %d cannot be taken: %s" % (options.own, options.port, error.strerror or error))
        return 1
    try:
        status = part.run(engine, stopping)
    finally:
        # A stop that was asked for takes as long as the service manager allows.
        engine.end(3600.0 if stopping.asked else STOP)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
