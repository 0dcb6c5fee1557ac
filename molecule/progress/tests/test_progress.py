"""The progress channel under trouble: a stopped controller, a killed job, a lost connection, a restarted host."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

SCENARIO = Path(__file__).parents[1]
REPO = SCENARIO.parents[1]
EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
JOBS = "/root/.ansible_async"


class Play:
    """A play of one slow job, running; its output by line with the time it came."""

    def __init__(self, directory, task, **environment):
        playbook = directory / "play.yml"
        playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "become": True, "tasks": [task]}]))
        self.process = subprocess.Popen(
            ["ansible-playbook", "-i", EPHEMERAL / "inventory", playbook, "-vv"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(EPHEMERAL / "ansible.cfg"),
                "ANSIBLE_COLLECTIONS_PATH": str(REPO / ".collections"),
                "ANSIBLE_LIBRARY": str(SCENARIO / "library"),
                "ANSIBLE_ACTION_PLUGINS": str(SCENARIO / "action_plugins"),
                "PYTHONUNBUFFERED": "1",
                **environment,
            },
        )
        self.lines = []
        self.started = threading.Event()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), line))
            if line.startswith("DSDEPLOY_PROGRESS") and '"done":0' not in line:
                self.started.set()

    def end(self):
        """(exit status, all output)"""
        try:
            code = self.process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.reader.join()
        return code, "".join(line for _when, line in self.lines)

    def reports(self):
        prefix = "DSDEPLOY_PROGRESS "
        return [(when, json.loads(line[len(prefix) :])) for when, line in self.lines if line.startswith(prefix)]


def job(seconds, **more):
    return {"name": "Count", "slow_job": {"seconds": seconds, **more}}


@pytest.fixture
def play(tmp_path, host):
    host.run("sudo rm -rf /root/mark %s", JOBS)

    def start(task, **environment):
        return Play(tmp_path, task, **environment)

    return start


def left(host):
    return host.run("sudo ls %s", JOBS).stdout.split()


def test_json_lines(play, host):
    run = play(job(4), DSDEPLOY_PROGRESS="json")
    code, output = run.end()
    assert code == 0, output
    reports = run.reports()
    assert 3 <= len(reports) <= 7
    last = reports[-1][1]
    assert list(last) == ["host", "task", "what", "done", "total", "unit", "rate", "eta_s"]
    assert (last["host"], last["task"], last["what"], last["total"], last["unit"]) == (
        "progress", "Count", "count", 40000, "B",
    )  # fmt: skip
    # 10000 a second on an idle machine.
    assert 4000 < last["rate"] < 11000 and last["done"] >= 20000 and last["eta_s"] <= 4
    done = [report["done"] for _when, report in reports]
    assert done == sorted(set(done))
    assert left(host) == []


def test_lines_for_a_person(play):
    code, output = play(job(23)).end()
    assert code == 0, output
    lines = re.findall(r"^progress: count .*$", output, re.MULTILINE)
    assert len(lines) == 2
    assert re.fullmatch(r"progress: count \d+\.\d/230\.0 kB, [\d.]+ kB/s, ETA \d+ s", lines[0])


def test_no_log_shows_nothing(play):
    run = play({**job(2, secret="hunter2"), "no_log": True}, DSDEPLOY_PROGRESS="json")
    code, output = run.end()
    assert code == 0 and not run.reports() and "hunter2" not in output


def test_a_stopped_controller_leaves_the_job_to_its_end(play, host):
    run = play(job(8, mark="/root/mark"), DSDEPLOY_PROGRESS="json")
    assert run.started.wait(60)
    # Not in the instant of a line: ansible-core deadlocks where it ends a worker that is about to display something.
    time.sleep(0.5)
    run.process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    code, output = run.end()
    assert code != 0 and time.monotonic() - asked < 5
    assert host.run("sudo test -e /root/mark").rc == 1
    time.sleep(9)
    assert host.run("sudo test -e /root/mark").rc == 0
    assert not [name for name in left(host) if "progress" in name]


def test_a_killed_job_is_a_failure_with_a_reason(play, host):
    run = play(job(30), DSDEPLOY_PROGRESS="json")
    assert run.started.wait(60)
    assert host.run('sudo sh -c \'kill -9 $(sed "s/.*pid\\": //; s/}//" %s/*.progress)\'', JOBS).rc == 0
    code, output = run.end()
    assert code == 2 and "the module was killed on progress before it could report" in output
    assert left(host) == []


def test_a_lost_connection_is_taken_up_again(play, host):
    run = play(job(20), DSDEPLOY_PROGRESS="json")
    assert run.started.wait(60)
    cut = "sleep 1; systemctl stop ssh; pkill -9 -x sshd; sleep 6; systemctl start ssh"
    assert host.run(f"sudo systemd-run --quiet sh -c '{cut}'").rc == 0
    code, output = run.end()
    assert code == 0, output
    assert "a poll failed, trying again" in output
    assert left(host) == []


def test_a_restarted_host_is_a_failure_with_a_reason(play, host):
    run = play(job(60), DSDEPLOY_PROGRESS="json")
    assert run.started.wait(60)
    subprocess.run([REPO / "tests" / "hosts" / "testhost", "restart", "progress"], check=True, capture_output=True)
    code, output = run.end()
    assert code == 2 and "the job on progress ended without a result" in output
    assert left(host) == []
