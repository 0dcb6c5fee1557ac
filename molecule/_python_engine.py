"""An engine that is a Python package: how its tests ask it, run playbooks over its host, and look for its key."""

import json
import os
import subprocess
import sys
import time

from _play import CHECKOUT, play, recap

KEY = 'key-for-tests-100%-"quoted"'
THOUGHT = "Okay, the user asks something."
SENTENCE = "Hello from a tiny test model!"
CHAT = {"messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 64, "temperature": 0}
# Standard output: one line of JSON, [status, text] for each of argv[4] requests at the same time.
_FETCH = """
import concurrent.futures, json, sys, urllib.error, urllib.request
headers = {"Content-Type": "application/json"}
if sys.argv[2]:
    headers["Authorization"] = "Bearer " + sys.argv[2]
def fetch(_number):
    request = urllib.request.Request(sys.argv[1], data=sys.argv[3].encode() or None, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
with concurrent.futures.ThreadPoolExecutor(int(sys.argv[4])) as pool:
    print(json.dumps(list(pool.map(fetch, range(int(sys.argv[4]))))))
"""


class Engine:
    """By the name of its records and directories. `more` is what its questions say besides."""

    def __init__(self, name, port, **more):
        self.more = more
        self.service = f"dsdeploy-{name}"
        self.root = f"/opt/dsdeploy/{name}"
        self.record = f"/etc/dsdeploy/deployments/{name}.json"
        self.url = f"http://127.0.0.1:{port}"

    def fetch(self, host, path, key=KEY, body=None, at_once=1):
        """`[status, text]` of each of the requests."""
        arguments = (self.url + path, key, json.dumps(body) if body else "", str(at_once))
        return json.loads(host.check_output("python3 -c %s %s %s %s %s", _FETCH, *arguments))

    def ask(self, host, key=KEY, at_once=1):
        """The message of each of the answers."""
        answers = self.fetch(host, "/v1/chat/completions", key, dict(CHAT, **self.more), at_once)
        assert {status for status, _text in answers} == {200}
        return [json.loads(text)["choices"][0]["message"] for _status, text in answers]

    def answers_within(self, host, seconds):
        """The message, as soon as there is one."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.ask(host)[0]
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def pid(self, host):
        return int(host.check_output("systemctl show -p MainPID --value %s", self.service))

    def release(self, host, version):
        """The name of the one release of this version that is installed."""
        (path,) = host.check_output("sh -c %s", f"ls -d {self.root}/{version}-cpu-*/").split()
        return os.path.basename(path.rstrip("/"))

    def current(self, host):
        return host.check_output("readlink %s/current", self.root)

    def log(self, host):
        with host.sudo():
            return host.check_output("journalctl -u %s --no-pager -o cat", self.service)

    def the_key_is_in_no_readable_place(self, host):
        assert KEY not in host.check_output("ps -eo args")
        assert KEY not in self.log(host)
        with host.sudo():
            assert KEY not in host.check_output("cat /etc/systemd/system/%s.service", self.service)
            assert KEY not in host.check_output("cat %s/current/.dsdeploy-service.json", self.root)
            for name in (f"{self.service}.env", f"keys/{self.service}"):
                found = host.file(f"/etc/dsdeploy/{name}")
                assert (found.mode, found.user) == (0o600, "root")
        assert KEY not in host.file(self.record).content_string


def playbook(host, name, *arguments, fails=False):
    """What it wrote, with the differences, and without the key."""
    said = play(host, name, "--diff", *arguments, fails=fails)
    assert KEY not in said
    return said


def deploy(host, *arguments):
    """Deploy again; returns the recap's line."""
    return recap(playbook(host, "deepseek_r1", *arguments))


def dsdeploy(*words):
    """The command line; `(exit code, summary, everything it said)`."""
    inventory = os.environ["MOLECULE_INVENTORY_FILE"]
    command = [sys.executable, "-m", "dsdeploy", words[0], "-i", inventory, "--json", *words[1:]]
    config = f"{os.environ['MOLECULE_EPHEMERAL_DIRECTORY']}/ansible.cfg"
    environment = dict(os.environ, ANSIBLE_CONFIG=config, PYTHONPATH=str(CHECKOUT / "python"))
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    return done.returncode, json.loads(lines[-1]) if lines else None, done.stdout + done.stderr
