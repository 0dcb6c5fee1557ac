# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a release becomes the current one, and what that is told as: the tasks of role python_engine, with stand-ins for
what serves and asks."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

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


def play(tmp_path, root, *arguments, state="started", then="", ask=(), gang=(), compiled=""):
    """([name of the task that switched], what is served, each time that it is, what failed) of a run that serves
    release 2 together with the other hosts of `gang`, and `then` comes to another room."""
    for name in ("serve", "switch", "among", "restore", "releases", "verify"):
        tasks = yaml.safe_load((TASKS / f"{name}.yml").read_text())
        (tmp_path / f"{name}.yml").write_text(json.dumps([task for task in tasks if "dsdeploy.llm.gang" not in task]))
    for name in ("service_gang", "compiled"):
        (tmp_path / f"{name}.yml").write_text("[]")
    (tmp_path / "service.yml").write_text(json.dumps([{"ansible.builtin.debug": {"msg": SERVES}}]))
    (tmp_path / "ask.yml").write_text(json.dumps(ask))
    record = {"gang": {"hosts": gang}} if gang else {}
    served = {
        "python_engine_compiled": compiled,
        "dsdeploy_replicas": "chat",
        "dsdeploy_share_compiled": True,
        "python_engine_root": str(root),
        "python_engine_service": {"user": "nobody", "record": record},
        "python_engine_state": state,
    }
    room = {"ansible.builtin.import_tasks": "serve.yml", "tags": ["service"]}
    # A room of its own: it knows no release but by its links.
    other = {
        "ansible.builtin.include_tasks": {"file": f"{then}.yml", "apply": {"tags": ["always"]}},
        "tags": ["verify"],
    }
    tasks = [{**room, "vars": {**served, "python_engine_release": "2"}}, *([{**other, "vars": served}] if then else [])]
    failed = {"ansible.builtin.debug": {"msg": "{{ ansible_failed_result.msg }}!"}, "tags": ["always"]}
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    files = [str(ROOT / f"roles/{role}/vars/main.yml") for role in ("_common", "python_engine")]
    plays = [
        {"hosts": "all", "gather_facts": False, "vars_files": files, "tasks": [{"block": tasks, "rescue": [failed]}]}
    ]
    (tmp_path / "play.json").write_text(json.dumps(plays))
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": {"one": host}}}))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", tmp_path / "hosts.json", tmp_path / "play.json",
         *arguments],
        env=dict(os.environ, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), ANSIBLE_STDOUT_CALLBACK="default"),
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    switched = re.findall(r"TASK \[([^\]]+ \| [^\]]+)\][^\n]*\n(?:[^\n]+\n)*?changed: ", done.stdout)
    switched = [name for name in switched if name.startswith((UP, "Switch"))]
    return switched, re.findall(r'"serves (\d)"', done.stdout), re.findall(r'"msg": "(.*)!"', done.stdout)


@pytest.mark.parametrize("among", [{}, {"gang": ["one", "six"]}, {"compiled": "/var/lib/x"}])
def test_a_release_is_the_current_one_before_its_service_is_started(tmp_path, root, among):
    """Of one host, of a gang, and of a replica that takes what another one has compiled."""
    assert play(tmp_path, root, **among) == ([UP], ["2"], [])
    # What is current is no change.
    assert play(tmp_path, root, **among) == ([], ["2"], [])


@pytest.mark.parametrize(
    ("arguments", "state", "served"), [([], "stopped", ["1"]), (["--tags", "configure"], "started", [])]
)
def test_what_is_not_started_becomes_none(tmp_path, root, arguments, state, served):
    """What runs comes up again as it was."""
    assert play(tmp_path, root, *arguments, state=state) == ([], served, [])
    assert os.readlink(root / "current") == "1"


def test_check_mode_switches_nothing(tmp_path, root):
    assert play(tmp_path, root, "--check") == ([UP], ["1"], [])
    assert os.readlink(root / "current") == "1"


def test_going_back_names_the_release_and_changes_the_places_of_the_two(tmp_path, root):
    (root / "2/.dsdeploy-service.json").write_text(json.dumps({"record": {}}))
    assert play(tmp_path, root, then="restore") == ([UP, BACK], ["2", "1"], [])
    assert (os.readlink(root / "current"), os.readlink(root / "previous")) == ("1", "2")


@pytest.mark.parametrize(
    ("before", "gang", "back"),
    [([], [], True), (["one", "six"], [], False), (["one", "six"], ["one", "six"], True), ([], ["one", "six"], True)],
)
def test_one_that_does_not_answer_is_taken_back_unless_others_served_the_one_before(tmp_path, root, before, gang, back):
    """Those of a gang start together or not at all."""
    (root / "1/.dsdeploy-service.json").write_text(
        json.dumps({"record": {"gang": {"hosts": before}} if before else {}})
    )
    ask = [{"ansible.builtin.fail": {"msg": "2 does not answer"}, "when": "_python_engine_switched.current == '2'"}]
    said = "2 does not answer" + (". 2 was taken back: 1 runs again and answers" if back else "")
    expected = ([UP, BACK], ["2", "1"], [said]) if back else ([UP], ["2"], [said])
    assert play(tmp_path, root, then="verify", ask=ask, gang=gang) == expected


def test_each_is_told_in_its_stage():
    told = {"task_path": f"{TASKS}/switch.yml:3", "role": "python_engine"}
    assert [stage_of({**told, "task": name})[0] for name in (UP, BACK)] == ["service", "configure"]
