# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Replicas have their turns in order, whichever host answers first."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
HOSTS = ["one", "two", "three"]
TURN = """
- name: Begin
  ansible.builtin.debug: {msg: "begin of {{ inventory_hostname }}"}
  tags: [verify]
- name: End
  ansible.builtin.debug: {msg: "end of {{ inventory_hostname }}"}
  tags: [verify]
"""


def test_the_first_has_its_turn_first_though_it_answers_last(tmp_path):
    shutil.copy(ROOT / "playbooks/tasks/turn_of.yml", tmp_path)
    turns = yaml.safe_load((ROOT / "playbooks/tasks/roll.yml").read_text())[-1]
    assert turns["name"] == "Turns"
    (tmp_path / "roll.yml").write_text(json.dumps([turns]))
    (tmp_path / "turn.yml").write_text(TURN)
    (tmp_path / "play.yml").write_text(
        "- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.include_tasks: {file: roll.yml}\n"
    )
    slow = "{{ {'hosts': " + str(HOSTS) + ", 'after': lookup('pipe', 'sleep 1')} }}"
    hosts = {name: {"_dsdeploy_replicas": {"hosts": HOSTS}} for name in HOSTS[1:]}
    inventory = {"all": {"hosts": {HOSTS[0]: {"_dsdeploy_replicas": slow}, **hosts}}}
    (tmp_path / "hosts.json").write_text(json.dumps(inventory))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", tmp_path / "hosts.json", tmp_path / "play.yml"],
        env=dict(os.environ, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), ANSIBLE_STDOUT_CALLBACK="default"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = re.findall(r"((?:begin|end) of \w+)", done.stdout)
    assert said == [f"{part} of {name}" for name in HOSTS for part in ("begin", "end")]
