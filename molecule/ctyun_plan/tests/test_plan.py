"""What `--check` says of inventories/ctyun, on a host that looks like its server."""

import json
import os
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]
SEED = [
    48339779936,
    49429396320,
    49527312640,
    48272509536,
    49422027488,
    48272509536,
    49429396320,
    46938773696,
    14798482144,
]


def check(*variables, playbook="deepseek_r1", hub="http://127.0.0.1:8123"):
    """The output of check mode on one line, and whether it succeeded."""
    run = os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]
    command = ["ansible-playbook", "-i", "inventories/ctyun", f"playbooks/{playbook}.yml", "--check"]
    host = {
        "ansible_host": "ctyun-plan",
        "ansible_user": "operator",
        "ansible_ssh_common_args": f"-F {run}/ssh_config",
        # No hub is asked for long: what it takes to know more is there or not.
        "model_timeout": 5,
        "model_retries": 0,
    }
    command += [word for name, value in host.items() for word in ("-e", f"{name}='{value}'")]
    command += ["-e", json.dumps({"dsdeploy_mirrors": {"modelscope": [hub], "huggingface": [hub]}})]
    environment = dict(os.environ, ANSIBLE_CONFIG=f"{run}/ansible.cfg", ANSIBLE_NOCOLOR="1", ANSIBLE_FORCE_COLOR="0")
    done = subprocess.run([*command, *variables], cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    # Results are printed as YAML, which doubles an apostrophe.
    return " ".join((done.stdout + done.stderr).replace("''", "'").split()), done.returncode


LLAMA = ("-e", "dsdeploy_engine=llama_cpp")
OLLAMA = ("-e", "dsdeploy_engine=ollama", "-e")
ARCHIVE = "ollama_archive=http://127.0.0.1:8123/raw/unsloth/archives/ollama.tar.zst"


@pytest.fixture(scope="module")
def plan():
    return check(*LLAMA)


def test_what_is_served_by_default_is_what_plan_recommends(host):
    said, code = check("-v", playbook="plan")
    assert code == 0, said
    assert "8 × NVIDIA H800, 81559 MiB (driver 550.90.12, CUDA 12.4" in said
    assert "serve deepseek-r1-0528-w4afp8 with SGLang 0.5.10.post1" in said
    assert "recommended the same" in said
    said, code = check("--tags", "preflight")
    assert code == 0, said
    assert "the recipe of deepseek-r1-0528-w4afp8 was started with SGLang 0.5.23 on 1 x H200" in said


def test_the_plan_is_whole(host, plan):
    said, code = plan
    assert code == 0, said
    assert "fetch 9 files of model deepseek-r1-q4_k_m, 404430187616 bytes (376.7 GiB), from modelscope" in said
    assert "into /data/dsdeploy/models/deepseek-r1-q4_k_m" in said
    for number, size in enumerate(SEED, 1):
        assert f"DeepSeek-R1-Q4_K_M/DeepSeek-R1-Q4_K_M-0000{number}-of-00009.gguf: {size} bytes" in said
    assert "merge nothing: served from the first of its shards" in said
    assert "disk /data: 376.7 GiB needed (model deepseek-r1-q4_k_m 376.7 GiB), 3200.0 GiB free" in said


def test_without_a_hub_it_fails_as_a_run_would(host):
    said, code = check(*LLAMA, hub="http://127.0.0.1:9")
    assert code == 2
    assert "model deepseek-r1-q4_k_m could not be fetched; modelscope (127.0.0.1): " in said
    assert "fetch 9 files" not in said
    said, code = check(*OLLAMA, ARCHIVE.replace("8123", "9"))
    assert code == 2 and "Connection refused" in said


def test_nothing_was_written(host, plan):
    with host.sudo():
        assert host.check_output("find /data -mindepth 1") == ""
        assert not host.file("/etc/dsdeploy").exists


def test_ollama_needs_three_copies(host):
    said, code = check(*OLLAMA, ARCHIVE)
    assert code == 0, said
    assert "merge its 9 shards into one file of 404430187616 bytes" in said
    purposes = "model deepseek-r1-q4_k_m 376.7 GiB, merge of its 9 shards 376.7 GiB, Ollama's own store 376.7 GiB"
    assert f"disk /data: 1130.0 GiB needed ({purposes}), 3200.0 GiB free" in said


def test_the_seeds_mistakes_are_named(host):
    said, code = check(*OLLAMA, ARCHIVE, "-e", "ollama_gpu_layers=16", "-e", "ollama_keep_alive=10m")
    # The other 46 layers need 310 GiB of host memory, which the machine that plays this host may not have.
    assert (code == 0) != ("needs 310.3 GiB of host memory" in said), said
    assert "16 layers on the GPUs where 62 fit" in said
    assert "OLLAMA_KEEP_ALIVE 10m unloads 376.7 GiB after 600 s" in said


def test_what_does_not_fit_the_gpus_is_refused_with_what_would(host):
    said, code = check(*LLAMA, "-e", "llama_cpp_context=131072")
    assert code == 2
    assert "62 of 62 layers do not fit" in said
    assert "would fit" in said
