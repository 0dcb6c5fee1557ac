"""What a run puts on disk, and what is left of one that was killed."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dsdeploy import runner, session


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def made(parent: Path, name: str) -> Path:
    directory = parent / f"dsdeploy-{name}"
    directory.mkdir(mode=0o700)
    os.close(runner._locked(str(directory)))
    (directory / "extra_vars.json").write_text("secret")
    return directory


def test_what_a_killed_run_left_is_removed_and_nothing_else(temporary: Path) -> None:
    stale = made(temporary, "stale")
    unlocked = temporary / "dsdeploy-of-something-else"
    unlocked.mkdir()
    target = temporary / "target"
    target.mkdir()
    (target / "lock").touch()
    (temporary / "dsdeploy-link").symlink_to(target)
    program = (
        "import sys, tempfile; from dsdeploy import runner; d = tempfile.mkdtemp(prefix='dsdeploy-', dir=sys.argv[1]); "
        "runner._locked(d); print(d, flush=True); sys.stdin.read()"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", program, str(temporary)],
        env={**os.environ, "PYTHONPATH": str(Path(runner.__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout
    alive = Path(running.stdout.readline().strip())
    runner.remove_stale()
    assert not stale.exists()
    assert alive.exists() and unlocked.exists() and target.exists()
    running.send_signal(signal.SIGKILL)
    running.wait()
    runner.remove_stale()
    assert not alive.exists()


def test_the_lock_is_held_before_it_has_its_name(temporary: Path) -> None:
    directory = temporary / "dsdeploy-x"
    directory.mkdir()
    held = runner._locked(str(directory))
    assert [file.name for file in directory.iterdir()] == ["lock"]
    assert (directory / "lock").stat().st_mode & 0o777 == 0o600
    other = os.open(directory / "lock", os.O_WRONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(held)
    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)


def test_one_that_is_killed_before_ansible_was_started_ends_at_once_and_starts_nothing(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine the import of ansible-runner takes seconds."""
    imported, began = threading.Event(), []

    def slow(run: runner.Run, _directory: str) -> None:
        imported.wait(60)
        began.append(run._begin())

    monkeypatch.setattr(runner.Run, "_run", slow)
    invocation: Any = None
    run = runner.Run(invocation, {})
    since = time.monotonic()
    for _event in run:
        run.interrupt(None)
    assert time.monotonic() - since < 30  # of 60
    assert (run.rc, began, list(temporary.iterdir())) == (None, [], [])
    imported.set()
    for thread in threading.enumerate():
        if thread.name == "ansible-runner":
            thread.join(10)
    assert began == [False]


def test_one_that_began_is_waited_for(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    def begun(run: runner.Run, _directory: str) -> None:
        assert run._begin()
        while not run._kill.is_set():
            time.sleep(0.01)
        ended.append(True)

    monkeypatch.setattr(runner.Run, "_run", begun)
    invocation: Any = None
    run = runner.Run(invocation, {})
    for _event in run:
        run.kill()
    assert ended == [True]


def test_the_process_of_a_run_that_began_is_killed_at_once() -> None:
    invocation: Any = None
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        runner.Run(invocation, {}).kill(process.pid)
        assert process.wait(60) == -signal.SIGKILL
    runner.Run(invocation, {}).kill(process.pid)  # gone already


@pytest.mark.parametrize(("ignored", "heard"), [(True, [signal.SIGINT]), (False, [signal.SIGHUP, signal.SIGINT])])
def test_with_nohup_a_terminal_that_is_closed_stops_nothing(ignored: bool, heard: list[int]) -> None:
    """A script's background job has Ctrl-C ignored, too; who sends it there means it."""
    before = [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGINT)]
    try:
        if not ignored:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with session.caught_signals() as caught:
            for number in (signal.SIGHUP, signal.SIGINT):
                signal.raise_signal(number)
        assert caught == heard
        assert signal.getsignal(signal.SIGHUP) == (signal.SIG_IGN if ignored else signal.SIG_DFL)
    finally:
        for number, handler in zip((signal.SIGHUP, signal.SIGINT), before, strict=True):
            signal.signal(number, handler)
