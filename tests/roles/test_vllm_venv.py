# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role vllm_venv on hosts that are not here: its preflight over the facts of eight H800, and its locks for GPUs."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.import_role:
        name: dsdeploy.llm._common
        tasks_from: plan
    - ansible.builtin.import_role:
        name: dsdeploy.llm.model
        tasks_from: resolve
      vars: {model_engine: vllm}
    - dsdeploy.llm.host_facts:
    - ansible.builtin.import_role:
        name: dsdeploy.llm.vllm_venv
        tasks_from: preflight
    - ansible.builtin.copy:
        content: >-
          {{ _vllm_venv_wanted | combine({'tensor_parallel_size': _vllm_venv_tensor_parallel_size}) | to_json }}
        dest: "{{ playbook_dir }}/wanted.json"
"""
FIXTURES = ROOT / "tests/unit/fixtures/nvidia_smi/h800-x8-driver550"


@pytest.fixture
def tmp_path():
    """Everybody can pass through it, as the engine's user must; pytest's own is for its user alone."""
    with tempfile.TemporaryDirectory(prefix="dsdeploy-", dir="/var/tmp") as path:
        os.chmod(path, 0o755)
        yield Path(path)


@pytest.fixture
def preflight(tmp_path):
    """Run the preflight on eight H800 with a 550 driver; `(exit status, what it said, the parameters it came to)`."""
    fake = tmp_path / "nvidia-smi"
    fake.write_text(f'#!/bin/sh\ncase "$*" in *-x*) cat {FIXTURES}/nvidia-smi-q-x.xml ;; *) exit 1 ;; esac\n')
    fake.chmod(0o755)
    play = tmp_path / "play.yml"
    play.write_text(PLAYBOOK)

    def run(**variables):
        variables = {
            "dsdeploy_engine": "vllm",
            "dsdeploy_data_dir": str(tmp_path / "data"),
            "dsdeploy_install_dir": str(tmp_path / "opt"),
            "vllm_venv_port": 18743,
            "ansible_python_interpreter": sys.executable,
            **variables,
        }
        done = subprocess.run(
            [BIN / "ansible-playbook", "-i", "localhost,", "-c", "local", play, "-e", json.dumps(variables)],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=ROOT,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
            },
        )
        wanted = tmp_path / "wanted.json"
        said = " ".join((done.stdout + done.stderr).split())
        return done.returncode, said, json.loads(wanted.read_text()) if wanted.exists() else None

    return run


def test_tensor_parallelism_fills_what_pipelines_and_copies_leave(preflight):
    layout = {"vllm_venv_data_parallel_size": 2, "vllm_venv_pipeline_parallel_size": 2}
    status, said, wanted = preflight(dsdeploy_model="qwen2.5-72b-instruct", vllm_venv_version="0.19.1", **layout)
    assert status == 0, said
    assert wanted["tensor_parallel_size"] == 2
    layout["vllm_venv_tensor_parallel_size"] = 4
    status, said, _wanted = preflight(dsdeploy_model="qwen2.5-72b-instruct", vllm_venv_version="0.19.1", **layout)
    assert status != 0
    assert "needs 16 GPUs, this host has 8" in said


def test_a_model_by_path_is_planned_from_its_own_config(preflight, tmp_path):
    """DeepSeek V3.2's shapes in a directory of the user's own: too large for the host, before anything is installed."""
    config = ROOT / "tests/unit/fixtures/configs/given/deepseek-v3.2.json"
    model = tmp_path / "mine"
    model.mkdir()
    (model / "config.json").write_bytes(config.read_bytes())
    with (model / "model.safetensors").open("wb") as handle:
        handle.truncate(689 * 10**9)  # a hole
    status, said, _wanted = preflight(dsdeploy_model=str(model), vllm_venv_version="0.19.1")
    assert status != 0
    assert "mine does not fit on 8 × NVIDIA H800" in said
    # What its layers keep is not known, the weights fit: it goes on, with a layout and without a number.
    config = ROOT / "tests/unit/fixtures/configs/given/deepseek-v4-flash.json"
    (model / "config.json").write_bytes(config.read_bytes())
    with (model / "model.safetensors").open("wb") as handle:
        handle.truncate(160 * 10**9)
    more = {"vllm_venv_max_num_seqs": 64, "vllm_venv_max_model_len": 32768}
    status, said, wanted = preflight(dsdeploy_model=str(model), vllm_venv_version="0.19.1", **more)
    assert status == 0, said
    assert wanted["tensor_parallel_size"] == 8
    assert "sequences of" not in said


def test_r1_awq_is_served_with_its_recipe(preflight):
    status, said, wanted = preflight(dsdeploy_model="deepseek-r1-awq", vllm_venv_version="0.19.1")
    assert status == 0, said
    assert wanted["tensor_parallel_size"] == 8
    assert (wanted["dtype"], wanted["max_model_len"], wanted["reasoning_parser"]) == ("float16", 65536, "deepseek_r1")
    assert wanted["enforce_eager"] is None


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        (
            {"dsdeploy_model": "deepseek-r1", "vllm_venv_version": "0.19.1"},
            "deepseek-r1 does not fit on 8 × NVIDIA H800",
        ),
        (
            {"dsdeploy_model": "deepseek-r1-awq", "vllm_venv_version": "0.32.0"},
            "vLLM 0.32.0 is built for CUDA 13.0, the driver 550.90.12 serves CUDA 12.4",
        ),
        (
            {
                "dsdeploy_model": "deepseek-r1-distill-qwen-7b",
                "vllm_venv_version": "0.19.1",
                "vllm_venv_tensor_parallel_size": 8,
            },
            "28 attention heads do not divide by 8; possible are 1, 2, 4",
        ),
        (
            {"dsdeploy_model": "deepseek-r1-awq", "vllm_venv_version": "0.17.1"},
            "vLLM 0.17.1 has known vulnerabilities (CVE-2026-27893 and older), fixed in 0.18.0",
        ),
        (
            {"dsdeploy_model": "deepseek-r1-awq", "vllm_venv_version": "0.33.0"},
            "Set vllm_venv_version to one of 0.19.1, 0.32.0, or make a lock",
        ),
    ],
)
def test_what_cannot_work_on_eight_h800_is_refused(preflight, variables, line):
    status, said, wanted = preflight(**variables)
    assert (status, wanted) == (2, None)
    assert line in said


@pytest.mark.parametrize("version", ["0.32.0", "0.19.1"])
def test_the_locks_for_gpus_install_from_the_registry(tmp_path, version):
    """Resolved again, with every dependency of every package, and every file has its hash; nothing is installed."""
    lock = ROOT / f"roles/vllm_venv/files/locks/{version}-cuda.lock"
    done = subprocess.run(
        [BIN / "uv", "pip", "install", "--dry-run", "--require-hashes", "--no-build", "-r", lock]
        + ["--target", tmp_path, "--python-version", "3.12", "--python-platform", "x86_64-manylinux_2_35"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert f"+ vllm=={version}" in done.stderr
