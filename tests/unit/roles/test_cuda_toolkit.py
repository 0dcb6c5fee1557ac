# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What role cuda_toolkit would install, for each distribution."""

import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from resolve import HOSTS, ROLES, resolve

HOSTS = [host for host in HOSTS if host != "SLES 15"]


def of(host, name, there=False, host_facts=None, **inventory):
    versions = [inventory.get("cuda_toolkit_version", "12.4"), *inventory.get("cuda_toolkit_extra_versions", [])]
    found = [{"item": version, "stat": {"exists": there}} for version in versions]
    known = {"_cuda_toolkit_found": {"results": found}, "_cuda_toolkit_gcc": {"stdout": "11.4.0"}, **inventory}
    return resolve("cuda_toolkit", host, name, host_facts, **known)


@pytest.mark.parametrize("host", HOSTS)
def test_cuda_12_4_by_default(host):
    expected = "distribution" if host == "Debian 13" else "nvidia"
    assert of(host, "_cuda_toolkit_method") == expected


@pytest.mark.parametrize("host", HOSTS)
def test_packages_of_nvidia_s_repository(host):
    compiler = "g++" if host.startswith(("Ubuntu", "Debian")) else "gcc-c++"
    assert of(host, "_cuda_toolkit_nvidia_packages") == ["cuda-toolkit-12-4", compiler]
    both = of(host, "_cuda_toolkit_nvidia_packages", cuda_toolkit_extra_versions=["11.8"])
    assert both == ["cuda-toolkit-12-4", "cuda-toolkit-11-8", compiler]


@pytest.mark.parametrize(
    ("host", "version"),
    [
        ("Ubuntu 22.04", "11.5"),
        ("Ubuntu 24.04", "12.0"),
        ("Debian 12", "11.8"),
        ("Debian 13", "12.4"),
        ("RHEL 9", "none"),
    ],
)
def test_the_distribution_s_own_version(host, version):
    assert of(host, "_cuda_toolkit_distribution_version") == version
    if version != "none":
        assert of(host, "_cuda_toolkit_method", cuda_toolkit_version=version) == "distribution"


def test_several_versions_are_nvidia_s_matter():
    assert of("Debian 13", "_cuda_toolkit_method", cuda_toolkit_extra_versions=["12.8"]) == "nvidia"


def test_what_is_there_is_taken():
    assert of("Debian 13", "_cuda_toolkit_method", there=True) == "preinstalled"
    assert of("RHEL 9", "_cuda_toolkit_nvcc", there=True) == "/usr/local/cuda-12.4/bin/nvcc"


def test_places():
    assert of("Debian 13", "_cuda_toolkit_nvcc") == "/usr/bin/nvcc"
    assert of("Ubuntu 22.04", "_cuda_toolkit_home") == "/usr/local/cuda-12.4"


@pytest.mark.parametrize(
    ("host", "program"),
    [("Ubuntu 22.04", "apt-cache"), ("Debian 12", "apt-cache"), ("RHEL 8", "dnf"), ("Rocky 9", "dnf")],
)
def test_who_is_asked_for_the_versions(host, program):
    assert of(host, "_cuda_toolkit_offered_query[ansible_facts.os_family]")[0] == program


def test_the_driver_of_the_seed_goes_with_the_cuda_of_the_seed():
    driver = {"nvidia_smi": {"status": "ok", "driver_version": "550.90.12", "gpus": [{}]}}
    assert of("Ubuntu 22.04", "_cuda_toolkit_compatible", host_facts=driver) == {"problems": [], "warnings": []}
    assert of("Ubuntu 22.04", "_cuda_toolkit_run", host_facts=driver) is True
    assert of("Ubuntu 22.04", "_cuda_toolkit_run") is False


def test_too_new_a_compiler_is_refused_unless_the_distribution_sees_to_it():
    new = {"_cuda_toolkit_gcc": {"stdout": "14.2.0"}}
    (problem,) = of("Debian 13", "_cuda_toolkit_compatible", cuda_toolkit_install_method="nvidia", **new)["problems"]
    assert problem["msg"] == "nvcc of CUDA 12.4 takes gcc up to 13, g++ is 14.2.0"
    assert of("Debian 13", "_cuda_toolkit_compatible", **new)["problems"] == []


@pytest.mark.parametrize(
    ("policy", "candidate"),
    [
        ("nvidia-cuda-toolkit:\n  Installed: (none)\n  Candidate: 12.4.131~12.4.1-2\n", "12.4.131~12.4.1-2"),
        ("nvidia-cuda-toolkit:\n  Installed: (none)\n  Candidate: (none)\n", "none"),
        ("", "none"),
    ],
)
def test_the_candidate_that_apt_tells(policy, candidate):
    assert of("Debian 13", "_cuda_toolkit_candidate", _cuda_toolkit_policy={"stdout": policy}) == candidate


@pytest.mark.parametrize(
    ("room", "program"),
    [("cuda_toolkit/tasks/install_distribution.yml", "apt-cache"), ("nvidia_driver/tasks/install_RedHat.yml", "dnf")],
)
def test_what_is_read_by_english_words_is_said_in_english(room, program):
    """Module command runs in the host's own locale: `apt-cache policy` in Chinese has no Candidate."""
    tasks = yaml.safe_load((ROLES / room).read_text(encoding="utf-8"))
    (task,) = [task for task in tasks if program in str(task.get("ansible.builtin.command"))]
    asked = task["environment"]
    asked = asked if isinstance(asked, dict) else resolve("nvidia_driver", "RHEL 9", asked.strip("{} "))
    assert asked["LC_ALL"] == "C"
