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

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

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


def ansible_playbook(tmp_path, play, inventory):
    """What a play over hosts of this machine says."""
    (tmp_path / "play.json").write_text(json.dumps([{"hosts": "all", **play}]))
    (tmp_path / "hosts.json").write_text(json.dumps(inventory))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", tmp_path / "hosts.json", tmp_path / "play.json"],
        env=dict(os.environ, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), ANSIBLE_STDOUT_CALLBACK="default"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("roll", "turn"), [("roll.yml", "turn.yml"), ("rollback_roll.yml", "rollback_turn.yml")])
def test_the_first_has_its_turn_first_though_it_answers_last(tmp_path, roll, turn):
    shutil.copy(ROOT / "playbooks/tasks/turn_of.yml", tmp_path)
    turns = yaml.safe_load((ROOT / "playbooks/tasks" / roll).read_text())[-1]
    assert turns["name"] == "Turns"
    (tmp_path / "roll.yml").write_text(json.dumps([turns]))
    (tmp_path / turn).write_text(TURN)
    slow = "{{ {'hosts': " + str(HOSTS) + ", 'after': lookup('pipe', 'sleep 1')} }}"
    hosts = {name: {"_dsdeploy_replicas": {"hosts": HOSTS}} for name in HOSTS[1:]}
    inventory = {"all": {"hosts": {HOSTS[0]: {"_dsdeploy_replicas": slow}, **hosts}}}
    play = {"gather_facts": False, "tasks": [{"ansible.builtin.include_tasks": {"file": "roll.yml"}}]}
    out = ansible_playbook(tmp_path, play, inventory)
    said = re.findall(r"((?:begin|end) of \w+)", out)
    assert said == [f"{part} of {name}" for name in HOSTS for part in ("begin", "end")]


def test_the_hosts_of_a_gang_go_back_together_though_their_records_differ(tmp_path):
    (back,) = yaml.safe_load((ROOT / "playbooks/tasks/rollback_of.yml").read_text())
    assert back.pop("ansible.builtin.include_role")["tasks_from"] == "rollback"
    (tmp_path / "back.yml").write_text(
        '- ansible.builtin.debug: {msg: "begin of {{ inventory_hostname }} in {{ python_engine_root }}"}\n'
        '- ansible.builtin.debug: {msg: "end of {{ inventory_hostname }}"}\n'
    )
    tasks = [{**back, "ansible.builtin.include_tasks": str(tmp_path / "back.yml")}]
    record = {"engine": "vllm", "releases": "/opt/vllm", "api_key_file": None}
    hosts = {
        name: {"dsdeploy_found": {"deployments": [{**record, "gang": {"rank": rank}}]}}
        for rank, name in enumerate(HOSTS)
    }
    said = ansible_playbook(tmp_path, {"gather_facts": False, "tasks": tasks}, {"all": {"hosts": hosts}})
    found = re.findall(r"(begin|end) of \w+(?: in /opt/vllm)?", said)
    assert found == ["begin"] * 3 + ["end"] * 3


def test_a_release_that_other_hosts_served_together_is_nothing_to_go_back_to(tmp_path):
    """It would be switched to, and found out then that it starts on all of them or not at all."""
    hosts = {}
    for name, gang, before in (
        ("one", [], []),
        ("two", ["two", "six"], ["two", "six"]),
        ("three", [], ["three", "six"]),
    ):
        for release in ("1", "2"):
            (tmp_path / name / release).mkdir(parents=True)
        (tmp_path / name / "1/.dsdeploy-service.json").write_text(json.dumps({"record": {"gang": {"hosts": before}}}))
        (tmp_path / name / "current").symlink_to("2")
        (tmp_path / name / "previous").symlink_to("1")
        hosts[name] = {"python_engine_root": str(tmp_path / name), "python_engine_gang": gang}
    role = {"name": "dsdeploy.llm.python_engine", "tasks_from": "rollback_look"}
    said = {"ansible.builtin.debug": {"msg": "{{ inventory_hostname }} says: {{ ansible_failed_result.msg }}."}}
    play = {"gather_facts": False, "tasks": [{"block": [{"ansible.builtin.include_role": role}], "rescue": [said]}]}
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    out = ansible_playbook(tmp_path, play, {"all": {"hosts": hosts, "vars": here}})
    assert re.findall(r'"(\w+ says: .*)"', out) == [
        "three says: three: 1 was served by three, six together, and 2 is not: nothing was changed."
    ]


