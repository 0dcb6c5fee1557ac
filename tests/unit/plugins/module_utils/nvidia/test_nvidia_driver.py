# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the kernel and the packages say of the driver, and what is wrong by name."""

from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia import driver as nvidia_driver

FACTS = {
    "gpus": [{"generation": "Hopper"}] * 8,
    "vfio_gpus": [],
    "nvswitches": 4,
    "switch_bridges": 0,
    "subnet_manager": False,
    "kernel": {"release": "5.15.0-94-generic", "compiler": "gcc-11"},
    "nouveau_loaded": False,
    "may_load_modules": True,
    "secure_boot": False,
    "mok_enrolled": False,
    "loaded_version": "550.90.12",
    "library_version": "550.90.12",
    "fabric_manager_version": "550.90.12",
    "packages": {"libnvidia-compute-550": "550.90.12-0ubuntu1"},
}
DONE = {"state": "Completed", "status": "Success"}
SMI = {
    "status": "ok",
    "reason": "",
    "hint": "",
    "gpus": [{}] * 8,
    "fabric": {"ready": True, "state": "Completed", "status": "Success", "health": None},
    "warnings": [],
}


def names(problems):
    return [problem.name for problem in problems]


@pytest.mark.parametrize(
    ("text", "version", "is_open"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.90.12  Tue Sep  3 22:04:49 UTC\nGCC version:  gcc 12",
            "550.90.12",
            False,
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (dvs-builder@U22)\n",
            "580.159.04",
            True,
        ),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.161  Sun Jan\n", "535.161", False),
        ("", None, None),
    ],
)
def test_loaded_module(text, version, is_open):
    assert nvidia_driver.loaded_module(text) == (version, is_open)


@pytest.mark.parametrize(
    ("text", "compiler"),
    [  # /proc/version of Debian 12, Ubuntu 22.04 and its HWE kernel, RHEL 8 and 9, one built elsewhere
        (
            "Linux version 6.1.0-18-amd64 (debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14) 12.2.0, GNU ld "
            "(GNU Binutils for Debian) 2.40) #1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)",
            "gcc-12",
        ),
        (
            "Linux version 5.15.0-94-generic (buildd@lcy02) (gcc (Ubuntu 11.4.0-1ubuntu1~22.04) 11.4.0, GNU ld (GNU "
            "Binutils for Ubuntu) 2.38) #104-Ubuntu SMP",
            "gcc-11",
        ),
        (
            "Linux version 6.8.0-40-generic (buildd@lcy02) (x86_64-linux-gnu-gcc-12 (Ubuntu 12.3.0-1ubuntu1~22.04) "
            "12.3.0, GNU ld (GNU Binutils for Ubuntu) 2.38) #40~22.04.3-Ubuntu SMP",
            "gcc-12",
        ),
        (
            "Linux version 4.18.0-553.el8_10.x86_64 (mock@x86) (gcc version 8.5.0 20210514 (Red Hat 8.5.0-22) (GCC))",
            "gcc-8",
        ),
        (
            "Linux version 5.14.0-427.el9.x86_64 (mockbuild@x86) (gcc (GCC) 11.4.1 20231218 (Red Hat 11.4.1-3), GNU ld "
            "version 2.35.2-43.el9) #1",
            "gcc-11",
        ),
        ("Linux version 6.6.1 (me@home) (clang version 17.0.6, LLD 17.0.6) #1 SMP", None),
        ("", None),
        # openEuler 24.03, Jetson Linux 36, WSL 2.
        ("(root@dc-64g) (gcc_old (GCC) 12.3.1 (openEuler 12.3.1-62.oe2403sp1), GNU ld (GNU Binutils) 2.41)", "gcc-12"),
        ("(b@m) (aarch64-buildroot-linux-gnu-gcc.br_real (Buildroot 2022.08) 11.3.0, GNU ld 2.38)", "gcc-11"),
        ("(root@439a258ad544) (gcc (GCC) 11.2.0, GNU ld (GNU Binutils) 2.37) #1 SMP", "gcc-11"),
    ],
)
def test_compiler_of(text, compiler):
    assert nvidia_driver.compiler_of(text) == compiler


