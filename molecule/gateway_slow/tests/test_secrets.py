"""A new key, looked for while it is made and after: on the controller and on the host."""

import hashlib
import json
import subprocess

from _gateway import key_command


def everything(where):
    """Arguments and environments of all processes, and what lies in temporary directories, as root sees them now."""
    program = (
        "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null; "
        "find /tmp /var/tmp /dev/shm /root/.ansible/tmp /home -xdev -type f -size -200k -newermt '-10 min' "
        "-exec cat {} + 2>/dev/null; true"
    )
    return where(program)


def test_a_new_key_is_in_no_process_no_file_no_log_and_no_output_but_its_own_line(host):
    seen = []

    def look(watched):
        while watched.poll() is None:
            seen.append(everything(lambda program: subprocess.run(["sh", "-c", program], capture_output=True).stdout))
            seen.append(everything(lambda program: host.run("sudo sh -c %s", program).stdout_bytes))

    done = key_command(host, "add", "swept", "--replace", "-vvv", "--diff", "--json", watch=look)
    assert done.returncode == 0, done.stderr
    *before, last = done.stdout.splitlines()
    made = json.loads(last)["key"]
    assert len(seen) >= 2
    seen += [done.stderr.encode(), "\n".join(before).encode()]
    seen.append(host.run("sudo journalctl --no-pager -n 3000; sudo cat /var/log/dsdeploy/* 2>/dev/null").stdout_bytes)
    seen.append(host.run("sudo grep -r . /etc/dsdeploy /run/dsdeploy /var/lib/dsdeploy/dsdeploy-gateway").stdout_bytes)
    assert not [part for part in seen if made.encode() in part]
    # The hash is where it belongs, and its sweep would have found it.
    assert hashlib.sha256(made.encode()).hexdigest().encode() in seen[-1]
    assert key_command(host, "revoke", "swept").returncode == 0
