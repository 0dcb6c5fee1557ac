# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of NVIDIA's driver and of what the kernel's log says. Pure; sections `driver`, `packages`, `log`, `cuda`."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.checks import xid
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.check import (
    Skip,
    Unknown,
    Verdict,
    check,
    fail,
    ok,
    warn,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia import cuda
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.driver import (
    install_problems,
    mix_problems,
    wants_fabric_manager,
)

_ALWAYS = ("prepare", "up")
_XID = "docs.nvidia.com/deploy/xid-errors; gpud's table of it"

Facts = Dict[str, Any]


def driver(facts: Facts) -> Dict[str, Any]:
    """What is known of the driver. Skip where the host has neither GPU nor driver."""
    found = facts["driver"]
    if not found["gpus"] and not found["loaded_version"] and not found["library_version"]:
        raise Skip("this host has no NVIDIA GPU and no driver")
    return dict(found)


def log_lines(facts: Facts) -> List[str]:
    """The lines of the kernel's log since the last boot. Unknown where it cannot be read."""
    return list(facts["log"]["lines"])


def _mix(facts: Facts, *names: str) -> Any:
    """The first of these problems, as the preflight of role nvidia_driver names them; None for none."""
    return next((problem for problem in mix_problems(driver(facts)) if problem.name in names), None)


@check(
    "driver_versions",
    title="kernel module, libraries and packages of the driver are of one version",
    why="After an upgrade without a reboot nvidia-smi and CUDA fail: Driver/library version mismatch.",
    fix="reboot; dsdeploy prepare holds the driver's packages",
    source="field reports (deepops#1186, shine-cluster#30)",
    when=_ALWAYS,
)
def versions(facts: Facts) -> Verdict:
    found = driver(facts)
    problem = _mix(facts, "driver_library_mismatch", "mixed_packages")
    if problem:
        return fail(problem.msg.partition(": ")[2], "one version", problem.hint)
    if not found["loaded_version"]:
        raise Skip("the kernel module of the driver is not loaded")
    if not found["library_version"]:
        raise Unknown("the libraries of the driver are not where they usually are")
    return ok(found["loaded_version"], "one version")


@check(
    "driver_fabric_manager",
    title="the fabric manager is there, in the driver's version, and runs",
    why="A machine with NVSwitches computes nothing without it: CUDA error 802, system not yet initialized.",
    fix="dsdeploy prepare",
    source="docs.nvidia.com/datacenter/tesla/fabric-manager-user-guide; gpustack#1254, gpustack#4154",
    when=_ALWAYS,
)
def fabric_manager(facts: Facts) -> Verdict:
    found = driver(facts)
    wanted = wants_fabric_manager(found)
    if wanted is None and facts["gpus"]["fabric"]["ready"]:
        raise Skip("the NVLink fabric is complete, whoever manages it")
    if wanted is None:
        raise Unknown("whether there are NVSwitches behind this host's network cards is shown to root alone")
    if not wanted:
        raise Skip("this host has no NVSwitch")
    problem = _mix(facts, "fabric_manager_missing", "fabric_manager_mismatch", "subnet_manager_missing")
    if problem:
        return fail(problem.msg.partition(": ")[2], "the driver's version", problem.hint)
    if not found["may_load_modules"]:
        raise Skip("in a container the fabric manager is the machine's")
    state = found.get("fabric_manager_active")
    if state is None:
        raise Unknown("the state of its service cannot be asked")
    if state != "active":
        fix = "systemctl enable --now nvidia-fabricmanager"
        if found.get("switch_bridges"):
            fix = "modprobe -a mlx5_ib ib_umad; " + fix
        return fail("its service is %s" % state, "active", fix)
    return ok(found["fabric_manager_version"], "the driver's version")


@check(
    "driver_nouveau",
    title="the kernel's own driver nouveau is not loaded",
    why="nouveau holds the GPUs, so that NVIDIA's module cannot load.",
    fix="echo 'blacklist nouveau' > /etc/modprobe.d/nouveau.conf; update-initramfs -u (dracut -f on the RHEL "
    "family); reboot",
    source="NVIDIA driver installation guide, Disabling Nouveau",
    when=("prepare",),
)
def nouveau(facts: Facts) -> Verdict:
    found = driver(facts)
    return fail("loaded", "not loaded") if found["nouveau_loaded"] else ok("not loaded", "not loaded")


@check(
    "driver_secure_boot",
    title="secure boot lets the driver's module be loaded",
    why="With secure boot the kernel refuses a module whose key is not enrolled; after a kernel update, silently.",
    fix="mokutil --import the key of DKMS; confirm at the console on the next boot",
    source="field reports (pop#3117, compute-gpu-installation#15)",
    when=("prepare",),
)
def secure_boot(facts: Facts) -> Verdict:
    found = driver(facts)
    if found["secure_boot"] is None:
        raise Skip("the firmware knows no secure boot, or does not show it here")
    if not found["secure_boot"]:
        return ok("off", "off, or the key is enrolled")
    # The one rule of the preflight of role nvidia_driver; it holds for a module that is to be installed.
    problem = next((one for one in install_problems(found, "0.0") if one.name == "secure_boot"), None)
    if problem and not found["loaded_version"]:
        return fail(problem.msg, "off, or the key is enrolled", problem.hint)
    if problem and any("dkms" in name for name in found["packages"]):
        if found.get("mok_key") and found["mok_enrolled"] is None:
            raise Unknown(problem.msg)
        said = "on; the module that DKMS builds for the next kernel is not signed with an enrolled key"
        return warn(said, "the key is enrolled", problem.hint)
    return ok("on, and the module is loaded", "off, or the key is enrolled")


@check(
    "driver_next_kernel",
    title="the driver's module is there for the newest installed kernel",
    why="After the next reboot the host has no driver: DKMS did not build it, most often because headers were missing.",
    fix="install linux-headers (kernel-devel) of that kernel; dkms autoinstall -k KERNEL",
    source="dkms(8); field reports (ansible-role-nvidia-driver#20)",
    when=("prepare",),
)
def next_kernel(facts: Facts) -> Verdict:
    found = driver(facts)
    if not found["loaded_version"] or not found["may_load_modules"]:
        raise Skip("the driver is not this system's own")
    kernels = facts["packages"]["kernels"]
    if not kernels:
        raise Skip("there are no kernels below /lib/modules")
    newest = kernels[-1]
    if newest["nvidia"]:
        return ok(newest["release"], "a module")
    fix = "dkms autoinstall -k %s" % newest["release"]
    if not newest["headers"]:
        fix = "install the headers of kernel %s; %s" % (newest["release"], fix)
    return fail("kernel %s has no nvidia module" % newest["release"], "a module", fix)


@check(
    "driver_held",
    title="the driver's packages are held",
    why="An unattended upgrade replaces the libraries of a driver that runs: every CUDA program fails until a reboot.",
    fix="dsdeploy prepare",
    source="field reports (shine-cluster#50, homelab#4110, deepops#1186)",
    when=("prepare",),
)
def held(facts: Facts) -> Verdict:
    packages = sorted(driver(facts)["packages"])
    if not driver(facts)["may_load_modules"]:
        raise Skip("the driver is the machine's, not the container's")
    if not packages:
        raise Skip("no package of the driver is installed here")
    if facts["packages"]["held"] is None:
        raise Unknown(facts["packages"]["held_problem"])
    loose = [name for name in packages if name not in facts["packages"]["held"]]
    if not loose:
        return ok("%d packages" % len(packages), "held")
    few = ", ".join(loose[:3]) + (" and %d more" % (len(loose) - 3) if len(loose) > 3 else "")
    hold = "dnf versionlock add" if facts["packages"]["tool"] == "dnf" else "apt-mark hold"
    return warn("not held: %s" % few, "held", "%s %s" % (hold, " ".join(loose[:8])))


@check(
    "driver_reboot",
    title="no reboot is due",
    why="Until it the host runs another kernel or driver than is installed; what comes up after it is not tested.",
    fix="dsdeploy down; reboot",
    source="/run/reboot-required (Debian family), needs-restarting -r (RHEL family)",
    when=("prepare",),
)
def reboot(facts: Facts) -> Verdict:
    reasons = list(facts["driver"]["reboot_reasons"])
    if facts["packages"]["reboot"] is None and not reasons:
        raise Skip(facts["packages"]["reboot_problem"])
    reasons += facts["packages"]["reboot"] or []
    return warn("; ".join(reasons), "none") if reasons else ok("none", "none")


@check(
    "driver_xid",
    title="the kernel's log has no errors of a GPU (Xid) since the boot",
    why="NVIDIA says for each Xid what it takes; most of them end all programs on the GPU.",
    fix="dmesg | grep Xid",
    source=_XID,
    when=_ALWAYS,
)
def xids(facts: Facts) -> Verdict:
    driver(facts)
    found = xid.xids(log_lines(facts))
    worst = xid.worst(found)
    if worst is None:
        return ok("none" if not found else "%d that need nothing" % len(found), "none")
    first = [event for event in found if xid.kind(event) == worst]
    last = first[-1]
    said = "Xid %d on %s, %d of its kind: %s" % (last.number, last.pci, len(first), xid.WHAT[worst])
    verdict = warn if worst in (xid.APPLICATION, xid.NVLINK_WENT_ON) else fail
    return verdict(said, "none", xid.FIX[worst].format(gpu=last.pci))


@check(
    "driver_sxid",
    title="the kernel's log has no fatal errors of an NVSwitch (SXid) since the boot",
    why="A fatal error of a switch takes all GPUs behind it from everybody until the fabric is reset.",
    fix="systemctl restart nvidia-fabricmanager; reboot, if it comes back",
    source="docs.nvidia.com/datacenter/tesla/fabric-manager-user-guide, NVSwitch SXid errors",
    when=_ALWAYS,
)
def sxids(facts: Facts) -> Verdict:
    if not driver(facts)["nvswitches"]:
        raise Skip("there is no NVSwitch on this host's PCI bus")
    found = xid.sxids(log_lines(facts))
    fatal = [event for event in found if xid.is_fatal(event)]
    if fatal:
        return fail("SXid %d on %s: %s" % fatal[-1], "none")
    if found:
        return warn("%d that are not fatal, last SXid %d" % (len(found), found[-1].number), "none")
    return ok("none", "none")


@check(
    "driver_cuda",
    title="CUDA starts (cuInit)",
    why="nvidia-smi works in cases in which no CUDA program does: fabric, permissions, nvidia-uvm, library "
    "of a container.",
    fix="dmesg | grep -i nvrm; ls -l /dev/nvidia*",
    source="CUDA Driver API, CUresult",
    when=_ALWAYS,
)
def cuda_starts(facts: Facts) -> Verdict:
    found = facts["cuda"]
    if found["missing"]:
        if facts["gpus"]["gpus"]:
            return fail("libcuda.so.1 is not there", "it is", "install the driver's libraries: dsdeploy prepare")
        raise Skip("this host has no CUDA driver")
    if found["code"]:
        return fail("cuInit says %d" % found["code"], "0", cuda.run_hint(found["code"]))
    shown = len(facts["gpus"]["gpus"])
    if found["count"] < shown and not any(gpu["mig"]["instances"] for gpu in facts["gpus"]["gpus"]):
        return fail("CUDA shows %d GPUs, nvidia-smi %d" % (found["count"], shown), "all of them")
    return ok("%d GPUs" % found["count"], "all of them")


@check(
    "driver_devices",
    title="the device files that CUDA needs are there",
    why="Without /dev/nvidia-uvm CUDA fails although nvidia-smi works, and without those in /dev/nvidia-caps on MIG; "
    "engines run as a user that must be let in.",
    fix="nvidia-modprobe -u -c 0; in a container, the container toolkit passes them in",
    source="nvidia-modprobe(1)",
    when=_ALWAYS,
)
def devices(facts: Facts) -> Verdict:
    if not facts["gpus"]["gpus"]:
        raise Skip("no GPU answers here")
    nodes = facts["cuda"]["devices"]
    wanted = ["nvidiactl", "nvidia-uvm"]
    missing = [name for name in wanted if name not in nodes]
    if missing:
        return fail("there is no /dev/%s" % ", no /dev/".join(missing), "they are there")
    if not any(re.match(r"nvidia\d+\Z", name) for name in nodes):
        return fail("no GPU has its file, such as /dev/nvidia0", "they are there", "nvidia-smi -L as root makes them")
    closed = sorted(
        name for name, mode in nodes.items() if re.match(r"nvidia(ctl|-uvm|\d+)\Z", name) and mode & 0o006 != 0o006
    )
    if closed:
        return warn("others may not use /dev/%s" % closed[0], "mode 0666", "chmod 0666 /dev/%s" % " /dev/".join(closed))
    return _mig_devices(facts) or ok("there", "they are there")


def _mig_devices(facts: Facts) -> Optional[Verdict]:
    """What is wrong with the device files of MIG's instances, which CUDA reads."""
    found = facts["cuda"]["mig"]
    without = [one for one in found["instances"] if None in one["modes"].values()]
    all_without = len(without) == len(found["instances"])
    # A container has the files of its own instance, and /proc may show all.
    if without and (all_without or not facts["host"]["container"]):
        names = [name for one in without for name, mode in one["modes"].items() if mode is None]
        said = "there is no /dev/nvidia-caps/%s, by which CUDA gets at a MIG instance" % names[0]
        mend = "nvidia-modprobe -f %s" % " -f ".join(path for one in without for path in one["paths"])
        nothing_left = all_without and found["whole"] == 0
        return (fail if nothing_left else warn)(said, "they are there", mend)
    closed = sorted(
        {name for one in found["instances"] for name, mode in one["modes"].items() if mode is not None and not mode & 4}
    )
    if closed:
        return warn(
            "others may not read /dev/nvidia-caps/%s" % closed[0],
            "mode 0444",
            "chmod 0444 /dev/nvidia-caps/%s" % " /dev/nvidia-caps/".join(closed),
        )
    return None
