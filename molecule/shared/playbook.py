"""Runs a play over one host of the scenario, as molecule's own playbooks do."""

import json
import os
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def run_role(host, role, *arguments, **variables):
    """Run a role on this host alone; returns (exit code, what Ansible prints, on one line)."""
    run = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
    play = run / f"{host.backend.get_hostname()}.yml"
    name = host.backend.get_hostname()
    task = {"name": role, "ansible.builtin.include_role": {"name": f"dsdeploy.llm.{role}"}, "tags": ["always"]}
    play.write_text(json.dumps([{"hosts": name, "gather_facts": False, "tasks": [task]}]))
    command = ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], str(play), "-e", json.dumps(variables)]
    environment = dict(
        os.environ,
        ANSIBLE_CONFIG=f"{run}/ansible.cfg",
        ANSIBLE_COLLECTIONS_PATH=str(CHECKOUT / ".collections"),
        ANSIBLE_FORCE_COLOR="0",
        ANSIBLE_NOCOLOR="1",
    )
    done = subprocess.run([*command, *arguments], cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    return done.returncode, " ".join((done.stdout + done.stderr).split())
