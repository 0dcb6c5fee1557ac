"""One verb from its options to its exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import click

from dsdeploy import cache, collection, events, invocation, render
from dsdeploy.errors import DsdeployError, ExitCode
from dsdeploy.invocation import Invocation, Options
from dsdeploy.output import Telling
from dsdeploy.runner import Run, private_directory
from dsdeploy.tracker import Tracker

# Without a word of Ansible for this long (s) before its first task it is said what it may wait for, and then it is
# given up: a prompt that the command does not know would wait for ever. An inventory from a cloud takes its time.
START_PATIENCE, START_LIMIT = 30.0, 600.0
# After the first Ctrl-C Ansible has this long (s) to end its tasks before it is killed; READING_GRACE where it changes
# nothing.
GRACE, READING_GRACE = 10.0, 1.0
# In the environment of Ansible: the file that asks for an early end (plugins/action/bench.py).
STOP_FILE = "DSDEPLOY_STOP_FILE"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def execute(
    verb: str,
    options: Options,
    variables: Mapping[str, Any],
    reasoning: bool = False,
    soft_stop: bool = False,
    when_done: events.Event | None = None,
    at_end: Callable[[events.Summary], None] | None = None,
) -> int:
    """Runs the playbook of `verb` and renders it; returns the exit code. Never raises DsdeployError: with `--json`
    also a wrong inventory ends in a summary line. `soft_stop`: the first Ctrl-C asks the work on the hosts to end, and
    leaves it the time to report; the second one stops Ansible. `when_done` is told before the summary of a run that did
    all that it was asked for, and not with `--check`; `at_end` gets the summary of one that was run at all."""
    renderer = None
    try:
        planned = plan(verb, options, variables)
        # A name that nobody else can take; the file comes into being with the first Ctrl-C.
        private = private_directory() if soft_stop else contextlib.nullcontext("")
        passwords = typed_passwords(planned)
        renderer = render.choose(options.json, options.verbose, reasoning)
        with private as directory:
            stop_file = Path(directory, "stop") if directory else None
            if stop_file:
                planned = replace(planned, environment={**planned.environment, STOP_FILE: str(stop_file)})
            return _run(verb, options, planned, passwords, renderer, stop_file, when_done, at_end)
    except DsdeployError as error:
        return refuse(verb, options, error, renderer)
    finally:
        if renderer:
            with Telling()():
                renderer.close()


def plan(verb: str, options: Options, variables: Mapping[str, Any]) -> Invocation:
    try:
        here = Path.cwd()
    except FileNotFoundError:
        said, hint = "the working directory is not there any more", "Go to another one (cd), then run it again."
        raise DsdeployError(said, hint) from None
    if not os.access(here, os.X_OK):
        said, hint = (
            f"this user may not enter the working directory {here}",
            "Go to another one (cd), then run it again.",
        )
        raise DsdeployError(said, hint)
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        said, hint = "no directory for temporary files can be written", "Set TMPDIR to a directory of yours."
        raise DsdeployError(said, hint) from None
    home = os.path.expanduser("~")
    user_config = invocation.read_user_config(os.environ, here, Path(home))
    planned = invocation.build(verb, options, variables, collection.find(), os.environ, user_config)
    if "ANSIBLE_HOME" in os.environ or user_config.has_option("defaults", "home") or _writable(Path(home)):
        return planned
    return replace(planned, environment={**planned.environment, **_other_home(home)})


def _writable(home: Path) -> bool:
    """Whether Ansible can keep its own files there."""
    place = home / ".ansible"
    while home.is_absolute() and not os.path.exists(place) and place != place.parent:
        place = place.parent
    return home.is_absolute() and os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK)


def _other_home(home: str) -> dict[str, str]:
    """Ansible does not start where it has no home directory to write into, as in many containers."""
    made = Path(tempfile.gettempdir(), f"dsdeploy-home-{os.geteuid()}")
    with contextlib.suppress(FileExistsError):
        made.mkdir(mode=0o700)
    if not cache.ours_alone(made):
        raise DsdeployError(
            f"{home} cannot be written, and {made} is not yours alone", "Set HOME to a directory of yours."
        )
    return {"ANSIBLE_HOME": str(made), **({} if os.path.isabs(home) else {"HOME": str(made)})}


def typed_passwords(planned: Invocation) -> dict[str, str]:
    """What the user types at each prompt that Ansible will have, by its pattern."""
    return {prompt.pattern: _typed(prompt.text) for prompt in planned.prompts}


def _typed(text: str) -> str:
    try:
        with warnings.catch_warnings():
            # Of getpass, where there is no terminal: it reads a pipe then, and nothing is echoed.
            warnings.simplefilter("ignore")
            return str(click.prompt(text, hide_input=True, err=True))
    except click.Abort as error:
        if not isinstance(error.__context__, EOFError):
            raise
        hint = "Run it in a terminal, or name a file: --become-password-file, --vault-password-file; for SSH use a key."
        raise DsdeployError("a password was asked for, and there is nobody to type it", hint, ExitCode.USAGE) from None


def refuse(verb: str, options: Options, error: DsdeployError, renderer: render.Renderer | None = None) -> int:
    """Tells why nothing was run."""
    renderer = renderer or render.choose(options.json, verbose=1, reasoning=False)
    code = int(error.exit_code)
    failure = events.Failure(
        "", "", "", error.message, error.hint, "usage" if error.exit_code == ExitCode.USAGE else ""
    )
    summary = events.Summary(verb, False, code, 0.0, None, {}, [failure], {}, options.check)
    renderer.event(failure)
    renderer.event(summary)
    return code


def _run(
    verb: str,
    options: Options,
    planned: Invocation,
    passwords: Mapping[str, str],
    renderer: render.Renderer,
    stop_file: Path | None = None,
    when_done: events.Event | None = None,
    at_end: Callable[[events.Summary], None] | None = None,
) -> int:
    tracker = Tracker(verb, time.monotonic(), options.check, bool(options.verbose), options.engine)
    run = Run(planned, passwords)
    inventory = [planned.argv[i + 1] for i, word in enumerate(planned.argv) if word == "--inventory"]
    interrupted_at: dict[str, str] | None = None
    kill_at = 0.0
    began, told_at_start = time.monotonic(), False
    gave_up = ""
    telling = Telling()

    def tell(event: events.Event) -> None:
        with telling():
            renderer.event(event)

    def note(text: str) -> None:
        with telling():
            renderer.note(text)

    # Closed whatever happens: else Ansible would go on alone.
    with caught_signals() as caught, contextlib.closing(iter(run)) as happening:
        tell(events.Start(verb, inventory, options.check))
        for raw in happening:
            now = time.monotonic()
            for event in tracker.tick(now) if raw is None else tracker.feed(raw, now):
                tell(event)
            with telling():
                renderer.tick(tracker, now)
            if tracker.ansible_pid is None and not caught:
                if not told_at_start and now - began > START_PATIENCE:
                    told_at_start = True
                    note("Ansible has not begun yet: it reads the inventory, or waits for an input unknown to dsdeploy")
                if now - began > START_LIMIT:
                    gave_up = f"Ansible did not begin within {START_LIMIT:.0f} s"
                    run.kill()
            if caught and stop_file and not stop_file.exists() and tracker.ansible_pid is not None:
                stop_file.touch()
                caught.clear()
                note("ending the work on the hosts and keeping its results (once more to stop Ansible) ...")
            if caught and interrupted_at is None:
                interrupted_at = tracker.positions()
                kill_at = now + (READING_GRACE if verb in events.READING else GRACE)
                note("stopping Ansible (once more to kill it) ...")
                run.interrupt(tracker.ansible_pid)
            elif interrupted_at is not None and (len(caught) > 1 or now > kill_at):
                run.kill(tracker.ansible_pid)
        code = int(ExitCode.FAILED)
        for event in tracker.finish(run.rc, time.monotonic(), interrupted_at, gave_up):
            if isinstance(event, events.Summary):
                code = event.exit_code
                if when_done and event.ok and not options.check:
                    tell(when_done)
                if at_end:
                    at_end(event)
            tell(event)
    if telling.error:
        raise telling.error
    return code


@contextlib.contextmanager
def caught_signals() -> Iterator[list[int]]:
    """Signals that ask to stop land in the list instead of ending the process."""
    caught: list[int] = []
    # `nohup` lets the terminal go; the run is to go on. Ctrl-C is ignored, too, in what a script starts in its
    # background, where somebody who sends it means it.
    asking = [number for number in _SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]

    def note(number: int, frame: FrameType | None) -> None:
        caught.append(number)

    before = {number: signal.signal(number, note) for number in asking}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
