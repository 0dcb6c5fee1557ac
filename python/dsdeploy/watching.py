"""`dsdeploy status --watch`: one run of Ansible that goes on, and what its hosts send, as it comes."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from dsdeploy import collection, events, render
from dsdeploy.errors import DsdeployError, ExitCode
from dsdeploy.invocation import Options
from dsdeploy.output import Telling
from dsdeploy.render import screen
from dsdeploy.runner import Run, private_directory
from dsdeploy.session import caught_signals, plan, refuse, typed_passwords
from dsdeploy.tracker import Tracker, json_line, one_line

# In the environment of Ansible: where looks are sent to (plugins/action/host_watch.py).
SOCKET = "DSDEPLOY_WATCH_SOCKET"
FORKS = "1000"  # each host's worker stays for as long as it is watched
MESSAGE = 1024 * 1024  # bytes of the largest look
GRACE = 1.0  # s that Ansible has to end before it is killed: it changes nothing
SOCKET_PATH = 107  # bytes of a socket's path at most
REDRAW_S = 1.0  # a clock that stands still looks like a program that hangs


class Sight(Protocol):
    def connecting(self, hosts: list[str]) -> None:
        """Ansible turns to these hosts."""

    def message(self, message: dict[str, Any]) -> None:
        """A look of a host, or what is wrong with it."""

    def note(self, text: str) -> None:
        """What is wrong with what was asked for, such as a host that the inventory has not."""

    def tick(self) -> bool:
        """Called some times a second; False when the user wants no more."""

    def close(self) -> None:
        """Gives the terminal back."""


class JsonSight:
    """A JSON object a line, `{"event": "look", "host", "look" or "problem"}` (docs/status.schema.json)."""

    def connecting(self, hosts: list[str]) -> None:
        pass

    def message(self, message: dict[str, Any]) -> None:
        print(json_line({"event": "look", **message}), flush=True)

    def note(self, text: str) -> None:
        print(one_line(text), file=sys.stderr, flush=True)

    def tick(self) -> bool:
        return True

    def close(self) -> None:
        pass


class PlainSight(JsonSight):
    """A line for each look of a host."""

    def __init__(self) -> None:
        print(screen.starting(0.0), file=sys.stderr, flush=True)
        collection.make_importable()
        from ansible_collections.dsdeploy.llm.plugins.plugin_utils import look_line

        self._line = look_line.line

    def connecting(self, hosts: list[str]) -> None:
        names = ", ".join(map(one_line, hosts))
        print(f"connecting to host{'s' if len(hosts) > 1 else ''} {names} ...", file=sys.stderr, flush=True)

    def message(self, message: dict[str, Any]) -> None:
        look = message.get("look")
        host = one_line(message["host"])
        print(self._line(host, look) if look else f"{host}: {one_line(message['problem'])}", flush=True)


class ScreenSight:
    """The whole terminal, drawn anew when there is news, when its size changes, and each second."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._views: dict[str, screen.View] = {}
        self._colour = not os.environ.get("NO_COLOR")
        self._began, self._drawn, self._news = time.monotonic(), 0.0, True
        self._size: tuple[int, ...] = ()
        self._keys = sys.stdin.isatty()
        self._before: Any = None
        self._suspended = False
        self._notes: list[str] = []
        self._on_stop = signal.getsignal(signal.SIGTSTP)
        if self._on_stop == signal.SIG_DFL:
            signal.signal(signal.SIGTSTP, self._suspend)
        self._open()

    def _open(self) -> None:
        if self._keys:
            import termios

            self._before = termios.tcgetattr(sys.stdin)
            quiet = termios.tcgetattr(sys.stdin)
            quiet[3] &= ~(termios.ECHO | termios.ICANON)
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, quiet)
        # A screen of its own, without cursor and without line wrap.
        self._write("\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J")
        self._size = ()
        # On a busy machine it is long until Ansible is there.
        self._draw()

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        self._suspended = True

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def connecting(self, hosts: list[str]) -> None:
        for host in hosts:
            self._views.setdefault(host, screen.View(heard=time.monotonic()))
        self._news = True

    def message(self, message: dict[str, Any]) -> None:
        view = self._views.setdefault(str(message["host"]), screen.View())
        view.look, view.problem = message.get("look", view.look), str(message.get("problem", ""))
        view.heard, self._news = time.monotonic(), True

    def note(self, text: str) -> None:
        self._notes.append(text)  # on the terminal that the user gets back

    def tick(self) -> bool:
        if self._suspended:  # Ctrl-Z: the shell gets its terminal as it was, until `fg`
            self._suspended = False
            self._give_back()
            os.kill(os.getpid(), signal.SIGSTOP)
            self._open()
        while self._keys and select.select([sys.stdin], [], [], 0)[0]:
            pressed = os.read(sys.stdin.fileno(), 64)
            if not pressed:
                self._keys = False
            if b"q" in pressed:
                return False
        self._draw()
        return True

    def _draw(self) -> None:
        """A frame, where there is something new to show."""
        now, size = time.monotonic(), tuple(shutil.get_terminal_size())
        if self._news or size != self._size or now - self._drawn >= REDRAW_S:
            wiped = "\x1b[2J" if size != self._size else ""
            self._drawn, self._size, self._news = now, size, False
            width, height = self._size
            clock = time.strftime("%H:%M:%S")
            lines = screen.screen(self._views, now, clock, self._interval_s, width, height, self._began)
            text = "\x1b[K\r\n".join(screen.drawn(line, width, self._colour) for line in lines)
            self._write(f"{wiped}\x1b[H{text}\x1b[K\x1b[J")

    def _give_back(self) -> None:
        self._write("\x1b[?7h\x1b[?25h\x1b[?1049l")
        if self._before is not None:
            import termios

            with contextlib.suppress(termios.error):  # closed
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._before)

    def close(self) -> None:
        signal.signal(signal.SIGTSTP, self._on_stop)
        self._give_back()
        for text in self._notes:
            print(one_line(text), file=sys.stderr, flush=True)


