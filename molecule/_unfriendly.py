"""Runs of the command over unfriendly hosts, as an operator has them: on a terminal that asks for a password, with a
configuration of the operator's own, and a cache of facts that lies."""

import json
import os
import sys
from pathlib import Path

import pexpect
from _play import CHECKOUT, hosts

KEY = 'unfriendly-"key"-100%'
PASSWORD = "pass word"
PLACES = {
    "dsdeploy_install_dir": "/data/apps/llm",
    "dsdeploy_data_dir": "/srv/llm",
    "dsdeploy_models_dir": "/data/models",
    "dsdeploy_log_dir": "/data/log/llm",
}
CONFIG = """[defaults]
inject_facts_as_vars = false
fact_caching = jsonfile
fact_caching_connection = {run}/facts
fact_caching_timeout = 0
[privilege_escalation]
become_ask_pass = true
[connection]
pipelining = true
"""
# Of a machine that it was once.
LIES = {"ansible_architecture": "sparc64", "ansible_service_mgr": "openrc", "dsdeploy_memory": {"total_mib": 1}}
# What a deployment makes on a host, a line each.
LOOK = """
getent passwd | cut -d: -f1 | sed 's/^/user /'
getent group | cut -d: -f1 | sed 's/^/group /'
find /etc/systemd/system /etc/dsdeploy /etc/profile.d /run /opt /data /var/lib/dsdeploy -path /run/user -prune -o \
  -path /run/systemd -prune -o -path /data/models -prune -o -name '*dsdeploy*' -print -o -path '/data/*' -print -o \
  -path '/etc/dsdeploy/*' -print 2>/dev/null
ss --listening --numeric --tcp --udp --no-header | awk '{print "socket", $1, $5}' | grep -v ':22$'
ps -eo user:32= | sort -u | grep -E '^(dsdeploy|llama|ollama)' | sed 's/^/runs /'
"""


def said(host, command):
    """What a command of root's says, without what the shell says before it."""
    return host.check_output("sudo sh -c %s", "echo =====;" + command).rpartition("=====")[2].strip()


def look(host):
    """Users, groups, files, sockets and whose processes there are."""
    return set(said(host, LOOK).splitlines())


def dsdeploy(*words, **variables):
    """The command over both hosts; its (exit code, summary, everything it said)."""
    run = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
    (run / "unfriendly.cfg").write_text(CONFIG.format(run=run))
    (run / "facts").mkdir(exist_ok=True)
    for name in hosts():
        # As ansible-core before and since 2.19 names and writes them.
        (run / "facts" / name).write_text(json.dumps(LIES))
        (run / "facts" / f"s1_{name}").write_text(json.dumps({"__payload__": json.dumps(LIES)}))
    variables = {"ansible_user": "nosudo", **PLACES, **variables}
    (run / "unfriendly.json").write_text(json.dumps(variables))
    command = [*words, "--json", "-i", os.environ["MOLECULE_INVENTORY_FILE"], "-e", f"@{run}/unfriendly.json"]
    environment = dict(os.environ, ANSIBLE_CONFIG=f"{run}/unfriendly.cfg", PYTHONPATH=str(CHECKOUT / "python"))
    for name in ("ANSIBLE_FORCE_COLOR", "ANSIBLE_COLLECTIONS_PATH"):
        environment.pop(name, None)
    command = ["-m", "dsdeploy", *command]
    child = pexpect.spawn(
        sys.executable, command, cwd=CHECKOUT, env=environment, encoding="utf-8", timeout=1200, dimensions=(50, 1000)
    )
    text = ""
    while child.expect([r"(?i)password[^\n]*: ?$", pexpect.EOF]) == 0:
        text += child.before
        child.sendline(PASSWORD)
    text += child.before
    child.close()
    assert PASSWORD not in text and KEY not in text
    lines = [line for line in text.splitlines() if line.startswith('{"event": "summary"')]
    assert lines, text
    return child.exitstatus, json.loads(lines[-1]), text


def problems(summary):
    """What each host was refused with."""
    return {failure["host"]: failure["msg"] for failure in summary["failures"]}


def changed(summary):
    return {name: found["changed_tasks"] for name, found in summary["hosts"].items()}


def looks():
    return {name: look(host) for name, host in hosts().items()}


def story(**variables):
    """`up`, again, `down`, `down --purge`: what was said, and what is on the hosts before and after each."""
    found = {"bare": looks()}
    for step, words in {"up": ("up",), "again": ("up",), "down": ("down",), "purge": ("down", "--purge")}.items():
        found[step] = dsdeploy(*words, **variables)
        found["after " + step] = looks()
    return found


def new(found, step, name):
    """What a host has after a step that it had not before all."""
    return found["after " + step][name] - found["bare"][name]


def nothing_was_made(before):
    """Both hosts are as they were."""
    assert {name: look(host) ^ before[name] for name, host in hosts().items()} == {name: set() for name in before}


def sockets(lines):
    return sorted(line for line in lines if line.startswith("socket"))
