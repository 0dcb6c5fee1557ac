"""What a run puts on disk, and what is left of one that was killed."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dsdeploy import runner


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
