# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel and the packages of a host say of NVIDIA's driver, and what is wrong with it by name.

Pure functions over text and over the facts of `nvidia_driver_facts` (see its RETURN for their shape).
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, NamedTuple, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.host.packages import upstream
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.devices import given_away

GIVE_BACK = (
    "Give them back to this host (stop the virtual machines; driverctl; ids= of vfio-pci in /etc/modprobe.d or on the "
    "kernel's command line), or correct nvidia_driver_expected_gpus."
)
_VERSION = r"\d{3}\.\d+(?:\.\d+)?"  # 550.90.12, 535.161, 580.65.06
# dpkg's states of a package whose files are there; of "config-files" and "not-installed" none is.
_UNPACKED = ("installed", "triggers-pending", "triggers-awaited", "half-configured", "unpacked")
# "libnvidia-compute-510", "nvidia-utils-535-server", "nvidia-dkms-580-open", "nvidia-firmware-535-535.161.08"
_GENERATION = re.compile(r"-\d{3}(?=-|\Z)(?:-server|-open|-%s)*\Z" % _VERSION)
_CAP_SYS_MODULE = 16  # linux/capability.h
# What nvidia-smi says (smi.HINTS) where a driver is there and something else is wrong: a GPU, the bus, permissions.
_NOT_THE_DRIVER = ("gpu_lost", "timed_out", "no_permission", "unreadable", "unknown")
# Packages that bear the driver's own version and hold what runs (libnvidia-common holds only profiles);
# nvidia-modprobe, nvidia-persistenced, -settings and the like need not.
# Names: NVIDIA's repositories, Debian non-free, Ubuntu restricted.
_OF_THE_DRIVER = re.compile(
    r"(?:nvidia-(?:open-)?kernel(?:-open)?(?:-dkms|-support|-source)|nvidia-(?:dkms|kernel-source|headless|utils|"
    r"compute-utils|fabricmanager|fabric-manager|smi|alternative|driver|kernel-common|firmware|open|imex)\b|"
    r"libcuda1\b|libnvidia-(?:ml1|compute|cfg1|nscq|ptxjitcompiler1)\b|cuda-drivers\b|firmware-nvidia-gsp|"
    r"kmod-nvidia)"
)


class Problem(NamedTuple):
    """One thing that is wrong: a `name` for scripts, what it is, and what to do about it."""

    name: str
    msg: str
    hint: str


class Loaded(NamedTuple):
    """The kernel module that is loaded: its version, and whether it is the open one."""

    version: Optional[str]
    open: Optional[bool]


def loaded_module(proc_driver_nvidia_version: str) -> Loaded:
    """From the text of /proc/driver/nvidia/version, which exists while the module is loaded."""
    found = re.search(r"NVRM version:.*?Kernel Module.*?\s(%s)\s" % _VERSION, proc_driver_nvidia_version)
    if not found:
        return Loaded(None, None)
    return Loaded(found.group(1), "Open Kernel Module" in found.group(0))


def compiler_of(proc_version: str) -> Optional[str]:
    """The compiler that the kernel was built with, as a command such as "gcc-12", from the text of /proc/version.

    Since 5.8 it reads "(gcc-12 (Debian 12.2.0-14) 12.2.0, GNU ld …)" or "(x86_64-linux-gnu-gcc-12 (Ubuntu …", before
    "(gcc version 8.5.0 20210514 (Red Hat 8.5.0-18) (GCC))".
    """
    # openEuler calls it gcc_old, Jetson's buildroot gcc.br_real.
    found = re.search(r"\((?:\S+-linux-gnu-)?(gcc(?:-\d+)?)[\w.]* \([^)]*\) (\d+)", proc_version)
    if found:
        name, major = found.groups()
        return name if "-" in name else "gcc-%s" % major
    found = re.search(r"\(gcc version (\d+)", proc_version)
    return "gcc-%s" % found.group(1) if found else None


def loaded_names(proc_modules: str) -> List[str]:
    """Names of the loaded modules, from the text of /proc/modules."""
    return [line.split()[0] for line in proc_modules.splitlines() if line.strip()]


