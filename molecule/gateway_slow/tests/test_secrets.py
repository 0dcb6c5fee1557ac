"""Planted keys, looked for while they are used and after: on the controller and on the host."""

import hashlib
import json
import os
import subprocess

from _gateway import command, key_command

LOGS = "journalctl --no-pager -n 5000; cat /var/log/dsdeploy/* /var/log/*.log 2>/dev/null; true"
# Arguments of all processes, and what lies in temporary directories, as root sees them now.
EVERYTHING = (
    "cat /proc/[0-9]*/cmdline 2>/dev/null; "
    "find /tmp /var/tmp /dev/shm /root/.ansible/tmp /home -xdev %s -type f -size -200k -newermt '-10 min' "
    "-exec cat {} + 2>/dev/null; true"
)
ENVIRONMENTS = "cat /proc/[0-9]*/environ 2>/dev/null; true"
# Root of the controller sees the processes of hosts that are containers of it, too: those are swept on the hosts.
OWN_ENVIRONMENTS = (
    "own=$(readlink /proc/self/ns/pid); for process in /proc/[0-9]*; do "
    '[ "$(readlink $process/ns/pid)" != "$own" ] || cat $process/environ; done 2>/dev/null; true'
)
# What others than root may read.
READABLE = (
    "find /etc /run /opt/dsdeploy /var/lib /srv -xdev -type f -perm -o=r -size -1000k -exec cat {} + 2>/dev/null; true"
)


def sweep(host, seen):
    """All of that, now, into `seen`: (where, bytes)."""

    def on_controller(program):
        return subprocess.run(["sh", "-c", program], capture_output=True, check=False).stdout

    # The scenario's own inventory holds the engine's key, where a user has a vault.
    inventory = f"-path {os.path.dirname(os.environ['MOLECULE_INVENTORY_FILE'])} -prune -o"
    seen.append(("controller", on_controller(EVERYTHING % inventory + "; " + OWN_ENVIRONMENTS)))
    seen.append(("host", host.run("sudo sh -c %s", EVERYTHING % "").stdout_bytes))
    # The engine has its key in its environment, which its user and root may read.
    seen.append(("environments", host.run("sudo -u nobody sh -c %s", ENVIRONMENTS).stdout_bytes))


def looking(host, seen):
    def look(watched):
        while watched.poll() is None:
            sweep(host, seen)

    return look


def looks(seen):
    """How often all was looked at while something ran."""
    return sum(where == "environments" for where, _part in seen)


def kept(host, seen):
    """What stays: logs, and what others may read."""
    seen.append(("logs", host.run("sudo sh -c %s", LOGS).stdout_bytes))
    seen.append(("readable files", host.run("sudo sh -c %s", READABLE).stdout_bytes))
    shown = "systemctl show dsdeploy-llama-cpp dsdeploy-gateway; systemctl cat dsdeploy-llama-cpp dsdeploy-gateway"
    seen.append(("units", host.run(shown).stdout_bytes))


def places(seen, *secrets):
    """Where one of the secrets is, as it is or as JSON or systemd writes it."""
    forms = {form for text in secrets for form in (text, text.replace("%", "%%"), json.dumps(text)[1:-1])}
    return {where for where, part in seen for form in forms if form.encode() in part}


def test_a_new_key_is_in_no_process_no_file_no_log_and_no_output_but_its_own_line(host):
    seen, made = [], []
    # A slow machine is looked at once in a run, or twice: it is done as often as it takes.
    while looks(seen) < 2:
        done = key_command(host, "add", "swept", "--replace", "-vvv", "--diff", "--json", watch=looking(host, seen))
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        (own,) = (line for line in lines if "key" in json.loads(line))
        made.append(json.loads(own)["key"])
        lines.remove(own)
        seen += [("errors", done.stderr.encode()), ("output", "\n".join(lines).encode())]
    kept(host, seen)
    files = host.run("sudo grep -r . /etc/dsdeploy /run/dsdeploy /var/lib/dsdeploy/dsdeploy-gateway").stdout_bytes
    seen.append(("files of root", files))
    assert places(seen, *made) == set()
    # The hash is where it belongs, and its sweep would have found it.
    assert hashlib.sha256(made[-1].encode()).hexdigest().encode() in files
    assert key_command(host, "revoke", "swept").returncode == 0


def test_the_engine_s_key_and_those_of_clients_are_nowhere_while_all_is_deployed_again(host, key):
    engine, seen = "key-swept" + '-for-100%-"quoted"', []
    probe = host.check_output("sudo cat /etc/dsdeploy/gateway/probe.key").strip()
    run = 0
    while looks(seen) < 4:
        # Other limits: files are written again, and the gateway takes them up.
        words = ("up", "-vvv", "--diff", "--json", "-e", f"gateway_max_streams={99 - run}")
        done = command(host, *words, "-e", f"llama_cpp_parallel={1 + run % 2}", watch=looking(host, seen))
        assert done.returncode == 0, done.stderr[-2000:]
        assert json.loads(done.stdout.splitlines()[-1])
        seen += [("output", done.stdout.encode()), ("errors", done.stderr.encode())]
        run += 1
    kept(host, seen)
    assert places(seen, engine, key, probe) == set()
    # They are where they belong, and would have been found.
    belongs = host.run("sudo sh -c 'cat /etc/dsdeploy/gateway/engines.map; cat /proc/[0-9]*/environ'").stdout_bytes
    assert places([("here", belongs)], engine) == {"here"}
