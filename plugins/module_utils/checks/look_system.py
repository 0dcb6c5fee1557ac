# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts of the system: sections `host`, `files`, `processes`, `clock`, `log` and `packages` of look.py."""

from __future__ import annotations

import ctypes
import glob
import os
import re
import time
from typing import Any, Dict, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.checks import reading
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.reading import MOST, Place, read, text
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import one_line
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import memory
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.packages import parse_versionlocks

LOG_LINES = 20000  # of the kernel's log, the newest
# What of the kernel's log a check looks for.
_OF_INTEREST = re.compile(
    r"NVRM|SXid|Killed process|blocked for more than|Hardware Error|I/O error|EXT4-fs error|XFS \(|BTRFS (?:err|crit)|"
    r"Medium Error|Uncorrected|severity=Uncorrect"
)
FILES = (
    "/proc/meminfo",
    "/proc/cmdline",
    "/proc/sys/kernel/numa_balancing",
    "/proc/sys/kernel/tainted",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/max_map_count",
    *(os.path.join(memory.CGROUP, name) for names in memory.LIMITS for name in names),
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_driver",
    "/sys/kernel/mm/transparent_hugepage/enabled",
)
_STA_UNSYNC = 0x0040  # linux/timex.h
_VIRTUAL = (
    ("KVM", "kvm"), ("QEMU", "qemu"), ("VMware", "vmware"), ("VirtualBox", "virtualbox"), ("Xen", "xen"),
    ("Bochs", "bochs"),
    ("OpenStack", "openstack"), ("Alibaba Cloud ECS", "alibaba"), ("Google Compute", "google"), ("HVM domU", "xen"),
    ("Virtual Machine", "hyper-v"), ("Amazon EC2", "amazon"), ("CTyun", "ctyun"), ("Tencent", "tencent"),
)  # fmt: skip


def host(place: Place) -> Dict[str, Any]:
    release = dict(re.findall(r"^(\w+)=\"?([^\"\n]*)\"?$", text("/etc/os-release"), re.M))
    return {
        "root": os.geteuid() == 0,
        "container": _container(place),
        "virtual": _virtual(place),
        "systemd": os.path.isdir("/run/systemd/system"),
        "kernel": text(place.at("/proc/sys/kernel/osrelease")),
        "distribution": "%s %s" % (release.get("ID", "?"), release.get("VERSION_ID", "")),
    }


def _container(place: Place) -> Optional[str]:
    """Which kind of container this is; None for none that shows."""
    if os.path.exists("/run/.containerenv"):
        return "podman"
    if os.path.exists("/.dockerenv"):
        return "docker"
    told = text("/run/systemd/container") or os.environ.get("container", "")
    if told:
        return one_line(told, 40)
    groups = text(place.at("/proc/1/cgroup"))
    found = re.search(r"kubepods|docker|containerd|lxc|libpod", groups)
    if found:
        return found.group()
    # The first process of a machine is init's; of a container it is anything.
    first = text(place.at("/proc/1/comm"))
    return "unknown kind" if first and first not in ("systemd", "init", "openrc-init", "runit", "s6-svscan") else None


def _virtual(place: Place) -> Optional[str]:
    """Which kind of virtual machine this is; None for a real one, as far as it shows."""
    made = " ".join(
        text(place.at("/sys/class/dmi/id/" + name))
        for name in ("sys_vendor", "product_name", "board_vendor", "bios_vendor")
    )
    flags = re.search(r"^flags\s*:(.*)", text(place.at("/proc/cpuinfo")), re.M)
    hypervisor = bool(flags and "hypervisor" in flags.group(1).split())
    for word, kind in _VIRTUAL:
        if word.lower() in made.lower():
            # These two let real machines as well, of the same maker (systemd PR 20628, 27267, 38125).
            real = kind in ("amazon", "google") and (".metal" in made or bool(flags) and not hypervisor)
            return None if real else kind
    return "unknown kind" if hypervisor else None


def files(place: Place) -> Dict[str, Any]:
    return {name: read(place.at(name)) for name in FILES}


def processes(place: Place) -> Dict[str, Any]:
    """`stuck`: names of the processes that sleep in the kernel just now."""
    stuck = []
    for path in glob.glob(place.at("/proc/") + "[0-9]*/stat"):
        found = re.match(r"\d+ \((.*)\) D ", text(path), re.S)
        if found:
            stuck.append(one_line(found.group(1), 40))
    return {"stuck": stuck}


def clock(place: Place) -> Dict[str, Any]:
    # Other sections may have waited for programs that hang: that is no fault of the clock.
    passed = 0.0 if place.began is None else time.monotonic() - place.began
    return {"now": time.time() - passed, "controller": place.controller_time, "synchronised": _synchronised()}


