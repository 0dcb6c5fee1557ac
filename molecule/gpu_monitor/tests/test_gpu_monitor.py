"""nvitop, really installed, on hosts without a GPU."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "shared"))
from _play import leftovers
from playbook import run_role

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


def test_an_exporter_without_a_gpu_is_refused(host):
    rc, said = run_role(host, "gpu_monitor", gpu_monitor_exporter_state="started")
    assert rc != 0
    assert "there is no GPU to export metrics of: " in said
    assert not host.file("/etc/dsdeploy/dsdeploy-gpu-exporter.env").exists


def test_a_value_that_cannot_be_meant_is_refused(host):
    rc, said = run_role(host, "gpu_monitor", gpu_monitor_exporter_port=99999)
    assert rc != 0
    assert "gpu_monitor_exporter_port is 99999, expected a whole number from 1 to 65535" in said


def test_a_hash_that_does_not_fit_is_refused(host):
    wrong = ["nvitop==1.7.2 --hash=sha256:" + "0" * 64]
    rc, said = run_role(host, "gpu_monitor", gpu_monitor_requirements=wrong, dsdeploy_install_dir="/opt/wrong")
    assert rc != 0
    assert "DO NOT MATCH THE HASHES" in said
    assert not host.file("/opt/wrong/gpu_monitor/.dsdeploy-venv.json").exists


def test_it_can_be_removed_and_comes_back(host):
    rc, said = run_role(host, "gpu_monitor", gpu_monitor_state="absent")
    assert rc == 0 and "changed=2 " in said
    assert not host.file("/usr/local/bin/nvitop").exists
    # Nor anything else.
    assert leftovers(host) == []
    assert "changed=0 " in run_role(host, "gpu_monitor", gpu_monitor_state="absent")[1]
    assert run_role(host, "gpu_monitor")[0] == 0
    assert host.check_output("nvitop --version") == "nvitop 1.7.2"
