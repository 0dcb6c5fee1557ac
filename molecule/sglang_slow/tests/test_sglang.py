"""The real SGLang 0.4.3.post2 on a host without a GPU, with a model of Qwen2's architecture."""

import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CHECKOUT = Path(__file__).parents[3]
SERVICE = "dsdeploy-sglang"
ROOT = "/opt/dsdeploy/sglang"
KEY = 'key-for-tests-100%-"quoted"'
# This release has no parser of reasoning: it stays in the answer.
ANSWER = "<think>\nOkay, the user asks something.\n</think>\n\nHello from a tiny test model!"
CHAT = {"messages": [{"role": "user", "content": "Who are you?"}], "model": "x", "max_tokens": 64, "temperature": 0}
LONG = {"max_new_tokens": 600, "ignore_eos": True, "temperature": 0}
# Prints [status, body].
ASK = """
import json, sys, urllib.error, urllib.request
headers = {"Content-Type": "application/json"}
if sys.argv[2]:
    headers["Authorization"] = "Bearer " + sys.argv[2]
request = urllib.request.Request("http://127.0.0.1:30000" + sys.argv[1], headers=headers,
    data=sys.argv[3].encode() or None)
try:
    with urllib.request.urlopen(request, timeout=120) as response:
        print(json.dumps([response.status, response.read().decode()]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, ""]))
"""


def fetch(host, path, key=KEY, body=None):
    return json.loads(host.check_output("python3 -c %s %s %s %s", ASK, path, key, json.dumps(body) if body else ""))


def ask(host):
    status, body = fetch(host, "/v1/chat/completions", body=CHAT)
    assert status == 200
    return json.loads(body)["choices"][0]["message"]["content"]


def answers_within(host, seconds):
    """The answer, as soon as there is one."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask(host)
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def pid_of(host):
    return int(host.check_output("systemctl show -p MainPID --value %s", SERVICE))


def playbook(name, *arguments):
    """Run a playbook over the scenario's host; `(exit status, output)`."""
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


def test_it_answers_exactly_on_loopback_only(host):
    assert ask(host) == ANSWER
    assert host.socket("tcp://127.0.0.1:30000").is_listening
    assert not host.socket("tcp://0.0.0.0:30000").is_listening


def test_it_is_the_environment_of_its_time(host):
    wanted = {"sglang": "0.4.3.post2", "transformers": "4.48.3", "vllm": "0.7.2", "torchao": "0.9.0"}
    code = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:]}))"
    found = host.check_output("%s/current/bin/python -c %s " + " ".join(wanted), ROOT, code)
    assert json.loads(found) == wanted
    assert host.file(f"{ROOT}/current").linked_to == f"{ROOT}/0.4.3.post2-cpu"


def test_it_asks_for_the_key(host):
    for path in ("/v1/chat/completions", "/v1/models", "/metrics"):
        assert fetch(host, path, "wrong")[0] == 401
        assert fetch(host, path, "")[0] == 401
    assert fetch(host, "/v1/models")[0] == 200
    status, metrics = fetch(host, "/metrics")
    assert status == 200
    assert 'sglang:num_requests_total{model_name="tiny-qwen2"}' in metrics


def test_the_key_is_in_no_readable_place(host):
    assert KEY not in host.check_output("ps -eo args")
    with host.sudo():
        log = host.check_output("journalctl -u %s --no-pager -o cat", SERVICE)
        assert "api_key='***'" in log
        assert KEY not in log
        assert KEY not in host.check_output("cat /etc/systemd/system/%s.service", SERVICE)
        assert KEY not in host.check_output("cat %s/current/.dsdeploy-service.json", ROOT)
        for name in (f"{SERVICE}.env", f"keys/{SERVICE}"):
            found = host.file(f"/etc/dsdeploy/{name}")
            assert (found.mode, found.user) == (0o600, "root")
    assert KEY not in host.file("/etc/dsdeploy/deployments/sglang.json").content_string


def test_wrong_parameters_are_refused_by_name_before_anything_is_touched(host):
    before = pid_of(host)
    for variables, line in (
        ("sglang_reasoning_parser=deepseek-r1", "SGLang 0.4.3.post2 does not know --reasoning-parser yet"),
        ("sglang_schedule_policy=lmp", "does not know --schedule-policy lmp; did you mean lpm?"),
        ('{"sglang_mem_fraction_static": 1.5}', "sglang_mem_fraction_static: expected a value from 0.05 to 0.99"),
        ('{"sglang_extra_args": ["--context-lenght", "9"]}', "does not know --context-lenght; did you mean"),
        ("sglang_allow_vulnerable=false", "CVE-2026-3059"),
    ):
        status, output = playbook("deepseek_r1", "-e", variables)
        assert status != 0
        assert line in output
    assert pid_of(host) == before


def test_nothing_changed_restarts_nothing_and_a_changed_flag_restarts_once(host):
    before = pid_of(host)
    assert "changed=0" in deploy()
    assert pid_of(host) == before
    assert "changed=0" not in deploy("-e", "sglang_max_running_requests=16")
    assert pid_of(host) != before
    assert "--max-running-requests 16" in host.check_output("ps -o args= -p %s", str(pid_of(host)))


def test_it_comes_back_after_sigkill(host):
    before = pid_of(host)
    with host.sudo():
        host.check_output("kill -9 %s", str(before))
    assert answers_within(host, 200) == ANSWER
    assert pid_of(host) != before


def test_a_stop_lets_it_finish_and_its_own_sigkill_is_a_clean_end(host):
    with ThreadPoolExecutor(1) as pool:
        question = pool.submit(fetch, host, "/generate", body={"text": "Hello", "sampling_params": LONG})
        time.sleep(1)
        with host.sudo():
            host.check_output("systemctl stop %s", SERVICE)
        status, body = question.result()
    assert status == 200
    assert json.loads(body)["meta_info"]["completion_tokens"] == LONG["max_new_tokens"]
    assert host.check_output("systemctl show -p ActiveState,Result %s", SERVICE).split() == [
        "Result=success",
        "ActiveState=inactive",
    ]
    running = host.check_output("ps -eo args")
    assert "sglang-server" not in running and "sglang::" not in running
    status, output = playbook("down")
    assert status == 0, output
    assert host.run("systemctl is-failed %s", SERVICE).stdout.strip() == "inactive"
