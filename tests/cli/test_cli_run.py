"""Real runs of ansible-runner on this machine, over playbooks and modules of the tests (fixtures/checkout)."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pexpect
import pytest
from processes import gone, lives


def lines_of(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_up_tells_stages_changes_and_the_summary(dsdeploy: Any) -> None:
    done = dsdeploy("up")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "here: deployed, answers",
        "  endpoint  http://127.0.0.1:8080",
        "  model     SmolLM2-135M-Instruct",
        "  engine    llama_cpp 1.2.3",
        "  answer    the answer to default?",
        "  speed     41.2 tokens/s, first token after 0.50 s",
        "  changed   3",
        "    install    Write the configuration",
        "               Keep a secret",
        "    verify     Restart the engine",
    ]
    told = [" ".join(line.split()) for line in done.stderr.splitlines()]
    # A line a stage, with what it did.
    assert told[0].startswith("dsdeploy up: inventory ")
    # On a busy machine one that takes its time is told meanwhile, too.
    stages = [re.sub(r" \d+ s ", ": ", line) for line in told[1:] if not line.endswith(" ...")]
    assert stages == [
        "preflight: nothing to change",
        "install: Write the configuration; Keep a secret",
        "service: nothing to change",
        "verify: Restart the engine",
    ]
    assert "\x1b" not in done.stdout + done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_up_as_json(dsdeploy: Any) -> None:
    done = dsdeploy("up", "--json", "-i", "two")
    lines = lines_of(done)
    assert lines[0]["event"] == "start"
    summary = lines[-1]
    assert summary["event"] == "summary"
    assert (summary["ok"], summary["exit_code"], summary["ansible_rc"], done.returncode) == (True, 0, 0, 0)
    assert set(summary["hosts"]) == {"one", "two"}
    for host in summary["hosts"].values():
        assert (host["status"], host["changed"], host["failed"]) == ("ok", 3, 0)
        assert host["deployments"][0]["endpoint"] == "http://127.0.0.1:8080"
        assert host["answers"][0]["tokens_per_s"] == 41.25
    assert {"stage", "task", "answer", "deployment"} <= {line["event"] for line in lines}
    assert "hunter2" not in done.stdout


def test_ignored_and_rescued_failures_are_none(dsdeploy: Any) -> None:
    done = dsdeploy("up", "--json", "-e", "rescue=1")
    statuses = [line["status"] for line in lines_of(done) if line["event"] == "task"]
    assert {"failed", "ignored"} <= set(statuses)
    assert (done.returncode, lines_of(done)[-1]["failures"]) == (0, [])


def test_failure_of_a_module(dsdeploy: Any) -> None:
    result = {"msg": "made to fail", "hint": "Do this.", "error_kind": "verify", "log_tail": ["last line"]}
    done = dsdeploy("up", "-e", json.dumps({"fail": result}))
    assert done.returncode == 3
    block = done.stderr[done.stderr.index("FAILED") :].splitlines()
    assert block == [
        "FAILED  here: preflight: Refuse what the test asks to refuse",
        "  made to fail",
        "  the log ends with:",
        "  | last line",
        "  next: Do this.",
    ]


def test_failing_items_of_a_loop(dsdeploy: Any) -> None:
    commands = ["true", "false", 'sh -c "echo oops >&2; exit 3"']
    done = dsdeploy("up", "--json", "-e", json.dumps({"commands": commands}))
    failure = lines_of(done)[-1]["failures"][0]
    assert "false ended with exit status 1" in failure["msg"]
    assert "sh ended with exit status 3" in failure["msg"]
    assert failure["log_tail"] == ["oops"]
    assert done.returncode == 1


def test_unknown_engine_is_usage_and_suggests(dsdeploy: Any) -> None:
    done = dsdeploy("up", "--engine", "lama_cpp")
    assert done.returncode == 2
    assert "dsdeploy_engine: unknown value 'lama_cpp' (did you mean llama_cpp?" in done.stderr


def test_unreachable_host(dsdeploy: Any) -> None:
    done = dsdeploy("status", "-i", "127.0.0.1,", "-e", "ansible_port=1")
    assert done.returncode == 4
    assert "Connection refused" in done.stderr or "OpenSSH client" in done.stderr
    assert "next: " in done.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [("all: [broken\n", "inventory source"), ("all:\n  hosts: {}\n", "no host")],
)
def test_inventory_without_hosts_or_broken(dsdeploy: Any, tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "hosts.yml").write_text(content)
    done = dsdeploy("up", "-i", str(tmp_path / "hosts.yml"))
    assert done.returncode == 2
    assert said in done.stderr


def test_limit_that_matches_nothing(dsdeploy: Any) -> None:
    done = dsdeploy("up", "--limit", "nobody")
    assert done.returncode == 2
    assert "no hosts" in done.stderr


def test_python_that_the_host_lacks(dsdeploy: Any) -> None:
    done = dsdeploy("status", "-e", "ansible_python_interpreter=/usr/bin/nopython")
    assert done.returncode == 1
    assert "Install python3 on the host" in done.stderr


def test_sudo_that_the_host_lacks(dsdeploy: Any) -> None:
    # As ansible-core does it, with a path where no sudo is.
    done = dsdeploy(
        "status", "--become", "-e", "ansible_become_exe=/nonexistent/sudo", "-e", "ansible_become_user=daemon"
    )
    assert done.returncode == 1
    assert "Install sudo on the host" in done.stderr


def test_nothing_in_the_working_directory_is_run(environ: dict[str, str], tmp_path: Path) -> None:
    """Anybody may write into /tmp, where somebody may run the command."""
    here, seen = tmp_path / "here", tmp_path / "seen"
    here.mkdir()
    trap = f"open({str(seen)!r}, 'a').write(__name__ + ' ')\n"
    for name in ("json", "ansible", "dsdeploy", "yaml", "sitecustomize"):
        (here / f"{name}.py").write_text(trap)
    start = "import sys; del sys.path[0]; from dsdeploy.cli import main; sys.exit(main())"
    argv = [sys.executable, "-c", start, "status"]
    done = subprocess.run(argv, cwd=here, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert not seen.exists(), seen.read_text()
    assert done.returncode == 0, done.stdout + done.stderr


def test_status_not_ready_and_nothing_deployed(dsdeploy: Any) -> None:
    done = dsdeploy("status", "-e", "ready=false")
    assert done.returncode == 3
    assert done.stdout.endswith("running, not ready\nhere: llama_cpp: no answer\n")
    done = dsdeploy("status", "-e", "deployed=false")
    assert (done.returncode, done.stdout) == (0, "here: nothing is deployed here\n")


def test_ask_prints_the_answer_alone(dsdeploy: Any) -> None:
    question = 'what is "木" + {{ 1 }} = $HOME {% raw 😀?'
    done = dsdeploy("ask", question, "--expect", "{{ 1 }}")
    assert (done.returncode, done.stdout) == (0, f"the answer to {question}\n")
    assert "as expected (41.2 tokens/s" in done.stderr
    assert dsdeploy("ask", "q", "--reasoning").stdout == "let me think\n\nthe answer to q\n"


def test_ask_says_what_was_not_expected_and_what_was_cut(dsdeploy: Any) -> None:
    done = dsdeploy("ask", "q", "--max-tokens", "3")
    assert (done.returncode, done.stdout) == (0, "the answer to q\n")
    assert "as expected" not in done.stderr
    assert "ended by the limit of tokens, --max-tokens raises it" in done.stderr


def test_ask_with_another_answer_than_expected(dsdeploy: Any) -> None:
    done = dsdeploy("ask", "q", "--expect", "xyz")
    assert done.returncode == 3
    assert "does not hold what was expected" in done.stderr


def test_ask_without_a_deployment(dsdeploy: Any) -> None:
    done = dsdeploy("ask", "-e", "deployed=false")
    assert done.returncode == 1
    assert "dsdeploy up" in done.stderr


def test_a_new_key_is_told_once_and_before_the_summary(dsdeploy: Any) -> None:
    done = dsdeploy("key", "add", "us", "--json")
    *_way, key, summary = [json.loads(line) for line in done.stdout.splitlines()]
    assert (summary["event"], summary["verb"], summary["exit_code"], done.returncode) == ("summary", "key add", 0, 0)
    assert sorted(key) == ["event", "key", "name"] and (key["event"], key["name"]) == ("key", "us")
    assert key["key"].startswith("sk-dsdeploy-") and done.stdout.count(key["key"]) == 1
    assert '"event": "key"' not in dsdeploy("key", "add", "us", "--json", "--check").stdout
    assert re.fullmatch(r"sk-dsdeploy-\S+\n", dsdeploy("key", "add", "us").stdout)


def test_logs(dsdeploy: Any) -> None:
    assert dsdeploy("logs", "-n", "3").stdout == "line 0\nline 1\nline 2\n"


def test_down_removes_only_what_is_asked(dsdeploy: Any) -> None:
    assert "purge=False models=" in dsdeploy("down", "-v").stderr
    done = dsdeploy("down", "--purge", "--purge-model", "a", "--purge-model", "b", "-v")
    assert "purge=True models=a,b" in done.stderr
    assert done.stdout == "here: down\n  changed   1\n    down       Stop\n"


def test_locale_that_ansible_refuses(dsdeploy: Any, environ: dict[str, str]) -> None:
    environ.update(LC_ALL="xx_XX.ISO-8859-1")
    assert dsdeploy("status").returncode == 0


def test_reader_that_goes_away_stops_nothing(environ: dict[str, str], tmp_path: Path) -> None:
    command = f"{sys.executable} -m dsdeploy up --json | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], env=environ, cwd=tmp_path, capture_output=True, text=True)
    assert json.loads(done.stdout)["event"] == "start"
    assert (done.returncode, done.stderr) == (0, "")


class Slow:
    """`up` in a task that lasts a minute."""

    def __init__(
        self, environ: dict[str, str], tmp_path: Path, *args: str, at_first: signal.Handlers = signal.SIG_DFL
    ) -> None:
        pid_file = tmp_path / "module.pid"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dsdeploy", "up", *args, "-e", f"slow=60 slow_pid_file='{pid_file}'"],
            env=environ,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, at_first),
        )
        deadline = time.monotonic() + 60
        # It is there before its content is, and /proc alone would never end.
        while not (pid_file.exists() and pid_file.read_text()):
            assert self.process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        self.module = pid_file.read_text()

    def stop(self, number: signal.Signals) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        gone(self.module, 30)
        return self.process.returncode, out, err


def running(tmp_path: Path) -> list[str]:
    """Command lines of the processes that this test has started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return [command for command in found if str(tmp_path) in command]


