# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the facts that checks are made on off this host: section by section, and only those that are asked for.

Nothing is written, no secret is kept, nothing waits for ever: programs get TIMEOUT, files are read up to MOST bytes.
A section that breaks is `{"problem": why}`; the checks that need it are then unknown.

Sections: `host`, `files`, `gpus`, `pci`, `driver`, `cuda`, `packages`, `log`, `processes`, `clock`, `disks`, `nvme`,
`network`, `infiniband`, `listeners`, `deployments` (look_engine.py).
"""

from __future__ import annotations

import ctypes
import glob
import os
import re
import socket
import stat
import time
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.checks import look_deep, look_engine
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import one_line
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.process import Answer, aside, run
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.urls import is_loopback
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import sockets
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.packages import parse_versionlocks
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia import devices as nvidia_devices
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia import driver_gather
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.gather import gather

TIMEOUT = 15.0  # s, for each program
MOST = 1024 * 1024  # bytes of a file
SSH = 22  # port; who holds it is no question
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
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_driver",
    "/sys/kernel/mm/transparent_hugepage/enabled",
)
_STA_UNSYNC = 0x0040  # linux/timex.h
_EXTENDED_ACS = 0x000D  # PCI Express Base Specification, Access Control Services
_VIRTUAL = (
    ("KVM", "kvm"), ("QEMU", "qemu"), ("VMware", "vmware"), ("VirtualBox", "virtualbox"), ("Xen", "xen"),
    ("Bochs", "bochs"),
    ("OpenStack", "openstack"), ("Alibaba Cloud ECS", "alibaba"), ("Google Compute", "google"), ("HVM domU", "xen"),
    ("Virtual Machine", "hyper-v"), ("Amazon EC2", "amazon"), ("CTyun", "ctyun"), ("Tencent", "tencent"),
)  # fmt: skip


class Place(NamedTuple):
    """Where and how to look. `sysfs` and `procfs` stand for /sys and /proc; `paths` are directories to look at."""

    sysfs: str = "/sys"
    procfs: str = "/proc"
    timeout: float = 30.0
    expected_gpus: int = 0
    controller_time: Optional[float] = None
    paths: Tuple[str, ...] = ()
    records: str = ""
    supervisor_config: str = ""
    health: bool = True
    engine: str = ""
    known: Tuple[Dict[str, Any], ...] = ()  # deployments that were looked at already, as `readiness.look` does

    def at(self, path: str) -> str:
        """Where a path below /sys or /proc is."""
        for root, place in (("/sys/", self.sysfs), ("/proc/", self.procfs)):
            if path.startswith(root):
                return os.path.join(place, path[len(root) :])
        return path


def read(path: str) -> Dict[str, Any]:
    """`{text}`, `{missing: true}` or `{problem: why}`. What is no plain file, such as a pipe, is not waited for."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return {"missing": True}
    except OSError as error:
        return {"problem": error.strerror or "not readable"}
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return {"problem": "not a file"}
        return {"text": os.read(handle, MOST).decode("utf-8", "replace").replace("\0", " ")}
    except OSError as error:
        return {"problem": error.strerror or "not readable"}
    finally:
        os.close(handle)


def text(path: str) -> str:
    """The text of a file; empty where there is none, or it cannot be read."""
    return str(read(path).get("text", "")).strip()


def whole(path: str) -> Optional[int]:
    """The whole number in a file, or None."""
    found = text(path)
    return int(found, 0) if re.fullmatch(r"-?(\d{1,20}|0x[0-9a-fA-F]{1,16})", found) else None


def program(name: str) -> Optional[str]:
    return driver_gather.path(name)


def says(*argv: str, timeout: float = TIMEOUT) -> Optional[Answer]:
    """What a program says; None where it is not there."""
    path = program(argv[0])
    return run([path, *argv[1:]], timeout) if path else None


# --- the host


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
    for word, kind in _VIRTUAL:
        if word.lower() in made.lower():
            return kind
    flags = re.search(r"^flags\s*:.*\bhypervisor\b", text(place.at("/proc/cpuinfo")), re.M)
    return "unknown kind" if flags else None


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
    return {"now": time.time(), "controller": place.controller_time, "synchronised": _synchronised()}


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


# --- the kernel's log