def choose(json_lines: bool, interval_s: float) -> Sight:
    if json_lines:
        return JsonSight()
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return ScreenSight(interval_s)
    return PlainSight()


def watch(options: Options, interval_s: float) -> int:
    """Runs until the user ends it (exit code 0), or Ansible does, with its reason."""
    try:
        planned = plan("watch", options, {"dsdeploy_watch_interval": interval_s})
        passwords = typed_passwords(planned)
    except DsdeployError as error:
        return refuse("status", options, error)
    with _listening() as (receiver, path), caught_signals() as caught:
        planned = replace(planned, environment={**planned.environment, SOCKET: path, "ANSIBLE_FORKS": FORKS})
        tracker, run = Tracker("status", time.monotonic(), options.check), Run(planned, passwords)
        telling = Telling()
        kill_at: float | None = None
        spoken_to: set[str] = set()
        with contextlib.closing(iter(run)) as happening:
            sight = choose(options.json, interval_s)
            try:
                for raw in happening:
                    now = time.monotonic()
                    # How it ended is told at the end.
                    told = list(tracker.feed(raw, now)) if raw else []
                    goes_on = False  # nor where nobody sees it any more (`| head`, a terminal that was closed)
                    with telling():
                        for event in told:
                            if isinstance(event, events.Warn) and not event.host:
                                sight.note(f"warning: {event.text}")
                        if new := [name for name in tracker.hosts if name not in spoken_to]:
                            spoken_to.update(new)
                            sight.connecting(new)
                        for message in _messages(receiver):
                            sight.message(message)
                        goes_on = kill_at is None and sight.tick()
                    if kill_at is None and (not goes_on or caught):
                        kill_at = now + GRACE
                        # The user's terminal is theirs at once.
                        with telling():
                            sight.close()
                        # Workers that a signal does not reach find nobody to send to, and end.
                        receiver.close()
                        run.interrupt(tracker.ansible_pid)
                    elif kill_at is not None and (len(caught) > 1 or now > kill_at):
                        run.kill(tracker.ansible_pid)
            finally:
                if kill_at is None:
                    with telling():
                        sight.close()
        if telling.error:
            raise telling.error
        return int(ExitCode.OK) if kill_at is not None else _ended(tracker, run.rc, options)


def _ended(tracker: Tracker, rc: int | None, options: Options) -> int:
    """Ansible came to an end by itself: why."""
    renderer = render.choose(options.json, verbose=1, reasoning=False)
    code = int(ExitCode.FAILED)
    for event in tracker.finish(rc, time.monotonic()):
        if isinstance(event, events.Failure):
            renderer.event(event)
            if not options.json:
                from dsdeploy.render import text

                for line in text.failure(event):
                    renderer.note(line)
        elif isinstance(event, events.Summary):
            code = event.exit_code
            if options.json:
                renderer.event(event)
    return code


@contextlib.contextmanager
def _listening() -> Iterator[tuple[socket.socket, str]]:
    """A socket for the looks, that nobody else can send to: (it, its path)."""
    place = tempfile.gettempdir()
    # A TMPDIR of a batch system or a pipeline can be longer than a socket's path may be.
    if len(os.fsencode(place)) > SOCKET_PATH - len("/dsdeploy-12345678/s"):
        place = "/tmp"
    with private_directory(place) as directory, contextlib.ExitStack() as stack:
        receiver = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        path = str(Path(directory, "s"))
        receiver.bind(path)
        receiver.setblocking(False)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * MESSAGE)
        yield receiver, path


def _messages(receiver: socket.socket) -> Iterator[dict[str, Any]]:
    while True:
        try:
            yield json.loads(receiver.recv(MESSAGE))
        except OSError:  # nothing more for now, or closed
            return
