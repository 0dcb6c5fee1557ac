# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The launcher of supervisor's programs as a process, on a host on which it cannot do its work."""

import os
import pwd
import subprocess
import sys

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import launcher


@pytest.mark.parametrize("missing", ["run", "environment"])
def test_why_it_cannot_start_is_one_line_of_the_log(tmp_path, missing):
    (tmp_path / "file").write_text("")
    places = {"run": str(tmp_path / "run"), "environment": str(tmp_path / "file")}
    places[missing] = str(tmp_path / "file" / "below")  # no directory: as little can be made there as on a full disk
    user = pwd.getpwuid(os.getuid()).pw_name
    options = {"name": "dsdeploy-x", "user": user, **places, "revision": "r", "nofile": "64", "memlock": "0"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    done = subprocess.run([sys.executable, launcher.__file__, *words, "true"], capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("the service cannot start: ") and str(tmp_path / "file") in line