def log(_place: Place) -> Dict[str, Any]:
    """`{lines}` since the boot, those of interest alone, from the journal or the kernel's buffer."""
    problems = []
    for argv in (
        ("journalctl", "--dmesg", "--boot", "--no-pager", "--quiet", "--output=short-monotonic", "-n", str(LOG_LINES)),
        ("dmesg", "--nopager"),
        ("dmesg",),
    ):
        answer = says(*argv)
        if answer is None:
            continue
        if answer.rc == 0 and answer.stdout.strip():
            return {"lines": [line[:400] for line in answer.stdout.splitlines() if _OF_INTEREST.search(line)]}
        said = "no answer in %d s" % TIMEOUT if answer.timed_out else answer.stderr or "it shows nothing"
        problems.append("%s: %s" % (argv[0], one_line(said, 100)))
    return {
        "problem": "the kernel's log cannot be read: %s"
        % ("; ".join(dict.fromkeys(problems)) or "no journalctl, no dmesg")
    }


# --- GPUs and buses


def gpus(place: Place) -> Dict[str, Any]:
    return gather(None, max(1, int(place.timeout)), os.path.join(place.sysfs, "bus/pci/devices"))


def pci(place: Place) -> Dict[str, Any]:
    """GPUs, NVSwitches and bridges on the bus, what the kernel's driver has, and the IOMMUs."""
    root = os.path.join(place.sysfs, "bus/pci/devices")
    found: List[Dict[str, Any]] = []
    for address in sorted(os.listdir(root)) if os.path.isdir(root) else []:
        kind = _kind(os.path.join(root, address))
        if kind:
            found.append(_device(os.path.join(root, address), address, kind))
    known = glob.glob(place.at("/proc/driver/nvidia/gpus/*"))
    loaded = os.path.exists(place.at("/proc/driver/nvidia/version"))
    types = [text(path) for path in glob.glob(place.at("/sys/kernel/iommu_groups/") + "*/type")]
    groups = {one["address"]: one for one in found if one["kind"] == "gpu"}
    return {
        "devices": found,
        "gpus": sorted(groups),
        "driver_gpus": len(known) if loaded and known else None,
        "iommus": [os.path.basename(path) for path in glob.glob(place.at("/sys/class/iommu/") + "*")],
        "iommu_types": types,
        "nodes": len(glob.glob(place.at("/sys/devices/system/node/") + "node[0-9]*")),
        "expected_gpus": place.expected_gpus,
    }


def _kind(path: str) -> Optional[str]:
    vendor, kind = whole(os.path.join(path, "vendor")), whole(os.path.join(path, "class"))
    if vendor is None or kind is None:
        return None
    if vendor == nvidia_devices.VENDOR:
        return {0x0300: "gpu", 0x0302: "gpu", 0x0680: "nvswitch"}.get(kind >> 8)
    return "bridge" if kind >> 8 == 0x0604 else None


def _device(path: str, address: str, kind: str) -> Dict[str, Any]:
    counts = [
        int(number)
        for name in ("aer_dev_fatal", "aer_dev_nonfatal")
        for number in re.findall(r"^TOTAL_\w+ (\d+)$", text(os.path.join(path, name)), re.M)
    ]
    return {
        "address": address,
        "kind": kind,
        "numa_node": whole(os.path.join(path, "numa_node")),
        "errors": sum(counts) if counts else None,
        "acs": _acs(os.path.join(path, "config")) if kind == "bridge" else None,
    }


def _acs(config: str) -> Optional[int]:
    """The bits of a bridge's ACS control; None where it has none, or its configuration is not shown whole."""
    try:
        with open(config, "rb") as handle:
            space = handle.read(4096)
    except OSError:
        return None
    offset = 0x100
    for _step in range(64):
        if offset < 0x100 or offset + 8 > len(space):
            return None
        header = int.from_bytes(space[offset : offset + 4], "little")
        if header & 0xFFFF == _EXTENDED_ACS:
            return int.from_bytes(space[offset + 6 : offset + 8], "little")
        offset = header >> 20
    return None


def driver(place: Place) -> Dict[str, Any]:
    """As module `nvidia_driver_facts`, with the state of the fabric manager's service and nvidia-peermem."""
    found = driver_gather.gather(place.sysfs, place.procfs)
    active = None
    if found["nvswitches"] and found["fabric_manager_version"] and os.path.isdir("/run/systemd/system"):
        answer = says("systemctl", "is-active", "nvidia-fabricmanager")
        active = one_line(answer.stdout, 20) if answer and not answer.timed_out and answer.stdout.strip() else None
    peermem = os.path.isdir(place.at("/sys/module/nvidia_peermem"))
    return dict(found, fabric_manager_active=active, peermem=peermem)


def _start_cuda() -> Dict[str, Any]:
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return {"missing": True, "code": 0, "count": 0}
    count = ctypes.c_int(0)
    code = library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count))
    return {"missing": False, "code": code, "count": count.value}


