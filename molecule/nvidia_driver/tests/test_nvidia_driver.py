"""The driver from a stand-in for NVIDIA's repository: pins, holds, upgrade, downgrade, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from _play import aliases

testinfra_hosts = ["ssh://nvidia-driver-host"]
CHECKOUT = Path(__file__).parents[3]
PACKAGES = (
    "nvidia-kernel-open-dkms",
    "nvidia-driver-cuda",
    "nvidia-smi",
    "libcuda1",
    "libnvidia-ml1",
    "nvidia-fabricmanager-550",
)
BLACKLIST = "/etc/apt/apt.conf.d/52dsdeploy-nvidia-driver"
PREFERENCES = "/etc/apt/preferences.d/dsdeploy-nvidia-driver.pref"


def prepare(*variables, host="nvidia-driver-host", options=()):
    """`dsdeploy prepare` over the host: its exit code, and the last JSON line, the summary."""
    run = os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]
    command = [
        Path(sys.executable).with_name("dsdeploy"),
        "prepare",
        "-i",
        os.environ["MOLECULE_INVENTORY_FILE"],
        "--json",
    ]
    command += ["--limit", host, *options] + [word for variable in variables for word in ("-e", variable)]
    environment = dict(os.environ, ANSIBLE_CONFIG=f"{run}/ansible.cfg")
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=300)
    summary = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == summary["exit_code"], done.stderr
    return done.returncode, summary


def failure(summary):
    assert len(summary["failures"]) == 1, summary["failures"]
    return summary["failures"][0]["msg"], summary["failures"][0]["hint"]


def versions(host):
    return {host.package(name).version for name in PACKAGES}


def boot(host):
    """What a boot would do: the kernel runs the module that is installed. (The host is a container.)"""
    with host.sudo():
        host.check_output("modprobe nvidia")


# unattended-upgrades knows no repository but NVIDIA's here: Debian's 60,000 packages take it a minute in CI, each time.
UPGRADES = """
set -eu
mkdir -p /tmp/only
cp /etc/apt/sources.list.d/dsdeploy-nvidia.sources /tmp/only/
cat > /tmp/only.conf <<X
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "/tmp/only";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
X
APT_CONFIG=/tmp/only.conf unattended-upgrade --dry-run --debug 2>&1
"""


def upgrades(host):
    """What unattended-upgrades would upgrade of the driver."""
    with host.sudo():
        said = host.check_output("sh -c %s", UPGRADES)
    lines = [line for line in said.splitlines() if line.startswith("pkgs that look like they should be upgraded: ")]
    assert lines, said
    return {name for name in lines[-1].partition(": ")[2].split() if name in PACKAGES}


def test_every_package_is_of_the_version_asked_for(host):
    assert versions(host) == {"550.90.12-1"}
    # The repository has newer ones.
    assert "560.35.03-1" in host.check_output("apt-cache madison nvidia-smi")
    assert not host.package("nvidia-kernel-dkms").is_installed


def test_what_dkms_builds_with_came_with_it(host):
    assert host.package("linux-headers-6.1.0-standin").is_installed
    assert host.package("gcc-99").is_installed


def test_packages_are_held(host):
    assert set(host.check_output("apt-mark showhold").split()) == set(PACKAGES)


def test_the_driver_is_loaded_and_all_gpus_answer(host):
    with host.sudo():
        assert "550.90.12" in host.file("/srv/standin/proc/driver/nvidia/version").content_string
    assert "<attached_gpus>8</attached_gpus>" in host.check_output("nvidia-smi -q -x")


def test_services_run_where_there_is_what_they_serve(host):
    for name in ("nvidia-persistenced", "nvidia-fabricmanager"):
        assert host.service(name).is_enabled
        assert host.service(name).is_running
        unit = host.check_output("systemctl cat %s", name)
        assert "ConditionPathExists=/srv/standin/proc/driver/nvidia/version" in unit
        # Not a device file: after a boot it is these services that make them.
        assert "=/dev/nvidia" not in unit and "After=modprobe@nvidia.service" in unit


def test_after_a_boot_they_do_not_wait_for_device_files_that_they_make_themselves(host):
    """Without a rule of udev there are none, and who computes first has not the rights to make them."""
    with host.sudo():
        host.check_output("systemctl stop nvidia-persistenced nvidia-fabricmanager")
        host.check_output("rm /dev/nvidiactl /dev/nvidia-nvswitch0")
        host.check_output("systemctl start nvidia-persistenced nvidia-fabricmanager")
        host.check_output("touch /dev/nvidiactl /dev/nvidia-nvswitch0")
    for name in ("nvidia-persistenced", "nvidia-fabricmanager"):
        assert host.service(name).is_running, name
    # Without the driver the same host boots clean.
    version = "/srv/standin/proc/driver/nvidia/version"
    with host.sudo():
        host.check_output("systemctl stop nvidia-persistenced nvidia-fabricmanager && mv %s /root/version", version)
        host.check_output("systemctl start nvidia-persistenced nvidia-fabricmanager")
    for name in ("nvidia-persistenced", "nvidia-fabricmanager"):
        assert not host.service(name).is_running, name
    with host.sudo():
        assert host.check_output("systemctl --failed --no-legend") == ""
        host.check_output("mv /root/version %s", version)
        host.check_output("systemctl start nvidia-persistenced nvidia-fabricmanager")


def test_persistence_mode_is_on_whatever_the_unit_says(host):
    """Ubuntu's has --no-persistence-mode, as the stand-in's, and is stopped when no unit wants it."""
    unit = host.check_output("systemctl show nvidia-persistenced --property=StopWhenUnneeded,ExecStart")
    assert "--no-persistence-mode" in unit
    assert "StopWhenUnneeded=no" in unit
    assert host.check_output("cat /run/standin-persistence-mode") == "1"


def test_nouveau_is_blocked(host):
    assert "blacklist nouveau" in host.check_output("/sbin/modprobe --showconfig").splitlines()


def test_unattended_upgrades_leave_it_alone(host):
    with host.sudo():
        conf = 'Unattended-Upgrade::Origins-Pattern {"origin=NVIDIA";};'
        host.check_output("sh -c 'echo \"$0\" > /etc/apt/apt.conf.d/99origin' %s", conf)
        # Not for the hold's sake, nor for the pin's: without both it is the drop-in that keeps them off.
        host.check_output(f"apt-mark unhold {' '.join(PACKAGES)}")
        host.check_output("mv %s /root/pref", PREFERENCES)
    assert upgrades(host) == set()
    with host.sudo():
        host.check_output("mv %s /root/blacklist", BLACKLIST)
    assert "libcuda1" in upgrades(host)
    code, summary = prepare()
    assert (code, versions(host)) == (0, {"550.90.12-1"})
    assert upgrades(host) == set()
    assert set(host.check_output("apt-mark showhold").split()) == set(PACKAGES)


def test_upgrade_says_that_a_reboot_is_needed_by_exit_code(host):
    code, summary = prepare("nvidia_driver_version=550.127.05")
    assert code == 5
    message, hint = failure(summary)
    assert message == "this host needs a reboot: the kernel runs driver 550.90.12, installed is 550.127.05"
    assert "nvidia_driver_reboot" in hint
    assert not host.file("/run/dsdeploy.lock").exists
    assert versions(host) == {"550.127.05-1"}
    # It is said as long as it is so, of a run that changes nothing; and the machine that Ansible runs on (here with the
    # same kernel) is not rebooted.
    began = host.check_output("stat -c %%Y /proc/1")
    code, summary = prepare("nvidia_driver_version=550.127.05", "nvidia_driver_reboot=true")
    assert (code, summary["hosts"]["nvidia-driver-host"]["changed"]) == (5, 0)
    assert host.check_output("stat -c %%Y /proc/1") == began
    # As after an upgrade that somebody else has made: `auto` waits for the reboot, and takes no other branch for it.
    automatic = ("nvidia_driver_install_method=auto", "nvidia_driver_version=", "nvidia_driver_branch=580")
    code, summary = prepare(*automatic, "nvidia_driver_reboot=true")
    assert (code, summary["hosts"]["nvidia-driver-host"]["changed"]) == (5, 0), summary
    assert failure(summary)[0] == message
    assert versions(host) == {"550.127.05-1"}
    boot(host)


def test_a_fabric_manager_of_another_version_is_named_and_mended_by_a_downgrade(host):
    with host.sudo():
        host.check_output(
            "apt-get install -qq --allow-change-held-packages --allow-downgrades nvidia-fabricmanager-550=550.90.12-1"
        )
    code, summary = prepare("nvidia_driver_install_method=preinstalled", "nvidia_driver_version=")
    assert code == 3
    message, hint = failure(summary)
    assert "fabric_manager_mismatch: the fabric manager is 550.90.12, the driver 550.127.05" in message
    assert "exactly driver 550.127.05" in hint
    assert prepare("nvidia_driver_version=550.54.15")[0] == 5
    assert versions(host) == {"550.54.15-1"}
    boot(host)
    # Without a version what is installed of the branch stays.
    code, summary = prepare("nvidia_driver_version=", "nvidia_driver_branch=550")
    assert (code, summary["hosts"]["nvidia-driver-host"]["changed"]) == (0, 0)


# In one run, as hosts of their own.
REFUSED = {
    "without-fabric-manager": (
        {"nvidia_driver_version": "560.35.03"},
        "no repository of this host has the package nvidia-fabricmanager-560 or nvidia-fabricmanager",
    ),
    "nowhere": (
        {"nvidia_driver_version": "550.1.1"},
        "nvidia-kernel-open-dkms has no version 550.1.1; it has 560.35.03-1, 550.127.05-1",
    ),
    "from-debian": (
        {"nvidia_driver_install_method": "distribution", "nvidia_driver_version": ""},
        "4 NVSwitches, whose fabric manager Debian has no package of",
    ),
}


@pytest.fixture(scope="module")
def refused(host):
    path = aliases(host, {name: variables for name, (variables, _line) in REFUSED.items()})
    code, summary = prepare(host="aliases", options=("-i", path))
    assert code == 1
    return {found["host"]: found for found in summary["failures"]}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(host, refused, name):
    assert REFUSED[name][1] in refused[name]["msg"]
    if name == "nowhere":
        hint = "All of them have 550.127.05, 550.90.12, 550.54.15: set nvidia_driver_version to that."
        assert refused[name]["hint"] == hint
    assert versions(host) == {"550.54.15-1"}


def test_bookworm_s_open_modules_behind_its_security_updates_are_a_clear_line(host):
    debian = host.get_host(
        "ssh://nvidia-driver-repository", ssh_config=f"{os.environ['MOLECULE_EPHEMERAL_DIRECTORY']}/ssh_config"
    )
    newest = {}
    for line in debian.check_output("apt-cache madison nvidia-open-kernel-dkms nvidia-smi").splitlines():
        name, version, _source = (column.strip() for column in line.split("|"))
        newest.setdefault(name, version)
    code, summary = prepare(
        "nvidia_driver_install_method=distribution",
        "nvidia_driver_kernel_modules=open",
        "nvidia_driver_version=",
        # It has no headers to install: this kernel is the stand-in's.
        "_nvidia_driver_headers=make",
        host="nvidia-driver-repository",
        options=("--check",),
    )
    if len(set(newest.values())) == 1:  # Debian has mended it
        assert code == 0
        return
    message, hint = failure(summary)
    assert code == 1
    assert message.startswith(
        "the newest versions do not match: nvidia-open-kernel-dkms " + newest["nvidia-open-kernel-dkms"]
    )
    assert "nvidia-smi " + newest["nvidia-smi"] in message
    assert hint.startswith("All of them have ")
