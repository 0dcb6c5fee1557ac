# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs a module as Ansible does: a process of its own with JSON on stdin."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]


def start(name, arguments, check=False, environment=None):
    """The running module; its `stdin` is closed, its `stdout` is a pipe."""
    paths = [str(ROOT / ".collections")] + [path for path in sys.path if path]
    module = subprocess.Popen(
        [sys.executable, str(ROOT / "plugins" / "modules" / f"{name}.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(environment or {})},
    )
    module.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check}}))
    module.stdin.close()
    module.stdin = None
    return module


def finish(module):
    """What it returned."""
    stdout, stderr = module.communicate(timeout=300)  # s; a busy machine gets its time
    assert stderr == ""
    return json.loads(stdout)


def run(name, arguments, check=False, environment=None):
    return finish(start(name, arguments, check, environment))