def cuda(_place: Place) -> Dict[str, Any]:
    devices = {}
    for path in glob.glob("/dev/nvidia*"):
        try:
            state = os.stat(path)
        except OSError:
            continue
        if stat.S_ISCHR(state.st_mode):
            devices[os.path.basename(path)] = stat.S_IMODE(state.st_mode)
    # Aside: a driver that hangs, or a library that crashes, must not take this process along.
    return dict(aside(_start_cuda, TIMEOUT), devices=devices)


# --- packages


def packages(_place: Place) -> Dict[str, Any]:
    """Holds, kernels and due reboots; `held` and `reboot` are None where they cannot be told, with why."""
    found: Dict[str, Any] = {"tool": None, "held": None, "held_problem": "neither dpkg nor dnf is here"}
    if program("dpkg-query"):
        found["tool"] = "apt"
        # As `apt-mark showhold`, which takes a second of the processor.
        answer = says("dpkg-query", "--show", "--showformat=${db:Status-Want} ${Package}\\n")
        if answer and answer.rc == 0:
            found["held"] = re.findall(r"^hold (\S+)$", answer.stdout, re.M)
        else:
            found["held_problem"] = "dpkg-query does not answer"
    elif program("dnf"):
        found["tool"] = "dnf"
        answer = says("dnf", "--cacheonly", "--quiet", "versionlock", "list")
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
    if program("needs-restarting"):
        answer = says("needs-restarting", "--reboothint", timeout=60.0)
        if answer and answer.rc in (0, 1):
            return {"reboot": ["needs-restarting says so"] if answer.rc else [], "reboot_problem": ""}
    if os.path.exists("/etc/debian_version"):
        return {"reboot": [], "reboot_problem": ""}
    return {"reboot": None, "reboot_problem": "this distribution does not tell (package dnf-utils)"}


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
                "nvidia": bool(re.search(r"(?:^|/)nvidia(?:-current)?\.ko", lines, re.M)),
                "headers": os.path.exists(os.path.join(directory, "build")),
            }
        )
    return sorted(found, key=lambda one: [int(part) for part in re.findall(r"\d+", str(one["release"]))])


