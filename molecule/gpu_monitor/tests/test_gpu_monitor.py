"""nvitop, really installed, on hosts without a GPU."""

import json
import re

import pytest
from _play import CHECKOUT, hosts, leftovers, play, refusals

CONVERGE = CHECKOUT / "molecule/shared/converge.yml"
ROOT = "/opt/dsdeploy/gpu_monitor"


def test_it_is_on_everybody_s_path_and_tells_its_version(host):
    assert host.check_output("nvitop --version") == "nvitop 1.7.2"
    assert host.check_output("sudo nvitop --version") == "nvitop 1.7.2"
    assert host.file("/usr/local/bin/nvitop").linked_to == f"{ROOT}/bin/nvitop"


def test_it_says_that_there_is_no_gpu(host):
    shown = host.run("nvitop --once")
    assert shown.rc != 0
    assert "NVIDIA Management Library" in shown.stdout + shown.stderr


def test_it_is_what_was_pinned_and_nothing_else(host):
    program = (
        "import importlib.metadata as m; print(*(d.name + '==' + d.version for d in m.distributions()), sep='\\n')"
    )
    listed = host.check_output(f'{ROOT}/bin/python -c "{program}"').splitlines()
    assert {"nvitop==1.7.2", "nvidia-ml-py==13.615.71", "psutil==7.2.2"} <= set(listed)
    assert not [line for line in listed if line.startswith("prometheus")]


def test_there_is_no_exporter(host):
    assert not host.file("/etc/systemd/system/dsdeploy-gpu-exporter.service").exists
    assert not host.socket("tcp://127.0.0.1:5050").is_listening


# In one run, as hosts of their own: variables, what is said, and what is not there.
REFUSED = {
    "no-gpu": (
        {"gpu_monitor_exporter_state": "started"},
        "there is no GPU to export metrics of: ",
        "/etc/dsdeploy/dsdeploy-gpu-exporter.env",
    ),
    "port": (
        {"gpu_monitor_exporter_port": 99999},
        "gpu_monitor_exporter_port is 99999, expected a whole number from 1 to 65535",
        "/etc/dsdeploy/dsdeploy-gpu-exporter.env",
    ),
    "hash": (
        {
            "gpu_monitor_requirements": ["nvitop==1.7.2 --hash=sha256:" + "0" * 64],
            "dsdeploy_install_dir": "/opt/wrong",
        },
        "DO NOT MATCH THE HASHES",
        "/opt/wrong/gpu_monitor/.dsdeploy-venv.json",
    ),
}


@pytest.fixture(scope="module")
def refused(host):
    return refusals(host, CONVERGE, {name: variables for name, (variables, *_rest) in REFUSED.items()})


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(host, refused, name):
    _variables, line, path = REFUSED[name]
    assert line in refused[name]
    assert not host.file(path).exists


@pytest.fixture(scope="session")
def removed():
    """On all hosts at once, by host: the changes of the removal and of another, what was left, and what came back."""

    def changes(**variables):
        said = play(None, CONVERGE, "-e", json.dumps(variables))
        return {name: int(number) for name, number in re.findall(r"^(\S+) +: ok=.* changed=(\d+)", said, re.M)}

    first = changes(gpu_monitor_state="absent")
    left = {name: (host.file("/usr/local/bin/nvitop").exists, leftovers(host)) for name, host in hosts().items()}
    again = changes(gpu_monitor_state="absent")
    changes()
    back = {name: host.check_output("nvitop --version") for name, host in hosts().items()}
    return {name: (first[name], left[name], again[name], back[name]) for name in hosts()}


def test_it_can_be_removed_and_comes_back(host, removed):
    # Nor is anything else left.
    assert removed[host.backend.get_hostname()] == (2, (False, []), 0, "nvitop 1.7.2")
