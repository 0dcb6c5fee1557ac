# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One round of the engine's own tool, however it behaves."""

import getpass
import os
import sys
import tempfile
from collections import deque

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.bench import against, turns
from processes import gone

LOAD = turns.Load(64, 128, 10, 2)
KEY = "planted-secret"
WRITE = """
import json, os, sys, time
def write(text):
    directory = sys.argv[sys.argv.index("--result-dir") + 1]
    with open(os.path.join(directory, "result.json"), "w") as file:
        file.write(text if isinstance(text, str) else json.dumps(text))
GOOD = {"completed": 10, "duration": 2.0, "output_throughput": 640.0, "median_ttft_ms": 5.0}
GOOD.update(total_output_tokens=1280, total_input_tokens=640)
"""


@pytest.fixture
def tool(tmp_path):
    """Runs a script in place of the engine's Python, for `longest_s` at most."""

    def run(script, longest_s=300.0, stop=lambda: False, **record):
        python = tmp_path / "current" / "bin" / "python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text(script if script.startswith("#!") else f"#!{sys.executable}\n{WRITE}{script}")
        python.chmod(0o755)
        known = {"endpoint": "http://127.0.0.1:1", "model": "m", "model_path": str(tmp_path), "user": getpass.getuser()}
        return against.run("vllm", str(tmp_path), {**known, **record}, KEY, LOAD, longest_s, stop)

    return run


def test_a_whole_round(tool):
    found = tool("write(GOOD)")
    assert found.problem is None and not found.fatal and found.who == turns.TOOL
    assert found.figures["output_throughput"] == 640.0 and found.figures["p99_ttft_ms"] is None
    assert found.prompt_tokens == 64.0


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("print('key', os.environ['OPENAI_API_KEY'])\nsys.exit(3)", "it ended with 3: key (hidden)"),
        # Half of a key is none that would be found again.
        ("print('x' * 195 + os.environ['OPENAI_API_KEY'])\nsys.exit(3)", "it ended with 3: " + "x" * 190),
        ("print('loading')\nsys.stdout.flush()\nos.kill(os.getpid(), 9)", "it was killed by signal 9: loading"),
        ("", "its result cannot be read: No such file"),
        ("write('[oops')", "its result cannot be read: not JSON"),
        ("write('[]')", "its result is not a JSON object"),
        ("write('')", "its result cannot be read: empty"),
        ("write(dict(completed=10))", "its result has no figures"),
        ("write(dict(GOOD, output_throughput='x', median_ttft_ms=float('nan')))", "its result has no figures"),
        ("write(dict(GOOD, completed=0))", "none of its 10 requests was answered"),
        ("write(dict(GOOD, completed=-3))", "none of its 10 requests was answered"),
        ("os.mkfifo(os.path.join(sys.argv[sys.argv.index('--result-dir') + 1], 'result.json'))", "not a file"),
        ("#!/nonexistent/python\n", "it cannot be started"),
    ],
)
def test_one_that_fails_is_told_in_a_line_and_not_asked_again(tool, script, said):
    found = tool(script)
    assert said in found.problem and found.fatal and not found.figures and "\n" not in found.problem
    assert KEY not in found.problem and "planted" not in found.problem and len(found.problem) < 300


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("completed=9", "9 of 10 requests were answered"),
        ("completed=12", "12 answers to 10 requests"),
        ("total_output_tokens=640", "answers of 64.0 tokens, where 128 were asked for"),
    ],
)
def test_one_that_does_less_is_not_whole_and_is_asked_again(tool, more, said):
    found = tool(f"write(dict(GOOD, {more}))")
    assert found.problem == said and not found.fatal


def test_one_that_hangs_is_ended_with_all_that_it_has_started(tool, tmp_path):
    pids = tmp_path / "pids"
    note = f"open({str(pids)!r}, 'a').write(str(os.getpid()) + ' ')\n"
    found = tool(f"os.fork()\n{note}print('waiting', flush=True)\ntime.sleep(600)", longest_s=5.0)
    assert found.problem.startswith("it had not ended after 5 s") and found.fatal
    assert all(gone(pid) for pid in pids.read_text().split())


def test_one_that_ends_leaves_no_child(tool, tmp_path):
    note = tmp_path / "pid"
    script = f"pid = os.fork()\nif not pid: time.sleep(600)\nopen({str(note)!r}, 'w').write(str(pid))\nwrite(GOOD)"
    assert tool(script).problem is None
    assert gone(note.read_text())


def test_one_that_fills_the_disk_is_ended(tool, monkeypatch):
    monkeypatch.setattr(against, "MOST_LOG", 1 << 20)
    found = tool("while True:\n    print('garbage \\x1b[31m' * 1000)")
    assert (
        found.problem.startswith("it was ended, as it wrote more than 1 MiB: garbage") and "\x1b" not in found.problem
    )


