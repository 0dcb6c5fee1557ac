# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def run_module():
    """Run a module as Ansible does, in a process of its own with JSON on stdin. Its result is also given as printed."""

    def run(module, /, check=False, **arguments):
        environment = dict(
            os.environ, PYTHONPATH=os.pathsep.join([str(ROOT / ".collections"), *filter(None, sys.path)])
        )
        done = subprocess.run(
            [sys.executable, str(ROOT / "plugins" / "modules" / f"{module}.py")],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": dict(arguments, _ansible_check_mode=check)}),
            capture_output=True,
            text=True,
            env=environment,
            timeout=60,
            check=False,  # fail_json ends with 1
        )
        assert done.stderr == ""
        result = json.loads(done.stdout)
        assert result.get("failed", False) == (done.returncode != 0)
        assert not result.get("changed", False)
        return dict(result, printed=done.stdout)

    return run
