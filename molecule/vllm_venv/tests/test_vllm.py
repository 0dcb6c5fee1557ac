"""vLLM on a host without a GPU, with a model of DeepSeek V3's architecture."""

import json
import re
import threading

from _vllm import KEY, ROOT, SENTENCE, SERVICE, THOUGHT, answers_within, ask, deploy, pid_of, playbook

# 3 layers × (kv_lora_rank 512 + qk_rope_head_dim 64) × 2 bytes, as in tests/unit/plugins/test_tiny_model.py.
KV_BYTES_PER_TOKEN = 3456


def test_it_answers_exactly_and_keeps_the_reasoning_apart(host):
    status, message = ask(host)[0]
    assert status == 200
    assert message["content"].strip() == SENTENCE
    assert (message.get("reasoning") or message.get("reasoning_content")).strip() == THOUGHT


def test_32_at_once_are_all_answered_while_its_status_is_asked(host):
    answers = []
    asking = threading.Thread(target=lambda: [answers.extend(ask(host, at_once=32)) for _round in range(5)])
    asking.start()
    status, output = playbook("status", "-v")
    asking.join()
    assert status == 0
    assert re.search(r"ready: true", output)
    assert len(answers) == 5 * 32
    assert {(code, message["content"].strip()) for code, message in answers} == {(200, SENTENCE)}


def test_it_listens_on_loopback_only(host):
    assert host.socket("tcp://127.0.0.1:8000").is_listening
    assert not host.socket("tcp://0.0.0.0:8000").is_listening


def test_it_asks_for_the_key(host):
    assert ask(host, "wrong")[0][0] == 401


def test_the_key_is_in_no_readable_place(host):
    assert KEY not in host.check_output("ps -eo args")
    with host.sudo():
        assert KEY not in host.check_output("journalctl -u %s --no-pager", SERVICE)
        assert KEY not in host.check_output("cat /etc/systemd/system/%s.service", SERVICE)
        assert KEY not in host.check_output("cat %s/current/.dsdeploy-service.json", ROOT)
        for name in (f"{SERVICE}.env", f"keys/{SERVICE}"):
            found = host.file(f"/etc/dsdeploy/{name}")
            assert (found.mode, found.user) == (0o600, "root")
    assert KEY not in host.file("/etc/dsdeploy/deployments/vllm.json").content_string


def test_one_release_is_current_and_read_only_for_the_engine(host):
    assert host.file(f"{ROOT}/current").linked_to == f"{ROOT}/0.32.0-cpu"
    assert host.check_output("stat -c %%U %s/current/bin", ROOT) == "root"
    record = json.loads(host.file("/etc/dsdeploy/deployments/vllm.json").content_string)
    assert (record["version"], record["releases"]) == ("0.32.0", ROOT)


def test_its_log_is_readable_and_it_is_what_systemd_runs(host):
    assert host.service(SERVICE).is_enabled
    assert "active (running)" in host.check_output("systemctl status --no-pager %s", SERVICE)
    with host.sudo():
        log = host.check_output("journalctl -u %s --no-pager -o cat", SERVICE)
    assert "\x1b[" not in log
    # The memory that was given, over the tokens that vLLM says it holds, is what the planner computes for a token.
    tokens = int(re.findall(r"KV cache size: ([0-9,]+) tokens", log)[-1].replace(",", ""))
    assert abs(2**30 / tokens / KV_BYTES_PER_TOKEN - 1) < 0.01


def test_wrong_parameters_are_refused_by_name_before_anything_is_touched(host):
    """All at once, by the help of the vLLM that is installed; unit tests have the other rules."""
    before = pid_of(host)
    wrong = {"vllm_venv_swap_space": 4, "vllm_venv_extra_args": ["--max-model-length", "9"]}
    status, output = playbook("deepseek_r1", "-e", json.dumps(wrong))
    assert status != 0
    said = " ".join(output.split())
    assert "vllm_venv_swap_space: vLLM 0.32.0 does not know --swap-space any more: vLLM computes a preempted" in said
    assert "vllm_venv_extra_args: vLLM 0.32.0 does not know --max-model-length; did you mean" in said
    assert pid_of(host) == before


def test_nothing_changed_restarts_nothing_and_a_changed_flag_restarts_once(host):
    before = pid_of(host)
    assert "changed=0" in deploy()
    assert pid_of(host) == before
    assert "changed=0" not in deploy("-e", "vllm_venv_max_num_seqs=16")
    changed = pid_of(host)
    assert changed != before
    assert "--max-num-seqs 16" in host.check_output("ps -o args= -p %s", str(changed))
    assert host.check_output("systemctl show -p NRestarts --value %s", SERVICE) == "0"


def test_it_comes_back_after_sigkill(host):
    before = pid_of(host)
    with host.sudo():
        host.check_output("kill -9 %s", str(before))
    status, message = answers_within(host, 200)
    assert (status, message["content"].strip()) == (200, SENTENCE)
    assert pid_of(host) != before
