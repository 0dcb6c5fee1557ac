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


def aliases(host, variables):
    """An inventory file of names that are all the host, each with variables of its own, in group `aliases`: what is
    refused before anything is done can be tried in one run, with `--limit aliases`."""
    name = host.backend.get_hostname()
    scenario = yaml.safe_load(Path(os.environ["MOLECULE_INVENTORY_FILE"]).read_text(encoding="utf-8"))
    shared = dict(scenario["all"]["hosts"][name], ansible_host=name)
    hosts = {alias: {**shared, **own} for alias, own in variables.items()}
    path = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "aliases.json"
    path.write_text(json.dumps({"aliases": {"hosts": hosts}}), encoding="utf-8")
    return str(path)


def refusals(host, playbook, variables, *arguments):
    """What a playbook says against each of several sets of variables, as one line, by the name of the set; all are
    tried in one run, and none may change anything."""
    path = aliases(host, variables)
    said = play(None, playbook, "-i", path, "--limit", "aliases", *arguments, fails=True)
    found = {name: "" for name in variables}
    for name, text in re.findall(r"^(?:fatal|failed): \[(\S+?)\](.*(?:\n(?!(?:\w+: \[|TASK |PLAY )).*)*)", said, re.M):
        found[name] += " ".join(text.split())
    counts = dict(re.findall(r"^(\S+) +: ok=.* changed=(\d+) .* failed=1 ", said, re.M))
    assert counts == dict.fromkeys(variables, "0"), said
    return found


def recap(said):
    """The recap's line of the host."""
    return re.findall(r"^\S+ +: ok=.*$", said, re.M)[-1]


def cost(said):
    """(processes on a host, results) of a run with -vvv, the most of any of its hosts.

    Ansible names every module that it sends when it is asked to say much.
    """
    recaps = re.findall(r"^\S+ +: (ok=.*)$", said, re.M)
    counts = [{name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", line)} for line in recaps]
    assert all(count["changed"] == 0 for count in counts), recaps
    # Not every one of them says which host it is for.
    processes = -(-said.count("Using module file ") // len(counts))
    return processes, max(count["ok"] + count["skipped"] for count in counts)


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


def deploy_all(pid_of, *arguments, secret=None, **variables):
    """Run the main playbook again over all hosts at once; by host `(number of changes, process before, after)`, and
    under None what it wrote."""
    before = {name: pid_of(host) for name, host in hosts().items()}
    said = play(None, "deepseek_r1", "-e", json.dumps(variables), *arguments)
    assert secret is None or secret not in said
    changed = dict(re.findall(r"^(\S+) +: ok=.* changed=([0-9]+)", said, re.M))
    found = {name: (int(changed[name]), before[name], pid_of(host)) for name, host in hosts().items()}
    return {None: said, **found}


def leftovers(host):
    """What is on the host that bears the name of dsdeploy, but for what lies in the model store."""
    skipped = r"\( -path /tmp -o -path /var/lib/dsdeploy/models \) -prune"
    return host.check_output(f"sudo find / -xdev {skipped} -o -name '*dsdeploy*' -print").split()
