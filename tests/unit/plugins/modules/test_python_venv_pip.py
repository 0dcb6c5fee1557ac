# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Environments made by pip, of a small wheel that is made here."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile

import pytest
from ansible_collections.dsdeploy.llm.plugins.modules import python_venv

WHEEL = "tiny-1.0-py3-none-any.whl"


@pytest.fixture
def requirement(tmp_path):
    """A line of a requirements file; pip finds its wheel in tmp_path."""
    with zipfile.ZipFile(tmp_path / WHEEL, "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    return "tiny==1.0 --hash=sha256:" + hashlib.sha256((tmp_path / WHEEL).read_bytes()).hexdigest()


def run(tmp_path, requirement, **more):
    arguments = {"path": str(tmp_path / "venv"), "requirements": [requirement], "python": sys.executable}
    environ = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), **more}
    done = subprocess.run(
        [sys.executable, python_venv.__file__],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        env={**environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_what_is_asked_for_is_there_and_pip_is_not(tmp_path, requirement):
    assert run(tmp_path, requirement)["changed"] is True
    python = str(tmp_path / "venv" / "bin" / "python")
    assert subprocess.run([python, "-c", "import tiny"]).returncode == 0
    # It was run from its wheel: to install it would take longer than all the rest.
    assert subprocess.run([python, "-c", "import pip"], stderr=subprocess.DEVNULL).returncode != 0
    assert run(tmp_path, requirement)["changed"] is False


def test_a_wrong_hash_is_refused(tmp_path, requirement):
    failed = run(tmp_path, requirement[:-1] + ("0" if requirement[-1] != "0" else "1"))
    assert failed["failed"] and failed["hint"]
    assert "another file than the pinned one" in failed["hint"]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"PIP_PROXY": "http://127.0.0.1:9", "PIP_INDEX_URL": "https://pypi.invalid/simple"}, "The proxy refuses"),
        ({"PIP_INDEX_URL": "http://127.0.0.1:9/simple"}, "cannot be reached"),
    ],
)
def test_the_hint_is_of_the_cause(tmp_path, requirement, variables, words):
    variables = {"PIP_NO_INDEX": "0", "PIP_FIND_LINKS": "", "PIP_RETRIES": "1", **variables}
    failed = run(tmp_path, requirement, **variables)
    assert failed["failed"] and words in failed["hint"], failed
