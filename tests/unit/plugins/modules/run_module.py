# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs a module as Ansible does: a process of its own with JSON on stdin."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
PATIENCE_S = 300  # a busy machine gets its time


def _paths():
    return [str(ROOT / ".collections")] + [path for path in sys.path if path]


def _input(arguments, check):
    return json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check}})


def start(name, arguments, check=False, environment=None):
    """The running module; its `stdin` is closed, its `stdout` is a pipe."""
    module = subprocess.Popen(
        [sys.executable, str(ROOT / "plugins" / "modules" / f"{name}.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(_paths()), **(environment or {})},
    )
    module.stdin.write(_input(arguments, check))
    module.stdin.close()
    module.stdin = None
    return module


def finish(module):
    """What it returned."""
    stdout, stderr = module.communicate(timeout=PATIENCE_S)
    assert stderr == ""
    return json.loads(stdout)


_forks = []  # the process of module_forks.py


def done(name, arguments, check=False, environment=None):
    """The module's `{stdout, stderr, returncode}`."""
    if not _forks:
        command = [sys.executable, str(Path(__file__).with_name("module_forks.py"))]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        _forks.append(subprocess.Popen(command, text=True, start_new_session=True, **pipes))
    (server,) = _forks
    umask = os.umask(0)
    os.umask(umask)
    asked = {
        "module": str(ROOT / "plugins" / "modules" / f"{name}.py"),
        "input": _input(arguments, check),
        "environment": {**os.environ, "PYTHONPATH": os.pathsep.join(_paths()), **(environment or {})},
        "path": _paths(),
        "directory": os.getcwd(),
        "umask": umask,
    }
    server.stdin.write(json.dumps(asked) + "\n")
    server.stdin.flush()
    if not select.select([server.stdout], [], [], PATIENCE_S)[0]:
        os.killpg(_forks.pop().pid, signal.SIGKILL)
        raise TimeoutError(f"{name} has not ended within {PATIENCE_S} s")
    return json.loads(server.stdout.readline())


def run(name, arguments, check=False, environment=None):
    """What it returned."""
    ended = done(name, arguments, check, environment)
    assert ended["stderr"] == ""
    return json.loads(ended["stdout"])