def test_a_replica_without_its_like_compiles_by_itself(tmp_path):
    variables = {
        "python_engine_compiled": str(tmp_path / "compiled"),
        "python_engine_service": {"user": "nobody", "record": {"releases": str(tmp_path)}},
        "_dsdeploy_replicas": {"hosts": ["one"]},
    }
    role = {"name": "dsdeploy.llm.python_engine", "tasks_from": "compiled", "rolespec_validate": False}
    play = {"gather_facts": True, "gather_subset": ["min"], "tasks": [{"ansible.builtin.include_role": role}]}
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, **variables}
    said = ansible_playbook(tmp_path, play, {"all": {"hosts": {"one": host}}})
    assert "Find a replica that is its like" in said
    assert not (tmp_path / "compiled").exists()


RESTORE = """
- ansible.builtin.fail: {msg: "{{ item }}"}
  loop: [it cannot be read]
  when: broken == ['before']
- ansible.builtin.set_fact:
    _python_engine_switched:
      {root: /r, current: "{{ _python_engine_state.previous }}", previous: "{{ _python_engine_state.current }}"}
- ansible.builtin.fail: {msg: "{{ _python_engine_state.current }} does not answer"}
  when: _python_engine_state.current in broken
- ansible.builtin.set_fact: {_python_engine_restored: true}
"""
BACK = "old does not answer. old was taken back: new runs again and answers"
LOST = "new does not answer. It gets no requests until it answers"


def test_what_cannot_go_back_serves_again_what_ran_and_gets_requests_again(tmp_path):
    """The tasks of `rollback` and of its turns, with stand-ins for what serves and asks."""
    shutil.copy(ROOT / "roles/python_engine/tasks/rollback.yml", tmp_path / "rollback_of.yml")
    releases = {"root": "/r", "current": "new", "previous": "old"}
    look = {"ansible.builtin.set_fact": {"_python_engine_releases": releases}}
    (tmp_path / "rollback_look.yml").write_text(json.dumps([look]))
    (tmp_path / "restore.yml").write_text(RESTORE)
    turn = yaml.safe_load((ROOT / "playbooks/tasks/rollback_turn.yml").read_text())
    (tmp_path / "turn.yml").write_text(json.dumps([task for task in turn if "dsdeploy.llm.replicas" not in task]))
    said = {"ansible.builtin.debug": {"msg": "{{ inventory_hostname }} says: {{ ansible_failed_result.msg }}."}}
    tasks = [{"block": [{"ansible.builtin.include_tasks": {"file": "turn.yml"}}], "rescue": [said]}]
    files = [str(ROOT / f"roles/{role}/vars/main.yml") for role in ("_common", "python_engine")]
    variables = {"python_engine_api_key_file": "", "python_engine_root": "/r",
                 "ansible_connection": "local", "ansible_python_interpreter": sys.executable}  # fmt: skip
    broken = {"one": [], "two": ["old"], "three": ["old", "new"], "four": ["before"]}
    hosts = {
        name: {"broken": what, "_dsdeploy_replicas": {"engine": "vllm", "gateways": [{"host": name, "server": name}]}}
        for name, what in broken.items()
    }
    play = {"gather_facts": False, "vars_files": files, "vars": variables, "tasks": tasks}
    out = ansible_playbook(tmp_path, play, {"all": {"hosts": hosts}})
    assert dict(re.findall(r'"(\w+) says: (.*)\."', out)) == {"two": BACK, "three": LOST, "four": "it cannot be read"}
    ready = out.split("TASK [Rollback | Let the gateways send it requests again]")[1].split("TASK [")[0]
    assert set(re.findall(r"^ok: \[(\w+)", ready, re.M)) == {"two", "four"}


