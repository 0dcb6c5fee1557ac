"""Two runs on one host, and one that was killed: the real module and action, on this machine."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - dsdeploy.llm.host_lock:
        path: "{{ lock }}"
    - block:
        - ansible.builtin.file: {path: "{{ marker }}", state: touch, mode: "0600"}
        - ansible.builtin.wait_for: {path: "{{ go_on }}"}
        - ansible.builtin.fail: {msg: broken}
          when: broken is defined
      always:
        - dsdeploy.llm.host_lock:
            path: "{{ lock }}"
            state: released
"""


class Runs:
    def __init__(self, directory: Path) -> None:
        self.directory, self.count = directory, 0
        self.last: subprocess.Popen[str]
        (directory / "play.yml").write_text(PLAYBOOK)

    def start(self, *variables: str, wrapped: bool = False) -> subprocess.Popen[str]:
        self.count += 1
        paths = f"lock='{self.directory}/lock' go_on='{self.directory}/go-on' marker='{self.directory}/{self.count}'"
        python = f"ansible_python_interpreter='{sys.executable}'"
        command = [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "play.yml"]
        command += ["-e", python, "-e", paths, *variables]
        if wrapped:
            command = ["/bin/sh", "-c", '"$@"; exit $?', "sh", *command]
        self.last = subprocess.Popen(
            command,
            cwd=self.directory,
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return self.last

    def wait_until_it_holds_the_lock(self) -> None:
        deadline = time.monotonic() + 60
        while not (self.directory / str(self.count)).exists():
            assert self.last.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)

    def go_on(self) -> None:
        (self.directory / "go-on").touch()


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def test_a_second_run_is_told_who_works_there_and_works_once_it_is_free(runs: Runs) -> None:
    first = runs.start()
    runs.wait_until_it_holds_the_lock()
    second = runs.start()
    said = second.communicate(timeout=60)[0]
    assert second.returncode == 2
    who = f"{getpass.getuser()}@{os.uname().nodename}"
    assert f"another run works on this host: {who}, process {first.pid}, since 20" in said
    assert f"`kill -INT {first.pid}` ends" in said
    runs.go_on()
    assert first.wait(60) == 0
    third = runs.start()
    assert "changed=1 " in third.communicate(timeout=60)[0]  # the marker alone


def test_a_run_that_fails_gives_the_lock_back(runs: Runs) -> None:
    runs.go_on()
    assert runs.start("-e", "broken=1").wait(60) == 2
    assert not (runs.directory / "lock").exists()


def test_the_lock_of_a_killed_run_is_taken_over(runs: Runs) -> None:
    first = runs.start()
    runs.wait_until_it_holds_the_lock()
    first.kill()
    first.communicate(timeout=60)
    assert (runs.directory / "lock").read_text() != ""
    runs.go_on()
    assert runs.start().wait(60) == 0


def test_what_a_killed_command_has_started_is_waited_for(runs: Runs) -> None:
    """It goes on for a moment after its command was killed, and holds the lock."""
    first = runs.start(wrapped=True)
    runs.wait_until_it_holds_the_lock()
    holder = json.loads((runs.directory / "lock").read_text())
    first.kill()  # the command alone
    first.wait(60)
    runs.go_on()
    os.kill(holder["pid"], signal.SIGSTOP)
    second = runs.start()
    time.sleep(4)
    os.kill(holder["pid"], signal.SIGKILL)
    assert second.communicate(timeout=60)[0].count("failed=0") == 1
    assert second.returncode == 0


# Stand-in for ssh: runs on this machine what it is to run on the host.
SSH = """#!/bin/sh
for last; do :; done
case "$*" in *-O*check*|*-O*exit*) exit 0;; esac
exec sh -c "$last"
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_lock_of_a_killed_run_goes_from_a_host_elsewhere(runs: Runs, number: signal.Signals) -> None:
    """Whoever comes next may come from another machine, where it cannot be known that the run is dead."""
    ssh = runs.directory / "ssh"
    ssh.write_text(SSH)
    ssh.chmod(0o755)
    (runs.directory / "play.yml").write_text(PLAYBOOK.replace("connection: local", "connection: ssh"))
    first = runs.start("-e", f"ansible_ssh_executable='{ssh}'")
    runs.wait_until_it_holds_the_lock()
    assert (runs.directory / "lock").read_text()
    first.send_signal(number)
    # Nothing keeps its output open.
    first.communicate(timeout=60)
    deadline = time.monotonic() + 60
    while (runs.directory / "lock").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def watchers(run: subprocess.Popen[str]) -> list[int]:
    """Processes that were forked off by this run and outlive it: they have its command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            pid = int(path.parent.name)
            if str(run.args) == str([word.decode() for word in path.read_bytes().split(b"\0")[:-1]]) and pid != run.pid:
                found.append(pid)
    return found


def test_a_run_that_gave_its_lock_back_leaves_nobody_to_do_so_again(runs: Runs) -> None:
    """It would send the module to the host once more, after the run."""
    ssh = runs.directory / "ssh"
    ssh.write_text(SSH)
    ssh.chmod(0o755)
    report = """        - dsdeploy.llm.deployment_report:
            path: /nonexistent
            lock: "{{ lock }}"
"""
    elsewhere = PLAYBOOK.replace("connection: local", "connection: ssh")
    (runs.directory / "play.yml").write_text(elsewhere.replace("      always:\n", report + "      always:\n"))
    run = runs.start("-e", f"ansible_ssh_executable='{ssh}'")
    runs.wait_until_it_holds_the_lock()
    assert len(watchers(run)) >= 1
    runs.go_on()
    said = run.communicate(timeout=60)[0]
    assert run.returncode == 0, said
    assert not (runs.directory / "lock").exists()
    assert watchers(run) == []


def test_the_lock_and_the_facts_are_one_process(runs: Runs) -> None:
    facts = PLAYBOOK.replace(
        '        path: "{{ lock }}"\n    - block', '        path: "{{ lock }}"\n        facts: true\n    - block'
    )
    assert facts != PLAYBOOK
    show = '    - block:\n        - ansible.builtin.debug: {msg: "it is {{ ansible_facts.os_family | length > 0 }}"}\n'
    (runs.directory / "play.yml").write_text(facts.replace("    - block:\n", show))
    first = runs.start()
    runs.wait_until_it_holds_the_lock()
    assert (runs.directory / "lock").read_text()
    second = runs.start("-vvv")
    said = second.communicate(timeout=60)[0]
    assert "another run works on this host" in said and "it is True" not in said
    assert said.count("Using module file ") == 1
    runs.go_on()
    assert "it is True" in first.communicate(timeout=60)[0]


def test_check_mode_needs_no_lock(runs: Runs) -> None:
    first = runs.start()
    runs.wait_until_it_holds_the_lock()
    runs.go_on()
    assert runs.start("--check").wait(60) == 0
    assert first.wait(60) == 0