def _synchronised() -> bool:
    """By adjtimex(2), which only reads with no mode set."""

    class Timex(ctypes.Structure):
        _fields_ = (
            ("modes", ctypes.c_uint),
            ("offset", ctypes.c_long),
            ("freq", ctypes.c_long),
            ("maxerror", ctypes.c_long),
            ("esterror", ctypes.c_long),
            ("status", ctypes.c_int),
            ("rest", ctypes.c_byte * 512),
        )

    timex = Timex()
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex)) < 0:
        raise OSError(ctypes.get_errno(), "adjtimex: %s" % os.strerror(ctypes.get_errno()))
    return not timex.status & _STA_UNSYNC


def log(_place: Place) -> Dict[str, Any]:
    """`{lines}` since the boot, those of interest alone, from the journal or the kernel's buffer."""
    problems = []
    for argv in (
        ("journalctl", "--dmesg", "--boot", "--no-pager", "--quiet", "--output=short-monotonic", "-n", str(LOG_LINES)),
        ("dmesg", "--nopager"),
        ("dmesg",),
    ):
        answer = reading.says(*argv)
        if answer is None:
            continue
        if answer.rc == 0 and answer.stdout.strip():
            return {"lines": [line[:400] for line in answer.stdout.splitlines() if _OF_INTEREST.search(line)]}
        said = "no answer in %d s" % reading.TIMEOUT if answer.timed_out else answer.stderr or "it shows nothing"
        problems.append("%s: %s" % (argv[0], one_line(said, 100)))
    return {
        "problem": "the kernel's log cannot be read: %s"
        % ("; ".join(dict.fromkeys(problems)) or "no journalctl, no dmesg")
    }


def packages(_place: Place) -> Dict[str, Any]:
    """Holds, kernels and due reboots; `held` and `reboot` are None where they cannot be told, with why."""
    found: Dict[str, Any] = {"tool": None, "held": None, "held_problem": "neither dpkg nor dnf is here"}
    if reading.program("dpkg-query"):
        found["tool"] = "apt"
        # As `apt-mark showhold`, which takes a second of the processor.
        answer = reading.says("dpkg-query", "--show", "--showformat=${db:Status-Want} ${Package}\\n")
        if answer and answer.rc == 0:
            found["held"] = re.findall(r"^hold (\S+)$", answer.stdout, re.M)
        else:
            found["held_problem"] = "dpkg-query does not answer"
    elif reading.program("dnf"):
        found["tool"] = "dnf"
        answer = reading.says("dnf", "--cacheonly", "--quiet", "versionlock", "list")
        if answer and answer.rc == 0:
            names = [re.sub(r"-(?:\d+:)?[^-]+-[^-]+$", "", line.strip()) for line in answer.stdout.splitlines()]
            found["held"] = parse_versionlocks(answer.stdout, names)
        else:
            found["held_problem"] = "dnf versionlock does not answer (package python3-dnf-plugin-versionlock)"
    return dict(found, **_reboot(), kernels=_kernels())


def _reboot() -> Dict[str, Any]:
    for path in ("/run/reboot-required", "/var/run/reboot-required"):
        if os.path.exists(path):
            names = text(path + ".pkgs").split()
            return {
                "reboot": ["packages ask for it%s" % (": %s" % ", ".join(names[:4]) if names else "")],
                "reboot_problem": "",
            }
    if reading.program("needs-restarting"):
        answer = reading.says("needs-restarting", "--reboothint", timeout=60.0)
        if answer and answer.rc in (0, 1):
            return {"reboot": ["needs-restarting says so"] if answer.rc else [], "reboot_problem": ""}
    if os.path.exists("/etc/debian_version"):
        return {"reboot": [], "reboot_problem": ""}
    return {"reboot": None, "reboot_problem": "this distribution does not tell (package dnf-utils)"}


def has_driver(modules_dep: str) -> bool:
    """Whether a kernel has NVIDIA's module: of DKMS, of the distribution, or Debian's own two."""
    return bool(re.search(r"(?:^|/)nvidia(?:-current(?:-open)?)?\.ko", modules_dep, re.M))


def _kernels() -> List[Dict[str, Any]]:
    """The installed kernels, the oldest first: those with a modules.dep, not what removed ones left behind."""
    found = []
    for path in glob.glob("/lib/modules/*/modules.dep"):
        directory = os.path.dirname(path)
        # A line for each module; DKMS and the distributions put it into different directories.
        lines = text(path) if os.path.getsize(path) < MOST else _lines_with(path, "nvidia")
        found.append(
            {
                "release": os.path.basename(directory),
                "nvidia": has_driver(lines),
                "headers": os.path.exists(os.path.join(directory, "build")),
            }
        )
    return sorted(found, key=lambda one: [int(part) for part in re.findall(r"\d+", str(one["release"]))])


def _lines_with(path: str, word: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as handle:
        return "".join(line for line in handle if word in line)