def test_kernel_and_firmware():
    assert nvidia_driver.loaded_names("nouveau 2510848 0 - Live 0x0\ndrm 1 2 - Live 0x0\n") == ["nouveau", "drm"]
    assert nvidia_driver.may_load_modules("Name:\tsh\nCapEff:\t000001ffffffffff\nCapBnd:\t0\n")
    assert not nvidia_driver.may_load_modules("CapEff:\t00000000a80425fb\n")  # podman's default
    assert not nvidia_driver.may_load_modules("")
    assert nvidia_driver.secure_boot(b"\x06\x00\x00\x00\x01") is True
    assert nvidia_driver.secure_boot(b"\x06\x00\x00\x00\x00") is False
    assert nvidia_driver.secure_boot(None) is None
    assert nvidia_driver.kernel_number("5.15.0-94-generic") == "5.15"
    assert nvidia_driver.kernel_number("6.18.44-fc-v669") == "6.18"


def test_versions_of_what_is_installed():
    assert nvidia_driver.library_version("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.550.90.12") == "550.90.12"
    assert nvidia_driver.library_version("/usr/lib64/libnvidia-ml.so.535.161") == "535.161"
    assert nvidia_driver.library_version("/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1") is None
    assert nvidia_driver.library_version(None) is None
    assert nvidia_driver.fabric_manager_version("Fabric Manager version is : 550.90.12\n") == "550.90.12"
    assert nvidia_driver.fabric_manager_version("nv-fabricmanager: not found") is None


def test_packages_that_bear_the_driver_s_version():
    installed = """\
libcuda1 550.163.01-2 installed
nvidia-kernel-dkms 550.163.01-2 installed
nvidia-open-kernel-dkms 550.163.01-2 installed
nvidia-kernel-open-dkms 550.90.12-1 installed
nvidia-dkms-550-open 550.90.12-0ubuntu1 installed
nvidia-fabricmanager-550 550.90.12-1 installed
nvidia-utils-550-server 550.90.12-0ubuntu0.22.04.1 installed
libnvidia-ml1 550.163.01-2 installed
nvidia-headless-550-server 550.90.12-0ubuntu0.22.04.1 config-files
nvidia-modprobe 570.133.07-1 installed
nvidia-persistenced 550.163.01-1 installed
nvidia-kernel-common 20240109+1 installed
nvidia-cuda-toolkit 12.4.131~12.4.1-2 installed
nvidia-container-toolkit 1.17.3-1 installed
bash 5.2.15-2 installed
"""
    assert sorted(nvidia_driver.driver_packages(installed)) == [
        "libcuda1",
        "libnvidia-ml1",
        "nvidia-dkms-550-open",
        "nvidia-fabricmanager-550",
        "nvidia-kernel-dkms",
        "nvidia-kernel-open-dkms",
        "nvidia-open-kernel-dkms",
        "nvidia-utils-550-server",
    ]
    rpms = "kmod-nvidia-open-dkms 550.90.12-1.el9 installed\nnvidia-driver-cuda 550.90.12-1.el9 installed\n"
    assert len(nvidia_driver.driver_packages(rpms)) == 2


@pytest.mark.parametrize(
    ("changed", "name", "says", "fix"),
    [
        ({"loaded_version": "550.90.07"}, "driver_library_mismatch", "runs driver 550.90.07, but the", "Reboot"),
        ({"fabric_manager_version": None}, "fabric_manager_missing", "4 NVSwitches", "exactly driver 550.90.12"),
        (
            {"fabric_manager_version": "550.54.15"},
            "fabric_manager_mismatch",
            "is 550.54.15, the driver 550.90.12",
            "550.90.12",
        ),
        (
            {"packages": {"libnvidia-compute-550": "550.90.12-1", "nvidia-utils-535": "535.161.08-0ubuntu2"}},
            "mixed_packages",
            "nvidia-utils-535 535.161.08, libnvidia-compute-550 550.90.12",
            "nvidia_driver_version",
        ),
    ],
)
def test_a_wrong_mix_is_named(changed, name, says, fix):
    (problem,) = nvidia_driver.mix_problems({**FACTS, **changed})
    assert problem.name == name
    assert problem.msg.startswith(name + ": ")
    assert says in problem.msg
    assert fix in problem.hint


