"""`status --watch` as a user runs it: this checkout, Ansible, and the module on this machine over connection local."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pexpect
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs" / "status.schema.json").read_text(encoding="utf-8"))
COMMAND = [sys.executable, "-m", "dsdeploy", "status", "--watch", "--interval", "0.5"]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    path = {"PYTHONPATH": str(ROOT / "python"), "TMPDIR": str(tmp_path), "WATCHED_BY": str(tmp_path)}
    return {**kept, **path, "TERM": "xterm", "LC_ALL": "C.UTF-8"}


@pytest.fixture
def inventory(tmp_path: Path) -> str:
    (tmp_path / "hosts.yml").write_text(
        "all:\n  vars: {ansible_become: false}\n  hosts:\n"
        f"    here: {{ansible_connection: local, ansible_python_interpreter: {sys.executable}}}\n"
        "    away: {ansible_host: 127.0.0.1, ansible_port: 1, ansible_python_interpreter: /usr/bin/python3}\n"
    )
    return str(tmp_path / "hosts.yml")


def left_of(tmp_path: Path) -> list[int]:
    """Processes that this watch has started, wherever they are: they have its environment."""
    mark = f"WATCHED_BY={tmp_path}\0".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes() + b"\0" and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def wait_for_the_last(tmp_path: Path) -> None:
    deadline = time.monotonic() + 60
    while left := left_of(tmp_path):
        assert time.monotonic() < deadline, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left]
        time.sleep(0.1)


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    wait_for_the_last(tmp_path)
    assert not list(tmp_path.glob("dsdeploy-*"))


def test_json_lines_of_a_host_and_of_one_that_is_away(environ: dict[str, str], inventory: str, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--json", "-i", inventory], env=environ, cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    seen: dict[str, list[dict[str, Any]]] = {"here": [], "away": []}
    for line in process.stdout:
        message = json.loads(line)
        jsonschema.validate(message, SCHEMA)
        seen[message["host"]].append(message)
        if len([message for message in seen["here"] if "look" in message]) > 3 and len(seen["away"]) > 1:
            break
    assert "cannot be reached" in seen["away"][-1]["problem"]
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert "Traceback" not in process.stdout.read()


def test_lines_without_a_terminal_end_with_their_reader(
    environ: dict[str, str], inventory: str, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [*COMMAND, "-i", inventory, "--limit", "here"],
        env=environ, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout and process.stderr
    assert process.stderr.readline() == "starting Ansible ... 0 s\n"
    assert process.stderr.readline() == "connecting to host here ...\n"
    line = process.stdout.readline()
    while not re.match(r"\d\d:\d\d:\d\d here: ", line):
        line = process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 0


def test_a_screen_that_follows_its_terminal_and_ends_with_q(
    environ: dict[str, str], inventory: str, tmp_path: Path
) -> None:
    child = pexpect.spawn(
        COMMAND[0], [*COMMAND[1:], "-i", inventory], env={**environ, "NO_COLOR": "1"}, dimensions=(24, 80), timeout=60,
        cwd=str(tmp_path), encoding="utf-8",
    )  # fmt: skip
    child.expect_exact("\x1b[?1049h")
    child.expect_exact("starting Ansible ... ")
    child.expect("here +connecting to host ... ")
    child.expect(r"here  load [\d.]+ of \d+  memory ")
    child.expect("away  cannot be reached")
    child.setwinsize(2, 30)
    child.expect_exact("\x1b[2J")
    child.expect("HOST  ")
    assert not re.search(r"\x1b\[\d+m", child.before)  # no colour
    child.send("q")
    child.expect_exact("\x1b[?1049l")
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 0


def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again(
    environ: dict[str, str], inventory: str, tmp_path: Path
) -> None:
    child = pexpect.spawn(
        COMMAND[0], [*COMMAND[1:], "-i", inventory, "--limit", "here"], env=environ, dimensions=(24, 80), timeout=60,
        cwd=str(tmp_path), encoding="utf-8",
    )  # fmt: skip
    child.expect(r"load [\d.]+ of \d+  memory ")
    child.sendcontrol("z")
    child.expect_exact("\x1b[?1049l")
    deadline = time.monotonic() + 60
    while Path(f"/proc/{child.pid}/stat").read_text().rpartition(") ")[2][0] != "T":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.kill(signal.SIGCONT)
    child.expect_exact("\x1b[?1049h")
    child.expect(r"load [\d.]+ of \d+  memory ")
    child.send("q")
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 0


def test_a_terminal_that_is_closed_ends_it(environ: dict[str, str], inventory: str, tmp_path: Path) -> None:
    child = pexpect.spawn(
        COMMAND[0], [*COMMAND[1:], "-i", inventory, "--limit", "here"], env=environ, dimensions=(24, 80), timeout=60,
        cwd=str(tmp_path), encoding="utf-8",
    )  # fmt: skip
    child.expect(r"load [\d.]+ of \d+  memory ")
    os.close(child.child_fd)  # as a terminal window that is closed; what follows is checked by nothing_is_left()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_nothing_is_left_of_a_command_that_is_killed(
    environ: dict[str, str], inventory: str, tmp_path: Path, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--json", "-i", inventory, "--limit", "here"],
        env=environ, cwd=tmp_path, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    while "look" not in json.loads(process.stdout.readline()):
        pass
    assert len(left_of(tmp_path)) > 2
    process.send_signal(number)
    assert process.wait(60) == (-number if number == signal.SIGKILL else 0)
    if number == signal.SIGKILL:
        wait_for_the_last(tmp_path)  # Ansible writes its artifacts until it sees that its parent is gone
        assert list(tmp_path.glob("dsdeploy-*"))  # the next run's to remove, all of it
        subprocess.run([*COMMAND, "-i", "h,", "--limit", "nobody"], env=environ, cwd=tmp_path, capture_output=True)


def test_a_long_directory_for_temporary_files_is_no_matter(
    environ: dict[str, str], inventory: str, tmp_path: Path
) -> None:
    """A socket's path has 107 bytes at most; the TMPDIR of a batch system can have more."""
    long = tmp_path / ("x" * 120)
    long.mkdir()
    process = subprocess.Popen(
        [*COMMAND, "--json", "-i", inventory, "--limit", "here:hre"],
        env={**environ, "TMPDIR": str(long)}, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout and process.stderr
    assert "look" in json.loads(process.stdout.readline() or process.stderr.read())
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert not list(long.glob("dsdeploy-*"))
    assert "warning: the inventory has no host or group hre: it is left out\n" in process.stderr.read()


def test_json_that_ansible_ends_has_a_summary_at_last(environ: dict[str, str], inventory: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--json", "-i", inventory, "--limit", "nobody"],
        env=environ, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    failure, summary = [json.loads(line) for line in done.stdout.splitlines()]
    assert (failure["event"], failure["kind"]) == ("failure", "usage")
    assert (summary["event"], summary["verb"], summary["exit_code"], done.returncode) == ("summary", "status", 2, 2)


def test_a_wrong_inventory_is_a_usage_error(environ: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, "-i", "nowhere"], env=environ, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "no such file" in done.stderr
