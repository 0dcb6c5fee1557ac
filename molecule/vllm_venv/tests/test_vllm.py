"""vLLM on a host without a GPU, with a model of DeepSeek V3's architecture."""

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from _play import CHECKOUT, aliases, cost
from _python_engine import KEY, SENTENCE, THOUGHT, Engine, deploy, dsdeploy, playbook
from _sockets import nothing_listens_by_surprise

VLLM = Engine("vllm", 8000)
# 3 layers × (kv_lora_rank 512 + qk_rope_head_dim 64) × 2 bytes, as in tests/unit/plugins/test_tiny_model.py.
KV_BYTES_PER_TOKEN = 3456
LOCK = CHECKOUT / "roles/vllm_venv/files/locks/0.32.0-cpu.lock"


def test_it_answers_exactly_and_keeps_the_reasoning_apart(host):
    (message,) = VLLM.ask(host)
    assert message["content"].strip() == SENTENCE
    assert (message.get("reasoning") or message.get("reasoning_content")).strip() == THOUGHT


def test_32_at_once_are_all_answered_while_its_status_is_asked(host):
    answers, told = [], threading.Event()

    def go_on_asking():
        while not (answers and told.is_set()):
            answers.extend(VLLM.ask(host, at_once=32))

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(go_on_asking)
        try:
            output = playbook(host, "status", "-v")
        finally:
            told.set()
        asking.result()
    assert re.search(r"ready: true", output)
    assert {message["content"].strip() for message in answers} == {SENTENCE}


def test_it_listens_on_loopback_only(host):
    nothing_listens_by_surprise(host, "vllm")


def test_it_asks_for_the_key(host):
    assert VLLM.fetch(host, "/v1/models", "wrong")[0][0] == 401


def test_the_key_is_in_no_readable_place(host):
    VLLM.the_key_is_in_no_readable_place(host)


def test_one_release_is_current_and_read_only_for_the_engine(host):
    assert VLLM.current(host) == VLLM.release(host, "0.32.0")
    assert host.check_output("stat -c %%U %s/current/bin", VLLM.root) == "root"
    record = json.loads(host.file(VLLM.record).content_string)
    assert (record["version"], record["releases"]) == ("0.32.0", VLLM.root)


def test_its_log_is_readable_and_it_is_what_systemd_runs(host):
    assert host.service(VLLM.service).is_enabled
    assert "active (running)" in host.check_output("systemctl status --no-pager %s", VLLM.service)
    log = VLLM.log(host)
    assert "\x1b[" not in log
    # The memory that was given, over the tokens that vLLM says it holds, is what the planner computes for a token.
    tokens = int(re.findall(r"KV cache size: ([0-9,]+) tokens", log)[-1].replace(",", ""))
    assert abs(2**30 / tokens / KV_BYTES_PER_TOKEN - 1) < 0.01


# Each in one run of the command, as a host of its own: (variables, kind of the failure, what it says).
REFUSED = {
    # By the help of the vLLM that is installed; unit tests have the other rules.
    "parameters": (
        {
            "vllm_venv_swap_space": 4,
            # A value that other releases know, so that preflight lets it through.
            "vllm_venv_kv_cache_dtype": "bogus",
            "vllm_venv_extra_args": ["--max-model-length", "9"],
            # Of a lock of the user's own only its help is known.
            "vllm_venv_lock": str(LOCK),
        },
        "usage",
        [
            "vllm_venv_swap_space: vLLM 0.32.0 does not know --swap-space any more: vLLM computes a preempted",
            "vllm_venv_extra_args: vLLM 0.32.0 does not know --max-model-length; did you mean",
            "vllm_venv_kv_cache_dtype: vLLM 0.32.0 does not know --kv-cache-dtype bogus; it knows auto, bfloat16",
        ],
    ),
    "values": (
        {"vllm_venv_load_format": "bogus", "vllm_venv_tokenizer_mode": "bogus"},
        "usage",
        ["vllm_venv_load_format: expected one of auto, hf,", "vllm_venv_tokenizer_mode: expected one of auto, hf,"],
    ),
    "places": (
        {
            "vllm_venv_version": "0.17.99",
            "vllm_venv_ssl_certfile": "/no/certificate",
            "vllm_venv_ssl_keyfile": "/no/key",
            "vllm_venv_interpreter": "/no/python",
        },
        "usage",
        [
            "there is no lock for vLLM 0.17.99 with profile cpu",
            "vLLM 0.17.99 has known vulnerabilities",
            "vllm_venv_ssl_certfile: there is no file /no/certificate on this host",
            "vllm_venv_ssl_keyfile: there is no file /no/key on this host",
            "vllm_venv_interpreter: there is no program /no/python on this host",
        ],
    ),
    "guards": (
        {
            "vllm_venv_host": "0.0.0.0",
            "vllm_venv_extra_args": ["--hos", "::", "--api-key=x"],
            "vllm_venv_environment": {"VLLM_HOST_IP": "0.0.0.0"},
        },
        "usage",
        [
            "vllm_venv_host is 0.0.0.0, which others can reach, and vLLM answers /invocations",
            "vllm_venv_extra_args: --hos: it is short for --host: set vllm_venv_host",
            "vllm_venv_extra_args: --api-key: an API key must not be on the command line",
            "vllm_venv_environment: VLLM_HOST_IP: the processes of one host talk over loopback",
        ],
    ),
    "words": (
        {"vllm_venv_extra_args": "--seed 1"},
        "usage",
        ["vllm_venv_extra_args is the string '--seed 1', not a list"],
    ),
    "lock": (
        {"vllm_venv_lock": "/no/such.lock"},
        "usage",
        ["vllm_venv_lock: there is no file /no/such.lock on the controller"],
    ),
    "memory": (
        {"dsdeploy_model": "deepseek-r1-awq"},
        "preflight",
        ["deepseek-r1-awq does not fit into the memory of this host: weights 339.8 GiB + KV 1.0 GiB"],
    ),
}


