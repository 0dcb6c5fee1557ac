"""CUDA 12.4 from Debian's non-free."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from _play import refusals

sys.path.insert(0, str(Path(__file__).parents[2] / "shared"))
from playbook import CHECKOUT, run_role

KERNEL = '#include <cstdio>\n__global__ void f() {}\nint main() { f<<<1, 1>>>(); std::puts("linked"); }\n'


def login(host, command):
    """What a command prints in a login shell of an ordinary user."""
    return host.check_output("bash -lc %s", command)


def test_it_is_the_seed_s_version(host):
    assert "release 12.4, V12.4.131" in login(host, "nvcc --version")
    assert host.package("nvidia-cuda-toolkit").version.startswith("12.4.131~")


def test_a_kernel_compiles_and_links(host):
    host.check_output("rm -rf /tmp/kernel && mkdir /tmp/kernel")
    host.check_output("printf %%s %s > /tmp/kernel/k.cu", KERNEL)
    login(host, "cd /tmp/kernel && nvcc -arch=sm_90 -o k k.cu")
    assert login(host, "/tmp/kernel/k") == "linked"
    assert "sm_90" in login(host, "cuobjdump --list-elf /tmp/kernel/k")


def test_the_environment_has_each_entry_once(host):
    shown = login(host, '. /etc/profile; . /etc/profile; echo "$CUDA_HOME"; echo "$PATH"; echo "$LD_LIBRARY_PATH"')
    home, path, *libraries = shown.splitlines()
    assert host.file(f"{home}/bin/nvcc").exists
    assert len(path.split(":")) == len(set(path.split(":")))
    # Debian's libraries lie where the loader looks by itself.
    assert libraries in ([], [""])


def test_llama_cpp_finds_the_compiler(host):
    """By the module that its preflight asks; without a login shell, as Ansible runs."""
    run = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
    environment = dict(
        os.environ, ANSIBLE_CONFIG=f"{run}/ansible.cfg", ANSIBLE_COLLECTIONS_PATH=str(CHECKOUT / ".collections")
    )
    arguments = json.dumps({"prefix": "llama_cpp", "commands": ["nvcc"], "require_commands": ["nvcc"]})
    command = ["ansible", "-i", os.environ["MOLECULE_INVENTORY_FILE"], host.backend.get_hostname(), "--one-line"]
    command += ["-m", "dsdeploy.llm.preflight", "-a", arguments]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "/usr/bin/nvcc" in done.stdout


# In one run, as hosts of their own.
REFUSED = {
    "version": (
        {"cuda_toolkit_version": "12.8", "cuda_toolkit_install_method": "distribution"},
        "Debian 13 itself has CUDA 12.4, not 12.8",
    ),
    "preinstalled": ({"cuda_toolkit_install_method": "preinstalled"}, "there is no nvcc in /usr/local/cuda-12.4"),
    "number": ({"cuda_toolkit_version": "12"}, "cuda_toolkit_version is '12', expected two numbers in quotes"),
}


@pytest.fixture(scope="module")
def refused(host):
    variables = {name: variables for name, (variables, _line) in REFUSED.items()}
    return refusals(host, CHECKOUT / "molecule/shared/converge.yml", variables)


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_one_clear_line(refused, name):
    assert REFUSED[name][1] in refused[name]


def test_the_right_version_at_the_wrong_place_is_found_out(host):
    """The verification asks nvcc itself."""
    rc, said = run_role(
        host,
        "cuda_toolkit",
        "--tags=verify",
        cuda_toolkit_version="12.3",
        cuda_toolkit_install_method="distribution",
        _cuda_toolkit_distribution_version="12.3",
    )
    assert rc != 0 and "/usr/bin/nvcc is version 12.4.131, expected 12.3" in said