def may_load_modules(proc_self_status: str) -> bool:
    """Whether this process may load kernel modules, which it may not in an ordinary container."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", proc_self_status, re.M)
    return bool(found) and bool(int(found.group(1), 16) >> _CAP_SYS_MODULE & 1)


def secure_boot(efi_variable: Optional[bytes]) -> Optional[bool]:
    """Whether secure boot is on, from the EFI variable SecureBoot: four bytes of attributes and one of value.

    None where the firmware has no such variable.
    """
    return efi_variable[4] == 1 if efi_variable and len(efi_variable) == 5 else None


def library_version(path: Optional[str]) -> Optional[str]:
    """Version of the driver's library, from the name of the file that libnvidia-ml.so.1 is."""
    found = re.search(r"\.so\.(%s)$" % _VERSION, path or "")
    return found.group(1) if found else None


def fabric_manager_version(said: str) -> Optional[str]:
    """From what `nv-fabricmanager --version` prints: "Fabric Manager version is : 550.90.12"."""
    found = re.search(r"version is\s*:\s*(%s)" % _VERSION, said)
    return found.group(1) if found else None


def driver_packages(installed: str) -> Dict[str, str]:
    """{name: version} of the installed packages that bear the driver's version.

    :param installed: lines "name version state", the state one of dpkg's.
    """
    found = {}
    for line in installed.splitlines():
        words = line.split()
        if len(words) == 3 and words[2] in _UNPACKED and _OF_THE_DRIVER.match(words[0]):
            if re.match("^%s$" % _VERSION, upstream(words[1])):
                found[words[0]] = words[1]
    return found


def kernel_number(release: str) -> str:
    """ "5.15" of "5.15.0-94-generic"."""
    return ".".join(re.findall(r"\d+", release)[:2])


def switches(facts: Dict[str, Any]) -> str:
    """The host's own NVSwitches, in words; empty where it has none that are seen."""
    if facts["nvswitches"]:
        return "%d NVSwitches" % facts["nvswitches"]
    if facts.get("switch_bridges"):
        return "NVSwitches of NVLink 5, behind %d functions of network cards" % facts["switch_bridges"]
    return ""


def wants_fabric_manager(facts: Dict[str, Any]) -> Optional[bool]:
    """Whether the host's NVSwitches need a fabric manager of its own; None where it cannot be told whether it has any.

    Those of a rack (GB200 NVL72) and of the machine below a virtual one are not the host's, and are managed there.
    """
    if switches(facts):
        return True
    return None if facts.get("switch_bridges", 0) is None else False


def mix_problems(facts: Dict[str, Any]) -> List[Problem]:
    """Parts of the driver on one host that do not belong together, by name."""
    loaded, library, manager = facts["loaded_version"], facts["library_version"], facts["fabric_manager_version"]
    driver = loaded or library
    install = "set nvidia_driver_install_method to nvidia or distribution"
    problems = []
    if loaded and library and loaded != library:
        problems.append(
            _named(
                "driver_library_mismatch",
                "the kernel runs driver %s, but the installed libraries are %s" % (loaded, library),
                "Reboot the host (nvidia_driver_reboot: true); a held driver is not upgraded silently.",
            )
        )
    if wants_fabric_manager(facts) and driver and not manager and facts["may_load_modules"]:
        problems.append(
            _named(
                "fabric_manager_missing",
                "the host has %s and no fabric manager; CUDA fails with error 802" % switches(facts),
                "Install the fabric manager of exactly driver %s: %s." % (driver, install),
            )
        )
    if facts.get("switch_bridges") and manager and not facts["subnet_manager"]:
        problems.append(
            _named(
                "subnet_manager_missing",
                "the host has %s, and no NVLink subnet manager (package nvlsm), without which the fabric manager does "
                "not start; CUDA fails with error 802" % switches(facts),
                "Install nvlsm of NVIDIA's repository, in any version: set nvidia_driver_install_method to nvidia.",
            )
        )
    if manager and library and manager != library:
        problems.append(
            _named(
                "fabric_manager_mismatch",
                "the fabric manager is %s, the driver %s; it refuses to start" % (manager, library),
                "Install the fabric manager of exactly driver %s: %s, and nvidia_driver_version to %s."
                % (library, install, library),
            )
        )
    versions = _versions_in_use(facts["packages"], driver)
    if len(versions) > 1:
        few = {version: min(names) for version, names in sorted(versions.items())}
        problems.append(
            _named(
                "mixed_packages",
                "packages of different drivers are installed: %s"
                % ", ".join("%s %s" % (name, version) for version, name in few.items()),
                "Set nvidia_driver_version to the one to keep, or remove the others.",
            )
        )
    return problems


