"""The deployed vLLM."""

import json
import os
import subprocess
import time
from pathlib import Path

CHECKOUT = Path(__file__).parents[3]
SERVICE = "dsdeploy-vllm"
ROOT = "/opt/dsdeploy/vllm"
KEY = 'key-for-tests-100%-"quoted"'
THOUGHT = "Okay, the user asks something."
SENTENCE = "Hello from a tiny test model!"
# Standard output: one line of JSON, [status, message] for each of argv[3] requests at the same time.
ASK = """
import concurrent.futures, json, sys, urllib.error, urllib.request
body = {"messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 64, "temperature": 0}
def ask(_number):
    request = urllib.request.Request("http://127.0.0.1:8000" + sys.argv[1], data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": "Bearer " + sys.argv[2]})
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, json.load(response)["choices"][0]["message"]
    except urllib.error.HTTPError as error:
        return error.code, None
with concurrent.futures.ThreadPoolExecutor(int(sys.argv[3])) as pool:
    print(json.dumps(list(pool.map(ask, range(int(sys.argv[3]))))))
"""


def ask(host, key=KEY, path="/v1/chat/completions", at_once=1):
    return json.loads(host.check_output("python3 -c %s %s %s %s", ASK, path, key, str(at_once)))


def pid_of(host):
    return int(host.check_output("systemctl show -p MainPID --value %s", SERVICE))


def answers_within(host, seconds):
    """The answer, as soon as there is one."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask(host)[0]
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def playbook(name, *arguments):
    """Run a playbook over the scenario's hosts; `(exit status, output)`."""
    run = os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]
    command = ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], f"playbooks/{name}.yml", "--diff"]
    environment = dict(
        os.environ, ANSIBLE_CONFIG=f"{run}/ansible.cfg", ANSIBLE_COLLECTIONS_PATH=str(CHECKOUT / ".collections")
    )
    done = subprocess.run([*command, *arguments], cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    output = done.stdout + done.stderr
    assert KEY not in output
    return done.returncode, output


def deploy(*arguments):
    """Deploy again; returns the recap line."""
    status, output = playbook("deepseek_r1", *arguments)
    assert status == 0, output
    return next(line for line in reversed(output.splitlines()) if "changed=" in line)