def test_what_is_no_wrong_mix():
    assert nvidia_driver.mix_problems(FACTS) == []
    bare = {**FACTS, "loaded_version": None, "library_version": None, "fabric_manager_version": None, "packages": {}}
    assert nvidia_driver.mix_problems(bare) == []
    # In a container the fabric manager is the machine's.
    assert nvidia_driver.mix_problems({**FACTS, "fabric_manager_version": None, "may_load_modules": False}) == []


def test_reboot_reasons():
    assert nvidia_driver.reboot_reasons(FACTS) == []
    assert nvidia_driver.reboot_reasons({**FACTS, "loaded_version": None}) == []
    (nouveau,) = nvidia_driver.reboot_reasons({**FACTS, "loaded_version": None, "nouveau_loaded": True})
    assert nouveau.startswith("nouveau drives the GPUs")
    assert nvidia_driver.reboot_reasons({**FACTS, "library_version": "550.127.05"}) == [
        "the kernel runs driver 550.90.12, installed is 550.127.05"
    ]


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"may_load_modules": False}, "container"),
        ({"kernel": {"release": "4.19.0-26-amd64"}}, "old_kernel"),
        ({"secure_boot": True}, "secure_boot"),
    ],
)
def test_what_keeps_a_driver_from_being_installed(changed, name):
    assert names(nvidia_driver.install_problems({**FACTS, **changed}, "5.0")) == [name]


LEFTOVER = (Path(__file__).resolve().parents[3] / "fixtures/nvidia_driver/leftover-libnvidia-common.dpkg").read_text()
RIGHT = "libnvidia-compute-550 550.90.12-0ubuntu1 installed\n"


@pytest.mark.parametrize(
    ("installed", "driver"),
    [
        (LEFTOVER, "510.47.03"),
        (LEFTOVER, None),
        # In whose name the generation is, beside that of the driver.
        (RIGHT + "libnvidia-compute-535 535.161.08-0ubuntu1 installed\n", "550.90.12"),
        (RIGHT + "libnvidia-common-550 535.161.08-0ubuntu1 installed\n", "550.90.12"),
        (
            "nvidia-firmware-535-535.161.08 535.161.08-1 installed\n"
            "nvidia-firmware-550-550.90.12 550.90.12-1 installed\n",
            "550.90.12",
        ),
        (RIGHT + "nvidia-utils-535-server 535.161.08-1 config-files\n", "550.90.12"),
        (RIGHT + "nvidia-utils-535-server 535.161.08-1 not-installed\n", "550.90.12"),
    ],
)
def test_what_is_left_over_of_another_driver_is_no_mix(installed, driver):
    packages = nvidia_driver.driver_packages(installed)
    facts = {**FACTS, "nvswitches": 0, "fabric_manager_version": None, "packages": packages}
    facts.update(loaded_version=driver, library_version=driver)
    assert nvidia_driver.mix_problems(facts) == []


@pytest.mark.parametrize("state", ["installed", "half-configured", "triggers-awaited", "triggers-pending", "unpacked"])
def test_what_lies_on_the_disk_counts_whatever_dpkg_calls_it(state):
    packages = nvidia_driver.driver_packages(RIGHT + f"nvidia-utils-535 535.161.08-0ubuntu2 {state}\n")
    (problem,) = nvidia_driver.mix_problems({**FACTS, "packages": packages})
    assert problem.name == "mixed_packages"


def test_a_driver_of_a_run_file_is_not_mixed_with_packages():
    (problem,) = nvidia_driver.install_problems({**FACTS, "run_file": "/usr/bin/nvidia-uninstall"}, "5.0")
    assert (problem.name, "/usr/bin/nvidia-uninstall" in problem.msg) == ("run_file", True)
    assert "nvidia_driver_install_method to preinstalled" in problem.hint