def test_it_is_broken_off(tool):
    asked = []
    assert tool("time.sleep(600)", stop=lambda: asked.append(1) or len(asked) > 2) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_record_of_a_user_that_is_gone(tool):
    assert tool("write(GOOD)", user="nobody-of-that-name").problem == (
        "there is no user nobody-of-that-name, as the record has it"
    )


@pytest.fixture
def as_nobody(tmp_path_factory, monkeypatch):
    """Runs a script as the service's user, which cannot read the file `secret` that is root's."""
    if os.geteuid() != 0:
        pytest.skip("only root becomes another user")
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o755)
        secret = os.path.join(top, "secret")
        with open(secret, "w") as file:
            file.write("root-reads-this-alone\n")
        os.chmod(secret, 0o600)
        python = os.path.join(top, "current", "bin", "python")
        os.makedirs(os.path.dirname(python))

        def run(script, tool="vllm"):
            with open(python, "w") as file:
                file.write(f"#!/usr/bin/python3\nSECRET = {secret!r}\n{WRITE}{script}")
            os.chmod(python, 0o755)
            record = {"endpoint": "http://127.0.0.1:1", "model": "m", "model_path": top, "user": "nobody"}
            return against.run(tool, top, record, None, LOAD, 300.0, lambda: False)

        yield run, secret


LINK = """
def link(name):
    directory = os.environ["HOME"]
    if os.path.lexists(os.path.join(directory, name)): os.unlink(os.path.join(directory, name))
    os.symlink(SECRET, os.path.join(directory, name))
"""


@pytest.mark.parametrize("name", ["log", "result.json"])
def test_root_reads_nothing_that_its_user_leads_it_to(as_nobody, name):
    run, _secret = as_nobody
    found = run(f"{LINK}link({name!r})\nsys.exit({3 if name == 'log' else 0})")
    assert found.fatal and "root-reads" not in found.problem, found.problem


@pytest.mark.parametrize("tool", ["vllm", "sglang"])
def test_root_writes_and_gives_away_nothing_that_its_user_leads_it_to(as_nobody, monkeypatch, tool):
    """Its user is quick: from the moment in which a directory is his, all names that root uses are links in it."""
    run, secret = as_nobody
    given, real = [], os.chown

    def chown(path, uid, gid):
        real(path, uid, gid)
        given.append(path)
        if os.path.isdir(path) and not os.path.islink(path):
            for name in ("log", "result.json", against.PROMPTS):
                there = os.path.join(path, name)
                if os.path.lexists(there):
                    os.unlink(there)
                os.symlink(secret, there)

    monkeypatch.setattr(os, "chown", chown)
    run("print('hello')\nsys.exit(3)", tool)
    with open(secret) as file:
        assert file.read() == "root-reads-this-alone\n"
    assert os.stat(secret).st_uid == 0 and given


def test_lag_and_cpu_are_those_of_its_requests_alone():
    """It has imported for 20 s before, and takes 2 s to end after its result is written."""
    ticks = [(float(at), 0.5 if at < 20 or at > 30 else 0.002) for at in range(33)]
    taken = [(float(at), at * 1.0 if at <= 20 else 20.0 + (at - 20) * 0.25) for at in range(33)]
    seen = against.Watched(32.0, 0, deque(ticks), deque(taken))
    figures = dict.fromkeys((*turns.FIGURES, *against.SENT), None)
    figures.update(completed=10, duration=10.0, total_output_tokens=1280)
    found = against.round_of(figures, LOAD, seen, 30.0)
    assert (found.lag_ms, found.cpus) == (2.0, 0.25)
    # Where that is not known, nothing is said.
    assert against.round_of(dict(figures, duration=None), LOAD, seen, 30.0)[3:5] == (None, None)


def test_a_process_that_computes_has_taken_cpu_time(tool):
    script = "end = time.monotonic() + 2.5\nwhile time.monotonic() < end: pass\nwrite(dict(GOOD, duration=1.5))"
    found = tool(script)
    assert found.cpus is not None and 0.05 < found.cpus < 1.4 and found.lag_ms is not None


def test_both_tools_are_told_the_range_of_the_lengths():
    record = {"model_path": "/m", "model": "m", "endpoint": "http://127.0.0.1:1"}

    def said(tool, load):
        words = against.command(tool, "/root", record, load, "/tmp", "/prompts")
        names = ("--random-input-len", "--random-output-len", "--random-range-ratio")
        return [words[words.index(name) + 1] for name in names]

    varied = LOAD._replace(range_ratio=0.5)
    assert said("vllm", LOAD) == ["64", "128", "0"] and said("vllm", varied) == ["64", "128", "0.5"]
    # SGLang's tool is told the longest, and which share of it is the shortest.
    assert said("sglang", LOAD) == ["64", "128", "1"] and said("sglang", varied) == ["96", "192", "0.333333"]