# --- a gateway whose host is gone

# Port 1 refuses at once what a dead host would refuse after a while.
GONE = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
GATEWAYS = {"gateways": [{"host": name, "server": "one"} for name in HOSTS]}


def told(tmp_path, *arguments):
    """What is said as the gateways of three hosts, of which the third is gone, are told something of the first."""
    block = next(task for task in yaml.safe_load((ROOT / "playbooks/tasks/turn.yml").read_text()) if "block" in task)
    tell = next(task for task in block["block"] if "dsdeploy.llm.gateway_replica" in task)
    debug = {"ansible.builtin.debug": {"msg": "and {{ inventory_hostname }} goes on"}}
    here = "inventory_hostname == 'one'"
    tasks = [{"block": [tell], "rescue": [debug], "when": here, "tags": ["verify"]}, {**debug, "tags": ["verify"]}]
    play = {"hosts": "all", "gather_facts": False, "tasks": tasks}
    (tmp_path / "play.json").write_text(json.dumps([play]))
    variables = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable,
                 "_dsdeploy_replicas": GATEWAYS, "dsdeploy_engine_entry": {"name": "llama_cpp"}}  # fmt: skip
    inventory = {"all": {"hosts": {"one": {}, "two": {}, "three": GONE}, "vars": variables}}
    (tmp_path / "hosts.json").write_text(json.dumps(inventory))
    program = Path(sys.executable).with_name("ansible-playbook")
    return subprocess.run(
        [program, "-i", tmp_path / "hosts.json", tmp_path / "play.json", *arguments],
        env=dict(os.environ, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), ANSIBLE_STDOUT_CALLBACK="default"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_dead_host_that_the_run_leaves_out_does_not_stop_it(tmp_path):
    done = told(tmp_path, "--limit", "!three")
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join((done.stdout + done.stderr).split())
    assert "three cannot be reached, and its gateway, if it runs, may go on sending nothing to one" in said
    assert "unreachable=1" not in said


def test_a_dead_host_of_the_run_fails_it_and_what_is_to_be_mended_is_mended(tmp_path):
    done = told(tmp_path)
    said = " ".join((done.stdout + done.stderr).split())
    assert "three cannot be reached, and its gateway" in said
    assert "and one goes on" in said
    assert "one : ok=2 changed=0 unreachable=0 failed=0" in said


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({}, "no space left. It serves as before"),
        ({"_service_done": 1}, "no space left. It gets no requests until it answers"),
        ({"_service_done": 1, "_dsdeploy_turn_answers": True}, "no space left. It serves as before"),
        (
            {"_service_done": 1, "_dsdeploy_turn_answers": True, "_dsdeploy_turn_restored": {"restored": True}},
            "no space left. It was taken back: it answers again as before",
        ),
        (
            {
                **{"_service_done": 1, "_dsdeploy_turn_answers": False, "_dsdeploy_turn_restored": {"restored": True}},
                "_dsdeploy_turn_asked": {"msg": "refused"},
            },
            "no space left. It was taken back, and does not answer: refused",
        ),
        ({"_service_done": 1, "ansible_check_mode": True}, "no space left"),
    ],
)
def test_what_is_said_of_a_turn_that_failed(found, said):
    block = next(task for task in yaml.safe_load((ROOT / "playbooks/tasks/turn.yml").read_text()) if "block" in task)
    templar = Templar(DataLoader(), variables={
        "ansible_check_mode": False, "_dsdeploy_turn_failure": {"msg": "no space left"}, **block["vars"], **found
    })  # fmt: skip
    trusted = getattr(__import__("ansible.template", fromlist=["trust_as_template"]), "trust_as_template", str)
    templar.available_variables = {
        name: trusted(value) if isinstance(value, str) and "{{" in value else value
        for name, value in templar.available_variables.items()
    }
    text = next(task for task in block["rescue"] if "dsdeploy.llm.failure" in task)["dsdeploy.llm.failure"]["msg"]
    assert templar.template(trusted(text)) == said