@pytest.mark.parametrize(
    ("key", "enrolled", "said", "fix"),
    [
        # Before anything was built there is no key that could be enrolled.
        (None, False, "no key yet", "update-secureboot-policy --new-key"),
        ("/var/lib/dkms/mok.pub", False, "is not enrolled", "mokutil --import /var/lib/dkms/mok.pub, "),
        # Ubuntu's
        ("/var/lib/shim-signed/mok/MOK.der", False, "is not enrolled", "--import /var/lib/shim-signed/mok/MOK.der, "),
        ("/var/lib/dkms/mok.pub", None, "cannot be asked", "Install mokutil"),
    ],
)
def test_secure_boot_names_the_key_that_there_is(key, enrolled, said, fix):
    facts = {**FACTS, "secure_boot": True, "mok_key": key, "mok_enrolled": enrolled}
    (problem,) = nvidia_driver.install_problems(facts, "5.0")
    assert said in problem.msg
    assert fix in problem.hint


NO_DRIVER = {"loaded_version": None, "library_version": None}


@pytest.mark.parametrize(
    ("changed", "status", "method"),
    [
        ({}, "ok", "preinstalled"),
        # What no other driver mends.
        ({}, "gpu_lost", "preinstalled"),
        ({}, "timed_out", "preinstalled"),
        ({}, "unknown", "preinstalled"),
        ({"packages": {}}, "gpu_lost", "preinstalled"),
        # Upgraded under the kernel's feet: a reboot mends it, no other branch.
        ({"library_version": "550.127.05"}, "driver_library_mismatch", "preinstalled"),
        # Not whole, or none.
        ({"library_version": None}, "library_missing", "nvidia"),
        ({"loaded_version": None}, "driver_not_loaded", "nvidia"),
        ({}, "no_devices", "nvidia"),  # other kernel modules may see them
        ({"library_version": "550.127.05"}, "timed_out", "nvidia"),
        (NO_DRIVER, "not_installed", "nvidia"),
        (NO_DRIVER, "timed_out", "nvidia"),
        ({**NO_DRIVER, "may_load_modules": False}, "not_installed", "preinstalled"),
        ({"gpus": []}, "not_installed", "none"),
        ({"gpus": []}, "ok", "preinstalled"),
    ],
)
def test_what_auto_means(changed, status, method):
    facts = {**FACTS, **changed}
    assert nvidia_driver.install_method("auto", facts, status) == method
    asked = "none" if method == "none" else "distribution"
    assert nvidia_driver.install_method("distribution", facts, status) == asked


def test_what_does_not():
    assert nvidia_driver.install_problems(FACTS, "5.0") == []
    assert nvidia_driver.install_problems({**FACTS, "secure_boot": True, "mok_enrolled": True}, "5.0") == []
    assert nvidia_driver.install_problems({**FACTS, "kernel": {"release": "4.18.0-553.el8_10.x86_64"}}, "4.18") == []
    assert nvidia_driver.install_problems({**FACTS, "kernel": {"release": "10.1.0"}}, "5.0") == []


@pytest.mark.parametrize(
    ("smi", "expected", "found"),
    [
        ({}, 0, []),
        ({}, 8, []),
        ({"gpus": [{}] * 7}, 0, ["gpu_missing"]),
        ({}, 16, ["gpu_missing"]),
        ({"status": "gpu_lost", "reason": "lost", "gpus": [{}] * 7}, 8, ["gpu_lost", "gpu_missing"]),
        ({"status": "driver_not_loaded", "reason": "no driver", "gpus": []}, 8, ["driver_not_loaded"]),
        ({"fabric": {"ready": False, "state": "In Progress", "status": None}}, 8, ["fabric_not_ready"]),
        ({"fabric": {"ready": False, **DONE, "health": "Unhealthy"}}, 8, ["fabric_unhealthy"]),
        ({"fabric": {"ready": True, **DONE, "health": "Limited Capacity"}}, 8, []),
        ({"fabric": {"ready": None, "state": None, "status": None}}, 8, []),
    ],
)
def test_gpu_problems(smi, expected, found):
    assert names(nvidia_driver.gpu_problems(FACTS, {**SMI, **smi}, expected)) == found
