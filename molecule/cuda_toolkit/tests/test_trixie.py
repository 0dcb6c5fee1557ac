"""A host that has NVIDIA's repository already."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "shared"))
from playbook import run_role

testinfra_hosts = ["ssh://cuda-toolkit-trixie"]
SOURCES = "/etc/apt/sources.list.d/dsdeploy-nvidia.sources"


def test_a_version_behind_a_link_stays_as_it_is(host):
    """On another disk, as where the system's is small: nothing is to be changed."""
    with host.sudo():
        host.check_output("mv /usr/local/cuda-13.0 /opt/cuda-13.0 && ln -s /opt/cuda-13.0 /usr/local/cuda-13.0")
    rc, said = run_role(host, "cuda_toolkit")
    with host.sudo():
        host.check_output("rm /usr/local/cuda-13.0 && mv /opt/cuda-13.0 /usr/local/cuda-13.0")
    assert rc == 0 and "changed=0 " in said, said


def test_a_directory_in_the_link_s_place_is_refused(host):
    """update-alternatives leaves it, with a warning: login shells would get what lies there."""
    with host.sudo():
        host.check_output("rm /usr/local/cuda && cp -r /usr/local/cuda-13.0 /usr/local/cuda")
    rc, said = run_role(host, "cuda_toolkit")
    with host.sudo():
        host.check_output("rm -r /usr/local/cuda && ln -s /etc/alternatives/cuda /usr/local/cuda")
    assert rc != 0
    assert "/usr/local/cuda is a directory of its own, where a link to /usr/local/cuda-13.0 is to be" in said


def test_a_repository_that_is_there_already_is_left_alone(host):
    """As NVIDIA's own cuda-keyring package leaves it; apt refuses the same repository with two keys."""
    source = host.file(SOURCES).content_string
    with host.sudo():
        host.check_output("sed 's,\\.asc$,-own.asc,' %s > /tmp/own.sources", SOURCES)
        key = source.rpartition("Signed-By: ")[2].strip()
        host.check_output("cp %s %s", key, key.replace(".asc", "-own.asc"))
        host.check_output("mv /tmp/own.sources /etc/apt/sources.list.d/cuda.sources && rm %s", SOURCES)
    rc, said = run_role(host, "cuda_toolkit", cuda_toolkit_install_method="nvidia")
    assert rc == 0 and "changed=0 " in said
    assert not host.file(SOURCES).exists
    with host.sudo():
        host.check_output("rm /etc/apt/sources.list.d/cuda.sources")
    assert run_role(host, "cuda_toolkit", cuda_toolkit_install_method="nvidia")[0] == 0
    assert host.file(SOURCES).exists
