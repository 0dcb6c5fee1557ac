# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An environment that every user can use whatever the umask is, and that is asked whether it runs."""

import os
import sys

import pytest
from run_module import run

SYSTEM_PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable


@pytest.fixture
def made(tmp_path):
    """One without any requirement, made under umask 077."""
    arguments = {"path": str(tmp_path / "deep" / "venv"), "requirements": ["# none"], "python": sys.executable}
    before = os.umask(0o077)
    try:
        assert run("python_venv", arguments)["changed"]
    finally:
        os.umask(before)
    return arguments


def test_nothing_in_the_working_directory_is_imported(tmp_path, monkeypatch):
    """It is the home of whoever the run came by."""
    here, seen = tmp_path / "here", tmp_path / "seen"
    here.mkdir()
    for name in ("ensurepip", "venv", "glob", "pip", "sysconfig", "mine"):
        (here / f"{name}.py").write_text(f"open({str(seen)!r}, 'a').write(__name__ + ' ')\n")
    monkeypatch.chdir(here)
    arguments = {"path": str(tmp_path / "venv"), "requirements": ["# none"], "python": SYSTEM_PYTHON}
    asked = run("python_venv", dict(arguments, check=["python", "-c", "import mine"]))
    assert not seen.exists(), seen.read_text()
    assert "No module named 'mine'" in asked["msg"] and os.path.exists(tmp_path / "venv" / "bin" / "python")


def closed(path):
    found = []
    for directory, _names, files in os.walk(path):
        for name in [directory, *(os.path.join(directory, name) for name in files)]:
            mode = os.lstat(name).st_mode
            if not os.path.islink(name) and mode & 0o044 != 0o044:
                found.append(name)
    return found


def test_a_strict_umask_closes_nothing_and_a_second_run_opens_what_is_closed(made, tmp_path):
    path = made["path"]
    assert closed(tmp_path / "deep") == []
    for directory, _names, files in os.walk(path):
        os.chmod(directory, 0o700)
        for name in files:
            target = os.path.join(directory, name)
            if not os.path.islink(target):
                os.chmod(target, os.stat(target).st_mode & 0o700)
    assert run("python_venv", made, check=True)["changed"] and closed(path)
    assert run("python_venv", made)["changed"] and closed(path) == []
    assert not run("python_venv", made)["changed"]


def test_it_is_asked_whether_it_runs(made):
    asked = run("python_venv", dict(made, check=["python", "-c", "print('version: 7')"]))
    assert not asked["changed"] and asked["said"] == "version: 7\n"
    broken = run("python_venv", dict(made, check=["python", "-c", "import not_there"]))
    assert broken["failed"] and "not_there" in broken["msg"] and "made anew" in broken["hint"]
    assert os.path.exists(os.path.join(made["path"], "bin", "python"))  # a service may run in it
    bare = run("python_venv", dict(made, path=made["path"] + "-other", check=["python", "--version"]), check=True)
    assert bare["changed"] and bare["said"] == ""


def test_what_pip_could_not_install_leaves_nothing(made):
    quiet = {"PIP_CONFIG_FILE": "/dev/null", "PIP_FIND_LINKS": "", "PIP_RETRIES": "0"}
    wrong = dict(made, path=made["path"] + "-other", requirements=["uv==1 --hash=sha256:" + "0" * 64])
    done = run("python_venv", dict(wrong, index_url="http://127.0.0.1:9/simple"), environment=quiet)
    assert done["failed"] and "pip could not install uv==1: ERROR: " in done["msg"]
    assert not os.path.exists(wrong["path"])


def test_check_mode_fails_where_the_index_does_not_answer(made):
    away = dict(made, index_url="http://127.0.0.1:9/simple")
    named = dict(away, path=made["path"] + "-other", requirements=["uv[x]==1 --hash=sha256:0"])
    quiet = {"PIP_CONFIG_FILE": "/dev/null", "PIP_FIND_LINKS": ""}
    done = run("python_venv", named, check=True, environment=quiet)
    assert done["failed"] and "no package index answers for uv: " in done["msg"]
    assert "dsdeploy_mirrors" in done["hint"]
    assert not os.path.exists(named["path"])
    # What is there needs no index.
    assert not run("python_venv", away, check=True, environment=quiet)["changed"]
