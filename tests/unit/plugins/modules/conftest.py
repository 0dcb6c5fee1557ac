# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import run_module as modules


@pytest.fixture
def run_module():
    """Run a module as Ansible does, in a process of its own with JSON on stdin. Its result is also given as printed."""

    def run(module, /, check=False, **arguments):
        ended = modules.done(module, arguments, check)
        assert ended["stderr"] == ""
        result = json.loads(ended["stdout"])
        # fail_json ends with 1
        assert result.get("failed", False) == (ended["returncode"] != 0)
        assert not result.get("changed", False)
        return dict(result, printed=ended["stdout"])

    return run