# Ignored: as a script has it that starts a run in its background.
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("interrupt", [signal.SIG_DFL, signal.SIG_IGN])
def test_stopped_by_a_signal(
    environ: dict[str, str], tmp_path: Path, number: signal.Signals, interrupt: signal.Handlers
) -> None:
    slow = Slow(environ, tmp_path, at_first=interrupt)
    assert lives(slow.module)
    code, out, err = slow.stop(number)
    assert code == 130
    assert not lives(slow.module)  # the task itself has ended too
    assert "stopped: here was in install: Take long" in err
    assert "Run `dsdeploy up` again: it goes on from there." in err
    assert "  changed   2\n" in out
    assert not list(tmp_path.glob("dsdeploy-*"))


def test_stopped_before_ansible_has_begun_it_does_not_begin(environ: dict[str, str], tmp_path: Path) -> None:
    """A word that one takes back at once, while the inventory is read: it went on to the end of its play."""
    reading, source, begun = tmp_path / "reading", tmp_path / "source", tmp_path / "begun"
    found = {"here": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}
    hosts = json.dumps({"all": {"hosts": ["here"]}, "_meta": {"hostvars": found}})
    source.write_text(f"#!/bin/sh\necho $$ >'{reading}'\nsleep 2\necho '{hosts}'\n")
    source.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-m", "dsdeploy", "up", "-i", str(source), "-e", f"slow=60 slow_pid_file='{begun}'"],
        env=environ,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (reading.exists() and reading.read_text()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "stopped before anything was done on a host"
    assert not begun.exists() and "Write the configuration" not in out + err
    assert not running(tmp_path)


def test_killed_it_takes_ansible_with_it(environ: dict[str, str], tmp_path: Path) -> None:
    slow = Slow(environ, tmp_path)
    assert running(tmp_path)
    code, _out, _err = slow.stop(signal.SIGKILL)
    assert code == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while running(tmp_path) or lives(slow.module):
        assert time.monotonic() < deadline, running(tmp_path)
        time.sleep(0.1)


def test_stopped_with_json(environ: dict[str, str], tmp_path: Path) -> None:
    code, out, _err = Slow(environ, tmp_path, "--json").stop(signal.SIGTERM)
    summary = json.loads(out.splitlines()[-1])
    assert (code, summary["exit_code"]) == (130, 130)
    assert summary["ansible_rc"] is not None  # Ansible ended by itself, it was not killed
    assert summary["positions"] == {"here": "install: Take long"}


def test_password_is_typed_and_lies_nowhere(environ: dict[str, str], tmp_path: Path) -> None:
    pid_file = tmp_path / "module.pid"
    args = ["-m", "dsdeploy", "up", "-K", "-e", f"slow=60 slow_pid_file='{pid_file}'"]
    child = pexpect.spawn(
        sys.executable,
        args,
        env={**environ, "TERM": "xterm"},
        cwd=str(tmp_path),
        encoding="utf-8",
        dimensions=(40, 120),
    )
    child.expect("Password to become root", timeout=60)
    child.sendline("sesame-4711")
    deadline = time.monotonic() + 60
    while not pid_file.exists():
        child.expect([pexpect.TIMEOUT, "Take long"], timeout=0.2)
        assert child.isalive() and time.monotonic() < deadline
    runs = list(tmp_path.glob("dsdeploy-*"))
    assert [oct(run.stat().st_mode & 0o777) for run in runs] == ["0o700"]
    for file in runs[0].rglob("*"):
        assert file.is_dir() or file.stat().st_mode & 0o077 == 0, file
        assert not file.is_file() or b"sesame-4711" not in file.read_bytes()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            assert b"sesame-4711" not in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
    os.kill(child.pid, signal.SIGINT)
    child.expect(pexpect.EOF, timeout=60)
    shown = child.before
    child.close()
    assert child.exitstatus == 130
    assert "sesame" not in shown


def test_live_view_on_a_terminal(environ: dict[str, str], tmp_path: Path) -> None:
    out, code = pexpect.run(
        f"{sys.executable} -m dsdeploy up",
        env={**environ, "TERM": "xterm"},
        cwd=str(tmp_path),
        encoding="utf-8",
        timeout=60,
        withexitstatus=True,
    )
    assert code == 0
    assert "\x1b[2K" in out  # redraws a line
    assert "  Write the configuration; Keep a secret\r\n" in out
    assert out.rstrip().endswith("verify     Restart the engine")
    assert "\x1b[?25h" in out  # gives the cursor back


def test_a_password_that_ansible_cfg_asks_for_is_asked_for(environ: dict[str, str], tmp_path: Path) -> None:
    """With `become_ask_pass` Ansible waited for ever at a prompt that nobody saw."""
    (tmp_path / "ansible.cfg").write_text(
        "[privilege_escalation]\nbecome_ask_pass = True\nagnostic_become_prompt = no\n"
    )
    child = pexpect.spawn(
        sys.executable, ["-m", "dsdeploy", "status"], env={**environ, "TERM": "dumb"}, cwd=str(tmp_path),
        encoding="utf-8", timeout=120,
    )  # fmt: skip
    child.expect("Password to become root")
    child.sendline("sesame-4711")
    child.expect(pexpect.EOF)
    shown = child.before
    child.close()
    assert child.exitstatus == 0, shown
    assert "sesame" not in shown
