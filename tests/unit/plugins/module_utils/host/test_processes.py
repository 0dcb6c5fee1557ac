"""What a process and all that it has started have done."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from ansible_collections.dsdeploy.llm.plugins.module_utils.host import processes


def test_a_child_s_work_is_its_parent_s():
    code = (
        "import subprocess, sys\n"
        "busy = 'import time\\nend = time.process_time() + 0.3\\nwhile time.process_time() < end: pass\\n'\n"
        "subprocess.run([sys.executable, '-c', busy + 'print(1, flush=True)\\ninput()'])\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"1\n"
        assert processes.work_of(parent.pid).cpu_s >= 0.3
        assert processes.uid_of(parent.pid) == os.geteuid()
        parent.stdin.close()
    assert processes.work_of(parent.pid) is None
    assert processes.uid_of(parent.pid) is None


def test_the_age_of_a_process():
    began = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        age = processes.age_of(child.pid)
        assert -0.05 < age < time.monotonic() - began + 0.05
        older = processes.age_of(os.getpid())
        assert older >= age
        child.stdin.close()
    assert processes.age_of(child.pid) is None


def test_what_is_read_counts(tmp_path):
    before = processes.work_of(os.getpid())
    path = tmp_path / "weights"
    path.write_bytes(b"x" * 5_000_000)
    path.read_bytes()
    after = processes.work_of(os.getpid())
    assert after.read_bytes - before.read_bytes >= 5_000_000
    assert after.cpu_s >= before.cpu_s


def test_odd_names_and_gone_processes_are_no_obstacle(tmp_path):
    for pid, stat in {"7": "7 (a) b ( c) S 1 7 7 0 0 0 0 0 0 0 300 100 50 50 20", "8": "cut", "x": ""}.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "stat").write_text(stat)
    (tmp_path / "9").mkdir()
    assert processes.work_of(7, str(tmp_path)) == (500 / os.sysconf("SC_CLK_TCK"), 0)
    assert processes.work_of(9, str(tmp_path)) is None
