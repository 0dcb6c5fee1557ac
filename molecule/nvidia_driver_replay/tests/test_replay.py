"""Hosts of many kinds, replayed: what the facts say, what is refused or found wrong, and by which exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]
H800 = ["--gpu=0x2324"] * 8 + ["--nvswitches=4"]
CONTAINER = ["--no-module-rights"]
DRIVER = ["--driver=550.90.12"]


def run(command):
    environment = dict(os.environ, ANSIBLE_CONFIG=f"{os.environ['MOLECULE_EPHEMERAL_DIRECTORY']}/ansible.cfg")
    environment["ANSIBLE_COLLECTIONS_PATH"] = str(CHECKOUT / ".collections")
    environment["ANSIBLE_CALLBACK_RESULT_FORMAT"] = "json"
    program = Path(sys.executable).with_name(command[0])
    command = [program, *command[1:], "-i", os.environ["MOLECULE_INVENTORY_FILE"]]
    return subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=300)


def play(host, case, machine, rc=0):
    """Make the host a machine of that kind, on which nvidia-smi says what is recorded as `case`."""
    with host.sudo():
        host.check_output("ln -sfn nvidia_smi/%s /srv/case", case)
        host.check_output("sh -c 'echo %s > /srv/case/rc'" % rc)  # noqa: UP031
        host.check_output(f"python3 /srv/nvidia_host.py /srv/standin {' '.join(machine)}")


def prepare(*variables):
    """`dsdeploy prepare`: its exit code, what failed in one line, and the warnings."""
    done = run(["dsdeploy", "prepare", "--json"] + [word for variable in variables for word in ("-e", variable)])
    events = [json.loads(line) for line in done.stdout.splitlines()]
    failures = events[-1]["failures"]
    assert done.returncode == events[-1]["exit_code"], done.stderr
    assert all(failure["hint"] for failure in failures), failures
    # What the checks at the end say of such a host is for scenario doctor.
    told = [event for event in events if event["event"] == "warning" and event["task"] != "Check the host"]
    warnings = " ".join(event["text"] for event in told)
    return done.returncode, "; ".join(failure["msg"] for failure in failures), warnings


def facts():
    done = run(["ansible", "all", "-m", "dsdeploy.llm.nvidia_smi_facts"])
    said = done.stdout
    return json.loads(said[said.index("{") :])["ansible_facts"]["nvidia_smi"]


def test_eight_h800(host):
    play(host, "h800-x8-driver550", H800 + CONTAINER + DRIVER)
    assert facts()["summary"] == "8 x NVIDIA H800, 81559 MiB each, driver 550.90.12, CUDA 12.4"
    assert prepare("nvidia_driver_expected_gpus=8") == (0, "", "")
    code, message, _warnings = prepare("nvidia_driver_expected_gpus=16")
    assert (code, message) == (3, "gpu_missing: nvidia-smi shows 8 GPUs, expected are 16")


def test_one_run_at_a_time(host):
    play(host, "h800-x8-driver550", H800 + CONTAINER + DRIVER)
    other = {"machine": "another", "pid": 1, "started": "1", "who": "you@there", "since": "2026-01-01T00:00:00Z"}
    with host.sudo():
        host.check_output("sh -c 'echo \"$0\" > /run/dsdeploy.lock' %s", json.dumps(other))
    code, message, _warnings = prepare()
    assert code == 1
    assert message == "another run works on this host: you@there, process 1, since 2026-01-01T00:00:00Z"
    with host.sudo():  # the lock is root's alone
        assert "you@there" in host.file("/run/dsdeploy.lock").content_string
    assert prepare("dsdeploy_break_lock=true")[0] == 0
    assert not host.file("/run/dsdeploy.lock").exists


def test_no_fabric_manager_on_the_machine_itself(host):
    play(host, "h800-x8-driver550", H800 + DRIVER)
    code, message, _warnings = prepare()
    assert code == 3
    assert (
        message == "fabric_manager_missing: the host has 4 NVSwitches and no fabric manager; CUDA fails with error 802"
    )


def test_mig(host):
    play(host, "mig-a100", ["--gpu=0x20b2", *CONTAINER])
    (gpu, *_others) = facts()["gpus"]
    assert gpu["mig"]["mode"] == "Enabled"
    assert len(gpu["mig"]["instances"]) > 1
    assert prepare()[0] == 0


@pytest.mark.parametrize(
    ("case", "rc", "said"),
    [
        ("driver-library-mismatch", 18, "driver_library_mismatch: Failed to initialize NVML: Driver/library version"),
        ("driver-not-loaded", 9, "driver_not_loaded: "),
        ("gpu-lost-one-of-eight", 15, "gpu_missing: nvidia-smi shows 7 GPUs, the PCI bus holds 8"),
        ("fabric-in-progress", 0, "fabric_not_ready: the NVLink fabric is in state In Progress"),
    ],
)
def test_what_nvidia_smi_tells_of(host, case, rc, said):
    play(host, case, H800 + CONTAINER + DRIVER, rc)
    code, message, _warnings = prepare()
    assert code == 3
    assert said in message


def test_a_host_without_gpu_is_told_of_and_left_alone(host):
    play(host, "no-devices", [], 6)
    code, message, warnings = prepare("nvidia_driver_install_method=nvidia")
    assert (code, message) == (0, "")
    assert "this host has no NVIDIA GPU: no driver is needed" in warnings
    code, message, _warnings = prepare("nvidia_driver_expected_gpus=8")
    assert code == 1
    assert message == "this host has no NVIDIA GPU; 8 are expected (nvidia_driver_expected_gpus)"


def test_a_value_that_cannot_be_meant_is_wrong_usage(host):
    play(host, "h800-x8-driver550", H800 + CONTAINER + DRIVER)
    code, message, _warnings = prepare("nvidia_driver_expected_gpus=-8", "nvidia_driver_version=newest")
    assert code == 2
    assert message == (
        "nvidia_driver_version is 'newest', expected a version, such as 1.2.3 or nothing; "
        "nvidia_driver_expected_gpus is '-8', expected a whole number from 0 up"
    )


@pytest.mark.parametrize(
    ("machine", "variables", "said"),
    [
        (
            H800 + CONTAINER,
            ["nvidia_driver_install_method=nvidia"],
            "this is a container, which may not load kernel modules",
        ),
        (
            ["--gpu=0x2901", "--kernel=4.19.0-26-amd64"],
            ["nvidia_driver_install_method=nvidia", "nvidia_driver_kernel_modules=proprietary"],
            "the kernel is 4.19.0-26-amd64, the driver wants 5.0 or newer; "
            "Blackwell GPUs need open kernel modules, not proprietary ones",
        ),
        (
            ["--gpu=0x2330", "--kernel=6.1.0-nowhere"],
            ["nvidia_driver_install_method=distribution"],
            "no repository of this host has the package linux-headers-6.1.0-nowhere",
        ),
    ],
)
def test_what_is_refused_before_anything_is_changed(host, machine, variables, said):
    play(host, "driver-not-loaded", machine, 9)
    code, message, _warnings = prepare(*variables)
    assert (code, message) == (1, said)
    assert not host.file("/etc/apt/preferences.d/dsdeploy-nvidia-driver.pref").exists
    assert not host.package("nvidia-smi").is_installed