def _versions_in_use(packages: Dict[str, str], driver: Optional[str]) -> Dict[str, List[str]]:
    """{version: names} of the packages that count: of several generations of one package, only the driver's.

    Ubuntu's packages bear the generation in their names, and what is left over of an older one harms nobody while
    that of the driver is there.
    """
    kinds: Dict[str, Dict[str, str]] = {}
    for name, version in packages.items():
        kinds.setdefault(_GENERATION.sub("", name), {})[name] = upstream(version)
    versions: Dict[str, List[str]] = {}
    for names in kinds.values():
        right = {name: version for name, version in names.items() if version == driver} or names
        for name, version in right.items():
            versions.setdefault(version, []).append(name)
    return versions


def reboot_reasons(facts: Dict[str, Any]) -> List[str]:
    """Why only a reboot brings the installed driver into use; empty when nothing but loading it is left to do."""
    loaded, installed = facts["loaded_version"], facts["library_version"]
    reasons = []
    if facts["nouveau_loaded"] and installed:
        reasons.append("nouveau drives the GPUs; it is blocked from the next boot on")
    if loaded and installed and loaded != installed:
        reasons.append("the kernel runs driver %s, installed is %s" % (loaded, installed))
    return reasons


def install_method(wanted: str, facts: Dict[str, Any], status: str) -> str:
    """Where the driver comes from: `nvidia`, `distribution`, `preinstalled` (what is there) or `none` (no GPU).

    :param wanted: one of these, or `auto`. `status`: of nvidia_smi_facts.
    """
    if not facts["gpus"] and status != "ok":
        return "none"
    if wanted != "auto":
        return wanted
    if status == "ok" or not facts["may_load_modules"]:
        return "preinstalled"
    loaded, installed = facts["loaded_version"], facts["library_version"]
    # Another driver in the place of a whole one brings back no lost GPU, and takes the others from who uses them. One
    # that was upgraded comes into use with a reboot.
    whole = loaded and loaded == installed and status in _NOT_THE_DRIVER
    upgraded = loaded and installed and loaded != installed and status == "driver_library_mismatch"
    return "preinstalled" if whole or upgraded else "nvidia"


def _secure_boot_problem(facts: Dict[str, Any]) -> Optional[Problem]:
    """What is wrong with the key that DKMS signs modules with, on a host with secure boot."""
    key, enrolled = facts.get("mok_key"), facts["mok_enrolled"]
    if not facts["secure_boot"] or enrolled:
        return None
    last = "confirm at the console on the next boot), or turn secure boot off in the firmware."
    if not key:
        return Problem(
            "secure_boot",
            "secure boot is on, and there is no key yet that DKMS could sign modules with",
            "Make one, on Ubuntu: update-secureboot-policy --new-key; elsewhere: mkdir -p /var/lib/dkms && openssl req "
            "-new -x509 -newkey rsa:2048 -nodes -days 36500 -subj /CN=DKMS -keyout /var/lib/dkms/mok.key -outform DER "
            "-out /var/lib/dkms/mok.pub. Enrol it (mokutil --import /var/lib/shim-signed/mok/MOK.der or "
            "/var/lib/dkms/mok.pub, " + last,
        )
    if enrolled is None:
        return Problem(
            "secure_boot",
            "secure boot is on, and whether the key that DKMS signs modules with (%s) is enrolled cannot be asked"
            % key,
            "Install mokutil. If the key is not enrolled: mokutil --import %s (%s" % (key, last),
        )
    return Problem(
        "secure_boot",
        "secure boot is on, and the key that DKMS signs modules with is not enrolled",
        "Enrol it (mokutil --import %s, %s" % (key, last),
    )


