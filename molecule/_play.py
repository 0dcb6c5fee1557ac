"""The collection's playbooks, run again over a scenario's host."""

import json
import os
import re
import subprocess
from pathlib import Path

import testinfra
import yaml

CHECKOUT = Path(__file__).parents[1]


def play(host, playbook, *arguments, fails=False):
    """Run playbooks/`playbook`.yml, or the file of that path, over this host alone, or over all of them where it is
    None; returns what it wrote."""
    run = os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]
    path = playbook if "/" in str(playbook) else f"playbooks/{playbook}.yml"
    command = ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], path]
    command += [*(["--limit", host.backend.get_hostname()] if host else []), *arguments]
    environment = dict(
        os.environ, ANSIBLE_CONFIG=f"{run}/ansible.cfg", ANSIBLE_COLLECTIONS_PATH=str(CHECKOUT / ".collections")
    )
    # molecule asks for colours.
    environment.update(ANSIBLE_FORCE_COLOR="0", ANSIBLE_NOCOLOR="1", COLUMNS="10000")
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, said
    return said


def recap(said):
    """The recap's line of the host."""
    return re.findall(r"^\S+ +: ok=.*$", said, re.M)[-1]


def cost(host, *arguments):
    """(processes on the host, results) of another run of the main playbook, which must change nothing.

    Ansible names every module that it sends when it is asked to say much.
    """
    said = play(host, "deepseek_r1", "-vvv", *arguments)
    line = recap(said)
    count = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", line)}
    assert count["changed"] == 0, line
    return said.count("Using module file "), count["ok"] + count["skipped"]


def deploy(host, fails=False, **variables):
    """Run the main playbook again; returns what it wrote, as one line."""
    return " ".join(play(host, "deepseek_r1", "-e", json.dumps(variables), fails=fails).split())


def changes(host, **variables):
    """The number of changes of another run."""
    return int(re.findall(r"changed=([0-9]+)", deploy(host, **variables))[-1])


def hosts():
    """All of the scenario, by name."""
    scenario = yaml.safe_load(Path(os.environ["MOLECULE_FILE"]).read_text(encoding="utf-8"))
    names = [platform["name"] for platform in scenario["platforms"]]
    config = os.environ["MOLECULE_EPHEMERAL_DIRECTORY"] + "/ssh_config"
    return {name: testinfra.get_host(f"ssh://{name}", ssh_config=config) for name in names}


def deploy_all(pid_of, secret=None, **variables):
    """Run the main playbook again over all hosts at once; by host `(number of changes, process before, after)`."""
    before = {name: pid_of(host) for name, host in hosts().items()}
    said = play(None, "deepseek_r1", "-e", json.dumps(variables))
    assert secret is None or secret not in said
    changed = dict(re.findall(r"^(\S+) +: ok=.* changed=([0-9]+)", said, re.M))
    return {name: (int(changed[name]), before[name], pid_of(host)) for name, host in hosts().items()}


def leftovers(host):
    """What is on the host that bears the name of dsdeploy, but for what lies in the model store."""
    skipped = r"\( -path /tmp -o -path /var/lib/dsdeploy/models \) -prune"
    return host.check_output(f"sudo find / -xdev {skipped} -o -name '*dsdeploy*' -print").split()
