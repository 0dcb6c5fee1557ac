"""Machines of many kinds, replayed: what the facts say, what is refused or found wrong, and by which exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import testinfra
import yaml

CHECKOUT = Path(__file__).parents[3]
# By host, of what kind the failure is, and what it says.
WRONG = {
    "sixteen": "gpu_missing: nvidia-smi shows 8 GPUs, expected are 16",
    "fabric-manager": (
        "fabric_manager_missing: the host has 4 NVSwitches and no fabric manager; CUDA fails with error 802"
    ),
    "library": "driver_library_mismatch: Failed to initialize NVML: Driver/library version",
    "not-loaded": "driver_not_loaded: ",
    "lost": "gpu_missing: nvidia-smi shows 7 GPUs, the PCI bus holds 8",
    "fabric": "fabric_not_ready: the NVLink fabric is in state In Progress",
}
REFUSED = {
    "locked": "another run works on this host: you@there, process 1, since 2026-01-01T00:00:00Z",
    "none-of-eight": "this host has no NVIDIA GPU; 8 are expected (nvidia_driver_expected_gpus)",
    "container": "this is a container, which may not load kernel modules",
    "blackwell": (
        "the kernel is 4.19.0-26-amd64, the driver wants 5.0 or newer; "
        "Blackwell GPUs need open kernel modules, not proprietary ones"
    ),
    "headers": "no repository of this host has the package linux-headers-6.1.0-nowhere",
}
RIGHT = ("h800", "mig", "none")
OTHER = {"machine": "another", "pid": 1, "started": "1", "who": "you@there", "since": "2026-01-01T00:00:00Z"}


def run(command):
    environment = dict(os.environ, ANSIBLE_CONFIG=f"{os.environ['MOLECULE_EPHEMERAL_DIRECTORY']}/ansible.cfg")
    environment["ANSIBLE_COLLECTIONS_PATH"] = str(CHECKOUT / ".collections")
    environment["ANSIBLE_CALLBACK_RESULT_FORMAT"] = "json"
    environment["ANSIBLE_FORKS"] = "14"
    # Molecule run by hand asks for colours, which are no JSON.
    environment.update(ANSIBLE_FORCE_COLOR="0", ANSIBLE_NOCOLOR="1")
    program = Path(sys.executable).with_name(command[0])
    command = [program, *command[1:], "-i", os.environ["MOLECULE_INVENTORY_FILE"]]
    return subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=600)


def prepare(names, *variables):
    """`dsdeploy prepare` over these hosts: its exit code; by host the kind and line of each failure; the warnings."""
    command = ["dsdeploy", "prepare", "--json", "--limit", ",".join(f"replay-{name}" for name in names)]
    done = run(command + [word for variable in variables for word in ("-e", variable)])
    events = [json.loads(line) for line in done.stdout.splitlines()]
    summary = events[-1]
    assert done.returncode == summary["exit_code"], done.stderr
    assert all(failure["hint"] for failure in summary["failures"]), summary["failures"]
    found = {name: [] for name in names}
    for failure in summary["failures"]:
        found[failure["host"].removeprefix("replay-")].append((failure["kind"], failure["msg"]))
    # What the checks at the end say of such a host is for scenario doctor.
    told = [event for event in events if event["event"] == "warning" and event["task"] != "Check the host"]
    warnings = " ".join(event["text"] for event in told)
    return done.returncode, found, warnings


@pytest.fixture(scope="session")
def machine():
    """A host by the last part of its name."""
    config = os.environ["MOLECULE_EPHEMERAL_DIRECTORY"] + "/ssh_config"
    return lambda name: testinfra.get_host(f"ssh://replay-{name}", ssh_config=config)


@pytest.fixture(scope="session")
def wrong():
    return prepare(WRONG)


@pytest.fixture(scope="session")
def refused(machine):
    host = machine("locked")
    with host.sudo():
        host.check_output("sh -c 'echo \"$0\" > /run/dsdeploy.lock' %s", json.dumps(OTHER))
    return prepare(REFUSED)


def test_every_machine_is_in_a_test():
    scenario = yaml.safe_load(Path(os.environ["MOLECULE_FILE"]).read_text(encoding="utf-8"))
    names = {platform["name"].removeprefix("replay-") for platform in scenario["platforms"]}
    assert names == {*WRONG, *REFUSED, *RIGHT}


def test_the_facts():
    done = run(["ansible", "replay-h800,replay-mig", "-m", "dsdeploy.llm.nvidia_smi_facts"])
    found, decoder, text = [], json.JSONDecoder(), done.stdout
    while "{" in text:
        result, end = decoder.raw_decode(text[text.index("{") :])
        found.append(result["ansible_facts"]["nvidia_smi"])
        text = text[text.index("{") + end :]
    summaries = {facts["summary"] for facts in found}
    assert "8 x NVIDIA H800, 81559 MiB each, driver 550.90.12, CUDA 12.4" in summaries
    (mig,) = [gpu["mig"] for facts in found for gpu in facts["gpus"] if gpu["mig"]["mode"] == "Enabled"]
    assert len(mig["instances"]) > 1


@pytest.mark.parametrize("name", WRONG)
def test_what_is_found_wrong(wrong, name):
    code, found, _warnings = wrong
    ((kind, message),) = found[name]
    assert (code, kind) == (3, "verify")
    assert WRONG[name] in message


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_before_anything_is_changed(refused, machine, name):
    code, found, _warnings = refused
    ((_kind, message),) = found[name]
    assert (code, message) == (1, REFUSED[name])
    host = machine(name)
    assert not host.file("/etc/apt/preferences.d/dsdeploy-nvidia-driver.pref").exists
    assert not host.package("nvidia-smi").is_installed


def test_one_run_at_a_time(refused, machine):
    host = machine("locked")
    with host.sudo():  # the lock is root's alone
        assert "you@there" in host.file("/run/dsdeploy.lock").content_string
    assert prepare(["locked"], "dsdeploy_break_lock=true")[:2] == (0, {"locked": []})
    assert not host.file("/run/dsdeploy.lock").exists


def test_a_host_without_gpu_is_told_of_and_left_alone():
    """Beside two that have some."""
    code, found, warnings = prepare(RIGHT)
    assert (code, found) == (0, {"h800": [], "mig": [], "none": []})
    assert warnings.count("this host has no NVIDIA GPU: no driver is needed") == 1


def test_a_value_that_cannot_be_meant_is_wrong_usage():
    variables = ("nvidia_driver_expected_gpus=-8", "nvidia_driver_version=newest")
    code, found, _warnings = prepare(["h800"], *variables)
    ((kind, message),) = found["h800"]
    assert (code, kind) == (2, "usage")
    assert message == (
        "nvidia_driver_version is 'newest', expected a version, such as 1.2.3 or nothing; "
        "nvidia_driver_expected_gpus is '-8', expected a whole number from 0 up"
    )