def install_problems(facts: Dict[str, Any], kernel_min: str) -> List[Problem]:
    """What keeps a driver from being installed on this host, whatever its source."""
    problems = []
    if not facts["may_load_modules"]:
        problems.append(
            Problem(
                "container",
                "this is a container, which may not load kernel modules",
                "The driver is the machine's, not the container's: set nvidia_driver_install_method to preinstalled.",
            )
        )
    release = facts["kernel"]["release"]
    if _numbers(kernel_number(release)) < _numbers(kernel_min):
        problems.append(
            Problem(
                "old_kernel",
                "the kernel is %s, the driver wants %s or newer" % (release, kernel_min),
                "Install a newer kernel of the distribution and boot it.",
            )
        )
    if facts.get("run_file"):
        problems.append(
            Problem(
                "run_file",
                "NVIDIA's .run file has installed a driver here (there is %s), whose files packages would mix with"
                % facts["run_file"],
                "Remove it first (nvidia-uninstall, then reboot). Or keep it: set nvidia_driver_install_method to "
                "preinstalled, and run its installer again for this kernel where the module is missing.",
            )
        )
    problem = _secure_boot_problem(facts)
    return problems + ([problem] if problem else [])


def gpu_count_problem(on_pci: int, smi: Dict[str, Any], expected: int, vfio: int = 0) -> Optional[Problem]:
    """What is wrong with the number of GPUs that nvidia-smi shows.

    :param on_pci: GPUs that the PCI bus holds. `expected`: that there must be; 0 for those. `vfio`: further ones, which
        virtual machines have.
    """
    usable, wanted = len(smi["gpus"]), expected or on_pci
    if usable >= wanted or smi["status"] not in ("ok", "gpu_lost"):
        return None
    if vfio and usable >= on_pci:
        return _named(
            "gpu_missing",
            "nvidia-smi shows %d GPUs, expected are %d; %s" % (usable, wanted, given_away(vfio)),
            GIVE_BACK,
        )
    return _named(
        "gpu_missing",
        "nvidia-smi shows %d GPUs, %s %d" % (usable, "expected are" if expected else "the PCI bus holds", wanted),
        "Look at `dmesg | grep -i -e xid -e nvrm`. A GPU that is off the bus may come back with a reboot.",
    )


def gpu_problems(facts: Dict[str, Any], smi: Dict[str, Any], expected: int) -> List[Problem]:
    """What is wrong with the GPUs as nvidia-smi shows them (facts of nvidia_smi_facts).

    :param expected: GPUs that there must be; 0 for as many as the PCI bus holds.
    """
    problems = []
    if smi["status"] != "ok":
        problems.append(_named(smi["status"], smi["reason"], smi["hint"]))
    missing = gpu_count_problem(len(facts["gpus"]), smi, expected, len(facts.get("vfio_gpus") or []))
    if missing:
        problems.append(missing)
    fabric = fabric_problem(smi)
    return problems + ([fabric] if fabric else [])


def fabric_problem(smi: Dict[str, Any]) -> Optional[Problem]:
    """What is wrong with the NVLink fabric as nvidia-smi shows it; None also where the GPUs are on none."""
    fabric = smi["fabric"]
    if fabric["ready"] is not False:
        return None
    if (fabric["state"], fabric["status"]) == ("Completed", "Success"):
        return _named(
            "fabric_unhealthy",
            "; ".join(line for line in smi["warnings"] if "fabric" in line) or "the NVLink fabric is Unhealthy",
            "Look at /var/log/fabricmanager.log; reset the GPU, or have its links checked.",
        )
    return _named(
        "fabric_not_ready",
        "the NVLink fabric is in state %s, %s; CUDA fails with error 802 until it is Completed"
        % (fabric["state"], fabric["status"] or "without a status"),
        "Look at the fabric manager: systemctl status nvidia-fabricmanager, /var/log/fabricmanager.log.",
    )


def _named(name: str, msg: str, hint: str) -> Problem:
    return Problem(name, "%s: %s" % (name, msg), hint)


def _numbers(version: str) -> List[int]:
    return [int(part) for part in version.split(".")]
