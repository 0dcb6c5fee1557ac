# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of kernel, memory, processors and clock. Pure; sections `files`, `host`, `pci`, `log`, `clock`, `gpus`.

`files` maps names to `{text}`, `{missing: true}` or `{problem: why}`.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, Dict, List

from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.check import (
    Skip,
    Unknown,
    Verdict,
    check,
    fail,
    ok,
    warn,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.sizes import mib
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import memory

GIB = 1024**3
SHM_LEAST = 16 * GIB  # vLLM, docs/deployment/docker.md: --shm-size 16g
SHM_LEAST_ONE_GPU = 64 * 1024**2  # Docker's default, too small for more than one process
SKEW_WARN, SKEW_FAIL = 30.0, 60.0  # s; what is later than this is no delay of the connection
AVAILABLE_LEAST = 0.05  # of the memory

_KERNEL = "docs.kernel.org/admin-guide/sysctl"
Facts = Dict[str, Any]


def text(facts: Facts, name: str, where: str = "files") -> str:
    """The text of a file that was read. Skip where there is none, Unknown where it cannot be read."""
    found = facts[where].get(name) or {"missing": True}
    if "text" in found:
        return str(found["text"]).strip()
    if found.get("problem"):
        raise Unknown("%s: %s" % (name, found["problem"]))
    raise Skip("there is no %s here" % name)


def number(facts: Facts, name: str) -> int:
    value = text(facts, name)
    if not re.fullmatch(r"-?\d{1,20}", value):
        raise Unknown("%s is no number: %s" % (name, value))
    return int(value)


def on_metal(facts: Facts) -> None:
    """Skip in a virtual machine or a container, whose host decides it."""
    if facts["host"]["virtual"]:
        raise Skip("a virtual machine (%s): its host decides it" % facts["host"]["virtual"])
    if facts["host"]["container"]:
        raise Skip("a container (%s): its host decides it" % facts["host"]["container"])


def _gpu_count(facts: Facts) -> int:
    return len(facts["gpus"]["gpus"])


@check(
    "system_shm",
    title="/dev/shm is large enough",
    why="The processes of one engine pass tensors through it: too small, NCCL fails with 'unhandled system "
    "error' or Bus error.",
    fix="mount -o remount,size=16G /dev/shm; in a container: start it with --shm-size=16g or --ipc=host",
    source="vLLM, docs/deployment/docker.md (shm-size 16g); vllm#1710",
    when=("prepare", "up"),
)
def shm(facts: Facts) -> Verdict:
    found = next((disk for disk in facts["disks"] if disk["what"] == "shm"), None)
    if found is None:
        raise Unknown("there is no /dev/shm")
    size, count = found["bytes"], _gpu_count(facts)
    if not count:
        raise Skip("no GPU answers here")
    if size < SHM_LEAST and count > 1:
        return fail(mib(size), "at least %s for %d GPUs" % (mib(SHM_LEAST), count))
    if size <= SHM_LEAST_ONE_GPU:
        return warn(mib(size), "more than %s" % mib(SHM_LEAST_ONE_GPU))
    if found["free"] < size // 10:
        return warn(
            "%s of %s free" % (mib(found["free"]), mib(size)),
            "a tenth free",
            "ls -l /dev/shm; remove what dead processes left",
        )
    return ok(mib(size), ("at least %s" % mib(SHM_LEAST)) if count > 1 else ("more than %s" % mib(SHM_LEAST_ONE_GPU)))


@check(
    "system_memory",
    title="memory is left",
    why="Weights are read through memory and pinned in it; without it loading crawls, or the kernel ends the engine.",
    fix="ps aux --sort=-rss | head; stop what is not needed",
    source="docs.kernel.org/filesystems/proc (MemAvailable)",
    when=("up",),
)
def available(facts: Facts) -> Verdict:
    # In a container that has a limit, of that: the host may show hundreds of GiB.
    total, free = memory.available(text(facts, "/proc/meminfo"), *memory.container(partial(_if_there, facts)))
    expected = "at least %d %%" % (100 * AVAILABLE_LEAST)
    said = "%s of %s" % (mib(free), mib(total))
    return warn(said, expected) if free < AVAILABLE_LEAST * total else ok(said, expected)


@check(
    "system_memory_limit",
    title="no limit of the container is below the host's memory",
    why="A container is ended at its limit while the host shows hundreds of GiB free: loading R1 takes more "
    "than most limits.",
    fix="start the container with more memory (--memory), or without a limit",
    source="docs.kernel.org/admin-guide/cgroup-v2 (memory.max)",
    when=("prepare",),
)
def memory_limit(facts: Facts) -> Verdict:
    group = memory.container(partial(_if_there, facts))
    if not group:
        raise Skip("the system has no group that limits its memory")
    limit = group[0]
    total = memory.fields(text(facts, "/proc/meminfo"))["MemTotal"]
    if limit == "max" or int(limit) >= total:
        return ok("no limit", "no limit below %s" % mib(total))
    return warn("%s of the host's %s" % (mib(int(limit)), mib(total)), "no limit below the host's memory")


def _if_there(facts: Facts, name: str) -> str:
    try:
        return text(facts, name)
    except Skip:
        return ""


@check(
    "system_oom",
    title="the kernel ended no process for want of memory since the boot",
    why="An engine that disappears while it loads was most often ended by the kernel: its own log says nothing.",
    fix="dmesg | grep -i 'killed process'; more memory, or a smaller model",
    source="docs.kernel.org/mm/oom; gpud, component memory",
    when=("up",),
)
def oom(facts: Facts) -> Verdict:
    if facts["host"]["container"]:
        raise Skip("a container sees the log of its host, and who else was ended there")
    killed = re.findall(r"Killed process \d+ \(([^)]{1,40})\)", "\n".join(facts["log"]["lines"]))
    if killed:
        return warn("%d ended, last %s" % (len(killed), killed[-1]), "none")
    return ok("none", "none")


@check(
    "system_hung",
    title="no process hangs in the kernel",
    why="A process in state D that holds a GPU cannot be ended; nothing gets the GPU back but a reboot.",
    fix="ps -eo pid,stat,wchan:30,cmd | grep ' D'; reboot, if it is nvidia's",
    source="gpud (state D of nvidia processes for minutes); kernel log, 'blocked for more than'",
    when=("up",),
)
def hung(facts: Facts) -> Verdict:
    told = re.findall(r"task ([^\s:]{1,40}):\d+ blocked for more than", "\n".join(facts["log"]["lines"]))
    stuck = facts["processes"]["stuck"]
    if told and stuck:
        return fail("%s hangs since the kernel told of it" % ", ".join(sorted(set(stuck))[:3]), "none")
    if told:
        return warn("%d were blocked for minutes, last %s" % (len(told), told[-1]), "none")
    return ok("none", "none")


@check(
    "system_hardware_errors",
    title="the kernel's log has no errors of memory, processor or PCIe since the boot",
    why="Machine checks and uncorrected PCIe errors come before a crash, and before wrong results.",
    fix="dmesg | grep -i -e 'hardware error' -e aer; then the machine's own event log (ipmitool sel list)",
    source="docs.kernel.org/PCI/pcieaer-howto; gpud",
    when=("prepare",),
)
def hardware_errors(facts: Facts) -> Verdict:
    lines = [
        line
        for line in facts["log"]["lines"]
        if re.search(r"\[Hardware Error\]|Uncorrected \(?Fatal|severity=Uncorrect", line)
        and "corrected, no action" not in line
    ]
    bad = [line for line in lines if re.search(r"uncorrect|fatal|panic|poison", line, re.I)]
    if bad:
        return fail("%d lines, last: %s" % (len(bad), bad[-1][-120:]), "none")
    return warn("%d lines, all corrected" % len(lines), "none") if lines else ok("none", "none")


@check(
    "system_pci_errors",
    title="the PCIe devices count no uncorrected errors",
    why="They end transfers to the GPU, and then the GPU falls off the bus (Xid 79).",
    fix="lspci -vv; reseat the device, update the machine's firmware",
    source="docs.kernel.org/PCI/pcieaer-howto, aer_dev_fatal and aer_dev_nonfatal",
    when=("prepare",),
)
def pci_errors(facts: Facts) -> Verdict:
    devices = [one for one in facts["pci"]["devices"] if one["errors"] is not None]
    if not devices:
        raise Skip("no device counts errors here")
    bad = ["%s: %d" % (one["address"], one["errors"]) for one in devices if one["errors"]]
    return fail("; ".join(bad[:4]), "0") if bad else ok("0 on %d devices" % len(devices), "0")


@check(
    "system_acs",
    title="PCIe bridges do not redirect what GPUs send each other (ACS)",
    why="With ACS on, traffic between GPUs and network cards goes up to the processor: half the bandwidth, "
    "or hangs of NCCL.",
    fix="switch ACS off in the machine's firmware, or setpci on the bridges at each boot (NCCL guide, PCI "
    "access control)",
    source="docs.nvidia.com/deeplearning/nccl/user-guide, Troubleshooting; gpud, component pci",
    when=("prepare",),
)
def acs(facts: Facts) -> Verdict:
    on_metal(facts)
    if _gpu_count(facts) < 2:
        raise Skip("there are not several GPUs")
    if not facts["host"]["root"]:
        raise Unknown("only root can read it")
    bridges = [one for one in facts["pci"]["devices"] if one["acs"] is not None]
    if not bridges:
        raise Skip("no bridge has it")
    on = [one["address"] for one in bridges if one["acs"] & ACS_REDIRECT]
    if on:
        return warn("on at %d bridges, such as %s" % (len(on), on[0]), "off", "setpci -s %s ECAP_ACS+6.w=0000" % on[0])
    return ok("off at %d bridges" % len(bridges), "off")


ACS_REDIRECT = (
    0x1 | 0x4 | 0x8 | 0x10 | 0x20
)  # source validation, request and completion redirect, upstream forward, egress


@check(
    "system_iommu",
    title="the IOMMU does not translate what GPUs do",
    why="Translation makes copies between GPUs slow, and wrong on some machines; passthrough (iommu=pt) is enough.",
    fix="add iommu=pt to GRUB_CMDLINE_LINUX; update-grub (grub2-mkconfig on the RHEL family); reboot",
    source="docs.nvidia.com/deeplearning/nccl/user-guide, Troubleshooting; "
    "docs.kernel.org/admin-guide/kernel-parameters",
    when=("prepare",),
)
def iommu(facts: Facts) -> Verdict:
    on_metal(facts)
    if not _gpu_count(facts):
        raise Skip("there is no GPU")
    words = text(facts, "/proc/cmdline").split()
    if not facts["pci"]["iommus"]:
        return ok("off", "off or passthrough")
    types = facts["pci"]["iommu_types"]
    if "iommu=pt" in words or "iommu.passthrough=1" in words or (types and set(types) == {"identity"}):
        return ok("passthrough", "off or passthrough")
    return warn("on, translating", "off or passthrough")


@check(
    "system_numa_balancing",
    title="the kernel does not move memory between NUMA nodes by itself",
    why="Moving pages under a program that reads all of its memory costs more than it brings: layers on the CPU crawl.",
    fix="sysctl -w kernel.numa_balancing=0",
    source=_KERNEL + "/kernel (numa_balancing); llama.cpp warns of it at its start",
    when=("up",),
)
def numa_balancing(facts: Facts) -> Verdict:
    value = number(facts, "/proc/sys/kernel/numa_balancing")
    if not value:
        return ok("off", "off")
    if not _computes_on_cpu(facts):
        return ok("on, and nothing computes on the CPU", "off where a model computes on the CPU")
    return warn("on", "off")


def _computes_on_cpu(facts: Facts) -> bool:
    return any(
        record["running"] and record["engine"] in ("llama_cpp", "ollama") for record in facts["deployments"]["records"]
    )


@check(
    "system_numa_gpu",
    title="the kernel knows which NUMA node each GPU is at",
    why="Without it threads and buffers land on the wrong socket, and every copy crosses between the sockets.",
    fix="update the machine's firmware; in a virtual machine, expose the topology",
    source="docs.kernel.org/ABI/testing/sysfs-bus-pci (numa_node)",
    when=("prepare",),
)
def numa_gpu(facts: Facts) -> Verdict:
    on_metal(facts)
    nodes = [
        one["numa_node"] for one in facts["pci"]["devices"] if one["kind"] == "gpu" and one["numa_node"] is not None
    ]
    if not nodes:
        raise Skip("there is no GPU, or the kernel knows no nodes")
    if facts["pci"]["nodes"] < 2:
        raise Skip("the machine has one node")
    return warn("not known for %d GPUs" % nodes.count(-1), "known") if -1 in nodes else ok("known", "known")


@check(
    "system_governor",
    title="the processors are not told to save power",
    why="An engine's own loop runs on one core: a core at its lowest clock lowers tokens per second.",
    fix="cpupower frequency-set -g performance",
    source="docs.kernel.org/admin-guide/pm/cpufreq; LBNL NHC",
    when=("prepare",),
)
def governor(facts: Facts) -> Verdict:
    value = text(facts, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    # intel_pstate's "powersave" raises the clock with the load.
    pstate = facts["files"].get("/sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", {}).get("text", "")
    slow = value == "powersave" and not pstate.startswith(("intel_pstate", "amd-pstate-epp"))
    return warn(value, "performance or schedutil") if slow else ok(value, "performance or schedutil")


@check(
    "system_huge_pages",
    title="transparent huge pages are not switched off",
    why="Without them hundreds of GiB of weights on the CPU are addressed in pieces of 4 KiB.",
    fix="echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
    source="docs.kernel.org/admin-guide/mm/transhuge",
    when=("prepare",),
)
def huge_pages(facts: Facts) -> Verdict:
    value = text(facts, "/sys/kernel/mm/transparent_hugepage/enabled")
    chosen = re.search(r"\[(\w+)\]", value)
    if not chosen:
        raise Unknown("no choice is marked in: %s" % value)
    if chosen.group(1) == "never":
        return warn("never", "madvise or always")
    return ok(chosen.group(1), "madvise or always")


@check(
    "system_swap",
    title="next to nothing is swapped out",
    why="Weights that were swapped out are read back for every token.",
    fix="swapoff -a && swapon -a, when enough memory is free; else a smaller model",
    source="docs.kernel.org/filesystems/proc (SwapTotal, SwapFree); LBNL NHC",
    when=("up",),
)
def swap(facts: Facts) -> Verdict:
    found = memory.fields(text(facts, "/proc/meminfo"))
    used = found.get("SwapTotal", 0) - found.get("SwapFree", 0)
    expected = "below 1 GiB"
    return warn("%s in use" % mib(used), expected) if used >= GIB else ok("%s in use" % mib(used), expected)


@check(
    "system_overcommit",
    title="the kernel grants memory that is not used yet",
    why="With strict accounting (2) CUDA and the runtimes fail to reserve addresses, with GiB free.",
    fix="sysctl -w vm.overcommit_memory=0",
    source=_KERNEL + "/vm (overcommit_memory)",
    when=("prepare", "up"),
)
def overcommit(facts: Facts) -> Verdict:
    value = number(facts, "/proc/sys/vm/overcommit_memory")
    return warn("strict (2)", "0 or 1") if value == 2 else ok(value, "0 or 1")


@check(
    "system_max_map_count",
    title="a process may map enough files",
    why="Sharded weights and memory pools of CUDA are many mappings: mmap fails with ENOMEM while memory is free.",
    fix="sysctl -w vm.max_map_count=262144",
    source=_KERNEL + "/vm (max_map_count, default 65530)",
    when=("prepare",),
)
def max_map_count(facts: Facts) -> Verdict:
    value = number(facts, "/proc/sys/vm/max_map_count")
    return warn(value, "at least 65530") if value < 65530 else ok(value, "at least 65530")


@check(
    "system_clock",
    title="the clock is synchronised",
    why="TLS certificates, tokens of hubs and logs of several hosts need the time.",
    fix="timedatectl set-ntp true; or install chrony",
    source="adjtimex(2), STA_UNSYNC; GPUStack's requirements",
    when=("prepare",),
)
def clock(facts: Facts) -> Verdict:
    found = facts["clock"]
    if facts["host"]["container"]:
        raise Skip("a container has the clock of its host")
    if not found["synchronised"]:
        return warn("not synchronised", "synchronised")
    return ok("synchronised", "synchronised")


@check(
    "system_clock_skew",
    title="the clock shows the controller's time",
    why="A host in the past takes no certificate for valid; one in the future none that ends soon.",
    fix="timedatectl set-ntp true; chronyc makestep",
    source="RFC 5280, 4.1.2.5; checks/system.py (later than a minute is no delay of the connection)",
    when=("prepare", "up"),
)
def clock_skew(facts: Facts) -> Verdict:
    found = facts["clock"]
    if found["controller"] is None:
        raise Skip("the controller's time was not given")
    # The controller read its clock before this process began: a host that is right is a little later.
    skew = found["now"] - found["controller"]
    said = "%+.0f s" % skew
    expected = "within %d s" % SKEW_WARN
    if skew < -SKEW_FAIL or skew > SKEW_FAIL + SKEW_WARN:
        return fail(said, expected)
    return warn(said, expected) if skew < -2 or skew > SKEW_WARN else ok(said, expected)


@check(
    "system_tainted",
    title="the kernel has not had an oops or a machine check",
    why="After one the kernel goes on with broken state: hangs of the driver follow.",
    fix="dmesg | grep -i -e oops -e bug: -e mce; reboot",
    source="docs.kernel.org/admin-guide/tainted-kernels (bits 4, 7 and 9 are M, D and W)",
    when=("prepare",),
)
def tainted(facts: Facts) -> Verdict:
    value = number(facts, "/proc/sys/kernel/tainted")
    bad: List[str] = [name for bit, name in ((4, "a machine check"), (7, "an oops")) if value >> bit & 1]
    return warn(", ".join(bad), "neither") if bad else ok("neither", "neither")
