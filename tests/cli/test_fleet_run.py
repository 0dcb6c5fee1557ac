# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts of a play that fetch one model together: who is told what, and what is seen of it."""

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/standins"))
import hub as standin  # noqa: E402
from loopback import free_port  # noqa: E402

MIB = 1024 * 1024
SIZES = {f"m-0000{number}-of-00004.gguf": 2 * MIB + number for number in range(1, 5)}
HOSTS = ["one", "two", "three"]
PLAY = """
- hosts: all
  gather_facts: false
  module_defaults:
    dsdeploy.llm.model_fetch:
      model: {name: m, format: gguf, sources: [{kind: huggingface, id: o/m}]}
      models_dir: "{{ models }}"
      mirrors: {huggingface: ["{{ hub }}"]}
      peer_address: 127.0.0.1
      peer_port: "{{ own_port }}"
  tasks:
    - dsdeploy.llm.model_fetch: {look: true}
      register: _model_looked
    - dsdeploy.llm.model_fetch: {peers: true}
      register: _model_fetched
"""


@pytest.fixture
def hub(tmp_path):
    source = random.Random(5)
    (tmp_path / "hub/o/m").mkdir(parents=True)
    for name, size in SIZES.items():
        (tmp_path / "hub/o/m" / name).write_bytes(b"GGUF" + source.randbytes(size - 4))
    with standin.served(tmp_path / "hub", large=1000) as hub:
        yield hub


def ansible_playbook(tmp_path, *arguments):
    """What `tmp_path`/play.yml says, as plain Ansible runs it."""
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), tmp_path / "play.yml", *arguments],
        env=dict(os.environ, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), ANSIBLE_LOCAL_TEMP=str(tmp_path / "tmp")),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def run(tmp_path, hub, *arguments, hosts=tuple(HOSTS)):
    found = {
        name: {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "models": str(tmp_path / name),
            "own_port": free_port(),
        }
        for name in hosts
    }
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": found, "vars": {"hub": hub.url}}}))
    (tmp_path / "play.yml").write_text(PLAY)
    hub.log.clear()
    return ansible_playbook(tmp_path, "-i", tmp_path / "hosts.json", *arguments)


def asked(hub):
    """Bytes of weights that the hub gave."""
    ranges = [one["range"].split("=")[1].split("-") for one in hub.log if one["range"] and one["status"] == 206]
    return sum(int(end) - int(start) + 1 for start, end in ranges)


def test_a_play_fetches_a_model_once_and_gives_it_to_a_host_that_comes_later(tmp_path, hub):
    whole = sum(SIZES.values())
    said = run(tmp_path, hub, "--check", hosts=HOSTS[:2])
    assert "share the download with two, on 127.0.0.1 port " in said
    assert not (tmp_path / "one").exists()
    said = run(tmp_path, hub, "-vvv", hosts=HOSTS[:2])
    assert asked(hub) == whole
    assert '"from_peers": ' in said
    assert "Bearer" not in said
    assert '"token": "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"' in said
    run(tmp_path, hub)
    assert asked(hub) == 0
    for name, size in SIZES.items():
        found = {hashlib.sha256((tmp_path / host / "m/main" / name).read_bytes()).hexdigest() for host in HOSTS}
        assert len(found) == 1
        assert (tmp_path / "three/m/main" / name).stat().st_size == size
    said = run(tmp_path, hub)
    assert said.count("changed=0") == 3
    assert not hub.log


def test_a_run_of_the_model_alone_needs_nothing_that_preflight_finds(tmp_path):
    """`--tags model`: what stands before the model's fetch is left out, or does without."""
    variables = {"model_peers": False, "dsdeploy_replicas": "", "_dsdeploy_has_gateway": False}
    play = {"hosts": "all", "gather_facts": False, "vars": {**variables, "_dsdeploy_lacks_manager": False}}
    tasks = {"ansible.builtin.include_tasks": str(ROOT / "playbooks/tasks/before_model.yml"), "tags": ["model"]}
    (tmp_path / "play.yml").write_text(json.dumps([{**play, "tasks": [tasks]}]))
    words = ["-i", "one,", "-c", "local", "--tags", "model", "-e", f"ansible_python_interpreter={sys.executable}"]
    ansible_playbook(tmp_path, *words)
