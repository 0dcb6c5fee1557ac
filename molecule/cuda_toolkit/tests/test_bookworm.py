"""Several versions side by side, and what is refused."""

import sys
from pathlib import Path

import pytest
from _play import refusals

sys.path.insert(0, str(Path(__file__).parents[2] / "shared"))
from playbook import run_role

testinfra_hosts = ["ssh://cuda-toolkit-bookworm"]


def version(host):
    return host.check_output("bash -lc %s", "nvcc --version")


def test_versions_lie_side_by_side_and_change_places(host):
    assert "release 12.8" in version(host)
    rc, said = run_role(host, "cuda_toolkit", cuda_toolkit_version="12.4", cuda_toolkit_extra_versions=["12.8"])
    assert rc == 0, said
    assert "release 12.4" in version(host)
    assert "release 12.8" in host.check_output("/usr/local/cuda-12.8/bin/nvcc --version")


REFUSED = {
    "nowhere": (
        {"cuda_toolkit_version": "12.5"},
        "NVIDIA's repository has no cuda-toolkit-12-5 for Debian 12; it has cuda-toolkit-12-4, cuda-toolkit-12-8, "
        "cuda-toolkit-13-0. Set cuda_toolkit_version to one of them",
    ),
    "compiler": (
        {"cuda_toolkit_version": "11.7", "cuda_toolkit_host_compiler": "g++"},
        "nvcc of CUDA 11.7 takes gcc up to 11, g++ is 12",
    ),
    "air-gapped": (
        {"cuda_toolkit_install_method": "nvidia", "dsdeploy_mirrors": {"air_gapped": True}},
        "dsdeploy_mirrors.air_gapped is set: name a mirror of the NVIDIA repository",
    ),
    "key": (
        {"cuda_toolkit_install_method": "nvidia", "nvidia_repository_key_fingerprint": "0" * 40},
        "expected one, " + "0" * 40 + ". Do not trust this mirror",
    ),
}


@pytest.fixture(scope="module")
def refused(host):
    variables = {name: variables for name, (variables, _line) in REFUSED.items()}
    return refusals(host, Path(__file__).parents[1] / "converge.yml", variables)


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_one_clear_line(host, refused, name):
    assert REFUSED[name][1] in refused[name]
    assert not host.file("/usr/share/keyrings/dsdeploy-nvidia-" + "0" * 40 + ".asc").exists
    assert "release 12.4" in version(host)
