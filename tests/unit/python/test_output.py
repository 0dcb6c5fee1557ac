"""What becomes of a run whose words nobody reads any more, or that cannot be written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dsdeploy import output, session
from dsdeploy.cli.bench import _row
from dsdeploy.invocation import Invocation, Options
from dsdeploy.render.ndjson import JsonRenderer
from dsdeploy.render.plain import PlainRenderer
from dsdeploy.tracker import json_line, one_line, plain_text

STATS = {"ok": {"h": 1}, "changed": {}, "failures": {"h": 1}, "dark": {}, "skipped": {}, "rescued": {}, "ignored": {},
         "processed": {"h": 1}}  # fmt: skip
EVENTS: list[dict[str, Any] | None] = [
    None,
    {"event": "runner_on_failed", "pid": 1, "event_data": {"host": "h", "task": "a | b", "res": {"msg": "why"}}},
    {"event": "playbook_on_stats", "event_data": STATS},
    None,
]


class Ran:
    """Stand-in for a run of Ansible: `closed` once it was brought to its end."""

    def __init__(self, *_arguments: Any) -> None:
        self.rc, self.seen, self.closed = 2, 0, False

    def __iter__(self) -> Iterator[dict[str, Any] | None]:
        try:
            for event in EVENTS:
                self.seen += 1
                yield event
        finally:
            self.closed = True


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Ran:
    made = Ran()
    monkeypatch.setattr(session, "Run", lambda *_arguments: made)
    # What drop_unwritable() puts in their place is closed with the test.
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    return made


class Broken:
    """A stream that takes nothing."""

    def __init__(self, number: int) -> None:
        self.number = number

    def write(self, _text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))

    def flush(self) -> None:
        raise OSError(self.number, os.strerror(self.number))


def go(renderer: Any) -> int:
    planned = Invocation(playbook=Path("p"), argv=(), extra_vars={}, environment={}, prompts=())
    return session._run("up", Options(), planned, {}, renderer)


@pytest.mark.parametrize("renderer", [PlainRenderer, JsonRenderer])
@pytest.mark.parametrize("number", output.UNREAD)
@pytest.mark.parametrize("names", [("stdout",), ("stderr",), ("stdout", "stderr")])
def test_a_run_that_nobody_reads_goes_on_to_its_end(
    ran: Ran, monkeypatch: pytest.MonkeyPatch, renderer: Any, number: int, names: tuple[str, ...]
) -> None:
    for name in names:
        monkeypatch.setattr(sys, name, Broken(number))
    assert go(renderer()) == 1
    assert ran.seen == len(EVENTS) and ran.closed


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_run_whose_output_fills_a_disk_ends_first_and_then_says_so(
    ran: Ran, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(sys, name, Broken(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        go(PlainRenderer())
    assert ran.seen == len(EVENTS) and ran.closed


def test_a_fault_of_the_command_itself_leaves_no_ansible_behind(ran: Ran) -> None:
    class Faulty(PlainRenderer):
        def tick(self, *_arguments: Any) -> None:
            raise RuntimeError("a fault")

    with pytest.raises(RuntimeError):
        go(Faulty())
    assert ran.closed


def test_what_failed_is_told_though_nobody_reads_the_result(
    ran: Ran, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", Broken(errno.EPIPE))
    go(PlainRenderer())
    assert "FAILED  h: preflight: b" in capsys.readouterr().err


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_streams_that_are_closed_are_no_fault(closed: tuple[int, ...], tmp_path: Path) -> None:
    """As `dsdeploy bench list >&-` starts it."""
    program = "import sys; sys.argv = ['dsdeploy', '--help']; from dsdeploy.cli import main; main()"
    script = " ".join(f"{number}>&-" for number in closed)
    done = subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" {script}', sys.executable, program],
        env={**os.environ, "PYTHONPATH": str(Path(output.__file__).parents[1])},
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert ("Commands:" in done.stdout) == (1 not in closed)


def test_a_closed_stream_is_not_taken_by_the_next_file(tmp_path: Path) -> None:
    program = (
        "import os, sys; from dsdeploy import output; output.replace_missing(); "
        "opened = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY); null = os.stat(os.devnull).st_rdev; "
        "print(opened > 2 and os.fstat(1).st_rdev == null, file=sys.stderr)"
    )
    done = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" "$2" >&- <&-', sys.executable, program, str(tmp_path / "x")],
        env={**os.environ, "PYTHONPATH": str(Path(output.__file__).parents[1])}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stderr == "True\n"


HOSTILE = "a\nb\x1b[2J\x9b31m\u202ec\u2066d\u2069 \ud83d"


def test_a_hostile_name_is_one_line_that_steers_nothing() -> None:
    assert one_line(HOSTILE) == "a b31mcd \ud83d"
    assert plain_text("\u202eevil") == "evil"
    row = {"taken": "t", "host": HOSTILE, "engine": "e\n", "model": "m" * 5000, "profile": "quick",
           "best_tokens_s": None, "interrupted": False, "path": "/x"}  # fmt: skip
    about, path = _row(row).splitlines()
    assert path == "  /x" and len(about) < 400 and not set(about) & {"\x1b", "\x9b", "\u202e"}
    assert _row({"path": "/x", "problem": "/x\n\x1b[2J: not"}) == "/x : not"
    line = json_line({"name": HOSTILE})
    assert json.loads(line) == {"name": HOSTILE} and not set(line) & set("\n\x1b\x9b\u202e\u2066\ud83d")


def test_an_error_other_than_of_writing_is_one() -> None:
    with pytest.raises(OSError, match="Permission"), output.Telling()():
        raise PermissionError(errno.EACCES, "Permission denied")
