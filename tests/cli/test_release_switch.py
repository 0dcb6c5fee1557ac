# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a release becomes the current one, and what that is told as: the tasks of role python_engine, with stand-ins for
what serves and asks."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dsdeploy.stages import stage_of

ROOT = Path(__file__).parents[2]
TASKS = ROOT / "roles/python_engine/tasks"
SERVES = "serves {{ lookup('ansible.builtin.pipe', 'readlink ' ~ python_engine_root ~ '/current') }}"
UP, BACK = "Service | Switch to the release", "Switch | Make the current one 1"


@pytest.fixture
def root(tmp_path):
    """Release 1 is the current one and has answered; 2 is there."""
    root = tmp_path / "vllm"
    for name in ("1", "2"):
        (root / name).mkdir(parents=True)
    (root / "1/.dsdeploy-service.json").write_text(json.dumps({"record": {}}))
    (root / "current").symlink_to("1")
    return root


def play(tmp_path, root, *arguments, state="started", restore=False):
    """([name of the task that switched], what is served, each time that it is) of a run that serves release 2."""
    for name in ("serve", "switch", "restore", "releases"):
        shutil.copy(TASKS / f"{name}.yml", tmp_path)
    (tmp_path / "service.yml").write_text(json.dumps([{"ansible.builtin.debug": {"msg": SERVES}}]))
    (tmp_path / "ask.yml").write_text("[]")
    served = {"python_engine_service": {"record": {}}, "python_engine_state": state}
    room = {"ansible.builtin.import_tasks": "serve.yml", "tags": ["service"]}
    back = {"ansible.builtin.include_tasks": {"file": "restore.yml", "apply": {"tags": ["always"]}}, "tags": ["verify"]}
    tasks = [
        {**room, "vars": {"python_engine_root": str(root), "python_engine_release": "2", **served}},
        # A room of its own: it knows no release but by its links.
        *([{**back, "vars": {"python_engine_root": str(root), **served}}] if restore else []),
    ]
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    files = [str(ROOT / "roles/python_engine/vars/main.yml")]
    (tmp_path / "play.json").write_text(
        json.dumps([{"hosts": "all", "gather_facts": False, "vars_files": files, "tasks": tasks}])
    )
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": {"one": host}}}))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", tmp_path / "hosts.json", tmp_path / "play.json",
         *arguments],
        env=dict(os.environ, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), ANSIBLE_STDOUT_CALLBACK="default"),
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    switched = re.findall(r"TASK \[([^\]]+)\][^\n]*\n(?:[^\n]+\n)*?changed: ", done.stdout)
    return switched, re.findall(r'"serves (\d)"', done.stdout)


def test_a_release_is_the_current_one_before_its_service_is_started(tmp_path, root):
    assert play(tmp_path, root) == ([UP], ["2"])
    # What is current is no change.
    assert play(tmp_path, root) == ([], ["2"])


@pytest.mark.parametrize(
    ("arguments", "state", "served"), [([], "stopped", ["1"]), (["--tags", "configure"], "started", [])]
)
def test_what_is_not_started_becomes_none(tmp_path, root, arguments, state, served):
    """What runs comes up again as it was."""
    assert play(tmp_path, root, *arguments, state=state) == ([], served)
    assert os.readlink(root / "current") == "1"


def test_check_mode_switches_nothing(tmp_path, root):
    assert play(tmp_path, root, "--check") == ([UP], ["1"])
    assert os.readlink(root / "current") == "1"


def test_going_back_names_the_release_and_changes_the_places_of_the_two(tmp_path, root):
    (root / "2/.dsdeploy-service.json").write_text(json.dumps({"record": {}}))
    assert play(tmp_path, root, restore=True) == ([UP, BACK], ["2", "1"])
    assert (os.readlink(root / "current"), os.readlink(root / "previous")) == ("1", "2")


def test_each_is_told_in_its_stage():
    told = {"task_path": f"{TASKS}/switch.yml:3", "role": "python_engine"}
    assert [stage_of({**told, "task": name})[0] for name in (UP, BACK)] == ["service", "configure"]