@pytest.fixture(scope="module")
def refused(host):
    """(exit code, failures by name, the engine's process before and after) of the one run."""
    before = VLLM.pid(host)
    path = aliases(host, {name: variables for name, (variables, _kind, _lines) in REFUSED.items()})
    code, summary, said = dsdeploy("up", "-i", path, "--limit", "aliases")
    assert KEY not in said
    return code, {failure["host"]: failure for failure in summary["failures"]}, before, VLLM.pid(host)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_by_name_before_anything_is_touched(refused, name):
    code, failures, before, after = refused
    _variables, kind, lines = REFUSED[name]
    assert (code, failures[name]["kind"]) == (2, kind)
    for line in lines:
        assert line in failures[name]["msg"]
    assert name != "memory" or "a host that has" in failures[name]["hint"]
    assert before == after


def test_nothing_changed_restarts_nothing_and_a_changed_flag_restarts_once(host):
    before = VLLM.pid(host)
    processes, results = cost(playbook(host, "deepseek_r1", "-vvv"))
    # Counted, not timed: a process on the host costs a hundred times what a result does.
    assert processes <= 12
    assert results <= 30
    assert VLLM.pid(host) == before
    assert "changed=0" not in deploy(host, "-e", "vllm_venv_max_num_seqs=16")
    changed = VLLM.pid(host)
    assert changed != before
    assert "--max-num-seqs 16" in host.check_output("ps -o args= -p %s", str(changed))
    assert host.check_output("systemctl show -p NRestarts --value %s", VLLM.service) == "0"


def test_a_run_that_only_verifies_leaves_what_a_rollback_serves(host):
    note = f"{VLLM.root}/current/.dsdeploy-service.json"
    with host.sudo():
        before = host.check_output("cat %s", note)
    assert "--max-num-seqs" in before
    assert "changed=0" in deploy(host, "--tags", "verify")
    with host.sudo():
        assert host.check_output("cat %s", note) == before


def test_a_lock_that_cannot_be_installed_leaves_the_engine_alone(host, tmp_path):
    """One of its packages is another file than the lock says."""
    before, release = VLLM.pid(host), VLLM.current(host)
    h11 = r"(?m)^h11==\S+( \\\n    --hash=sha256:\w+)+"
    text, changed = re.subn(h11, lambda found: re.sub(r"sha256:\w+", "sha256:" + "0" * 64, found[0]), LOCK.read_text())
    assert changed == 1
    wrong = tmp_path / "wrong.lock"
    wrong.write_text(text)
    code, summary, said = dsdeploy("up", "-e", f"vllm_venv_lock={wrong}")
    assert code == 1, said
    (failure,) = summary["failures"]
    assert "the index serves another file of h11==" in failure["msg"]
    assert "Set dsdeploy_mirrors.pypi_index to a mirror that serves the original" in failure["hint"]
    assert (VLLM.pid(host), VLLM.current(host)) == (before, release)
    assert VLLM.ask(host)[0]["content"].strip() == SENTENCE