def _lines_with(path: str, word: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as handle:
        return "".join(line for line in handle if word in line)


# --- disks


def mounts(procfs: str) -> List[Tuple[str, str, str]]:
    """(mount point, kind, options), in the order of the kernel."""
    found = []
    for line in text(os.path.join(procfs, "self/mounts")).splitlines():
        words = [re.sub(r"\\([0-7]{3})", lambda code: chr(int(code.group(1), 8)), word) for word in line.split(" ")]
        if len(words) >= 4:
            found.append((words[1], words[2], words[3]))
    return found


def _state_of(paths: List[str]) -> Dict[str, Any]:
    """statvfs(3) of each path, or its nearest parent."""
    found = {}
    for path in paths:
        here = os.path.realpath(path)
        while not os.path.exists(here) and here != "/":
            here = os.path.dirname(here)
        state = os.statvfs(here)
        sizes = [state.f_frsize * state.f_blocks, state.f_frsize * state.f_bavail, state.f_files, state.f_favail]
        found[path] = [here, *sizes, bool(state.f_flag & os.ST_RDONLY)]
    return found


def disks(place: Place) -> List[Dict[str, Any]]:
    """The file systems of the directories that matter. `what`: system, data, programs or shm; `large`: what is there
    takes long to fetch again."""
    wanted = [("system", "/", False), ("shm", "/dev/shm", False)] + [("data", path, True) for path in place.paths]
    wanted += look_engine.directories(place.records)
    table = mounts(place.procfs) or mounts("/proc")
    looked = _statvfs([path for _what, path, _large in wanted])
    found = []
    for what, path, large in wanted:
        if path not in looked or (what == "shm" and not os.path.isdir(path)):
            continue
        here, size, free, inodes, inodes_free, read_only = looked[path]
        mount, fstype = _mount_of(here, table)
        found.append(
            {"what": what, "path": path, "large": large, "mount": mount, "fstype": fstype, "bytes": size, "free": free,
             "inodes": inodes, "inodes_free": inodes_free, "read_only": read_only}
        )  # fmt: skip
    return found


def _statvfs(paths: Iterable[str]) -> Dict[str, List[Any]]:
    """What is known of each path. A network disk whose server is gone waits for ever: aside, then one by one."""
    every = list(dict.fromkeys(paths))
    try:
        return dict(aside(lambda: _state_of(every), TIMEOUT / 2))
    except TimeoutError:
        if len(every) == 1:
            raise OSError("the disk of %s does not answer" % every[0]) from None
    found: Dict[str, List[Any]] = {}
    for path in every:
        found.update(_statvfs([path]))
    return found


def _mount_of(path: str, table: List[Tuple[str, str, str]]) -> Tuple[str, str]:
    """The longest mount point above a path; of several mounts on one another the last counts."""
    best = ("/", "unknown")
    for mount, fstype, _options in table:
        if (path == mount or path.startswith(mount.rstrip("/") + "/")) and len(mount) >= len(best[0]):
            best = (mount, fstype)
    return best


def nvme(place: Place) -> List[Dict[str, Any]]:
    paths = sorted(glob.glob(place.at("/sys/class/nvme/") + "*"))
    return [{"name": os.path.basename(path), "state": text(os.path.join(path, "state"))} for path in paths]


# --- network


def network(place: Place) -> Dict[str, Any]:
    name = socket.gethostname()
    problem, addresses = "", []
    try:
        # Aside: a resolver that does not answer takes minutes.
        addresses = aside(lambda: sorted({str(found[4][0]) for found in socket.getaddrinfo(name, None)}), TIMEOUT)
    except OSError as error:
        problem = one_line(str(error).rpartition("] ")[2], 80)
    links = []
    for path in sorted(glob.glob(place.at("/sys/class/net/") + "*")):
        if os.path.basename(path) == "lo" or not os.path.isdir(path):
            continue
        links.append(
            {
                "name": os.path.basename(path),
                "state": text(os.path.join(path, "operstate")),
                "carrier": whole(os.path.join(path, "carrier")) == 1,
                "downs": whole(os.path.join(path, "carrier_down_count")),
                "physical": os.path.exists(os.path.join(path, "device")),
            }
        )
    return {"name": name, "addresses": addresses, "problem": problem, "links": links}


def infiniband(place: Place) -> List[Dict[str, Any]]:
    found = []
    for path in sorted(glob.glob(place.at("/sys/class/infiniband/") + "*/ports/*")):
        words = path.split("/")
        found.append(
            {
                "device": words[-3],
                "card": text(os.path.join("/".join(words[:-2]), "hca_type")),
                "port": words[-1],
                "state": text(os.path.join(path, "state")).rpartition(": ")[2],
                "rate": text(os.path.join(path, "rate")),
                "downed": whole(os.path.join(path, "counters/link_downed")),
            }
        )
    return found


def listeners(_place: Place) -> List[Dict[str, Any]]:
    """TCP ports that listen: `{address, port, program}`; `program` is None for one that cannot be seen."""
    found = [one for one in sockets.listeners(sockets.read()) if one.protocol.startswith("tcp")]
    owners: Dict[str, str] = {}
    if any(not is_loopback(one.address) and one.port != SSH for one in found):
        for directory in glob.glob("/proc/[0-9]*/fd"):
            try:
                links = [os.readlink(os.path.join(directory, name)) for name in os.listdir(directory)]
            except OSError:
                continue
            inodes = [link[8:-1] for link in links if link.startswith("socket:[")]
            if inodes:
                name = text(os.path.join(os.path.dirname(directory), "comm"))
                words = text(os.path.join(os.path.dirname(directory), "cmdline")).split(" ")
                # `python3` says little: the words after it name what it runs.
                shown = one_line(" ".join([name] + [os.path.basename(word) for word in words[:3]]), 80)
                owners.update(dict.fromkeys(inodes, shown))
    return [{"address": one.address, "port": one.port, "program": owners.get(one.inode)} for one in found]


SECTIONS: Dict[str, Callable[[Place], Any]] = {
    "host": host, "files": files, "gpus": gpus, "pci": pci, "driver": driver, "cuda": cuda, "packages": packages,
    "log": log, "processes": processes, "clock": clock, "disks": disks, "nvme": nvme, "network": network,
    "infiniband": infiniband, "listeners": listeners, "deployments": look_engine.deployments,
    "deep_context": look_deep.context, "deep_bandwidth": look_deep.bandwidth, "deep_disk": look_deep.disk,
}  # fmt: skip


def look(place: Place, section: str) -> Any:
    """One section. One that breaks is `{"problem": why}`, whatever breaks it."""
    try:
        return SECTIONS[section](place)
    except OSError as error:
        told = "%s: %s" % (error.filename, error.strerror) if error.filename else str(error)
    except Exception as error:  # what a host says may be anything; the other sections are read all the same
        told = "%s: %s" % (type(error).__name__, error)
    return {"problem": one_line(told, 200)}
