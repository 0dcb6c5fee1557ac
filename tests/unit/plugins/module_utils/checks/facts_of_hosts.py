# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of hosts that are in order, as look.py reads them. The GPUs are those of recorded output."""

import copy
from pathlib import Path

from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.look_system import FILES
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.driver import mix_problems, reboot_reasons
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.facts import build_facts
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.smi import diagnose
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.smi_xml import parse_xml

RECORDED = Path(__file__).resolve().parents[3] / "fixtures/nvidia_smi"
GIB = 1024**3


def smi(case="h200-x2", nvswitches=0, text=None):
    """The facts that nvidia-smi's recorded output gives."""
    directory = RECORDED / case
    text = text or (directory / "nvidia-smi-q-x.xml").read_text()
    report = parse_xml(text)
    told = {
        name: (directory / name).read_text() for name in ("query-uuid.csv", "nvlink.txt") if (directory / name).exists()
    }
    pci = {"gpus": len(report["gpus"]), "nvswitches": nvswitches, "vfio": 0, "bridges": 0}
    query, nvlink = told.get("query-uuid.csv", ""), told.get("nvlink.txt", "")
    found = build_facts(diagnose(0, text, "", report), report, "xml", query, nvlink, pci)
    for gpu in found["gpus"]:
        gpu["processes"] = [dict(process, user=None) for process in gpu["processes"]]
    return found


def driver(version="580.159.04", packages=(), **more):
    facts = {
        "gpus": [{"address": "0000:00:06.0", "device_id": "0x2335", "generation": "Hopper"}] * 2,
        "vfio_gpus": [],
        "nvswitches": 0,
        "switch_bridges": 0,
        "subnet_manager": False,
        "kernel": {"release": "6.8.0-79-generic", "compiler": "gcc-13", "has_compiler": True, "has_headers": True},
        "nouveau_loaded": False,
        "may_load_modules": True,
        "secure_boot": False,
        "mok_enrolled": False,
        "loaded_version": version,
        "loaded_open": True,
        "library_version": version,
        "fabric_manager_version": None,
        "fabric_manager_active": None,
        "peermem": False,
        "packages": {name: version + "-0ubuntu1" for name in packages},
    }
    facts.update(more)
    return dict(
        facts,
        problems=[problem._asdict() for problem in mix_problems(facts)],
        reboot_reasons=reboot_reasons(facts),
    )


PACKAGES = {
    "ubuntu": ["libnvidia-compute-580", "nvidia-dkms-580-open", "nvidia-utils-580"],
    "debian": ["libcuda1", "nvidia-open-kernel-dkms", "nvidia-smi"],
    "rhel": ["kmod-nvidia-open-dkms", "nvidia-driver-cuda-libs"],
}
KERNELS = {"ubuntu": "6.8.0-79-generic", "debian": "6.1.0-37-amd64", "rhel": "5.14.0-570.el9.x86_64"}

MEMINFO = """MemTotal:       2113540420 kB
MemFree:        1200000000 kB
MemAvailable:   1900000000 kB
SwapTotal:             0 kB
SwapFree:              0 kB
"""


def files(**more):
    texts = {
        "/proc/meminfo": MEMINFO,
        "/proc/cmdline": "BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro iommu=pt",
        "/proc/sys/kernel/numa_balancing": "0",
        "/proc/sys/kernel/tainted": "12288",  # an out-of-tree and an unsigned module, as NVIDIA's are
        "/proc/sys/vm/overcommit_memory": "0",
        "/proc/sys/vm/max_map_count": "65530",
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance",
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_driver": "acpi-cpufreq",
        "/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
    }
    texts.update(more)
    found = {name: {"text": text} for name, text in texts.items() if text is not None}
    for name in FILES:
        found.setdefault(name, {"missing": True})
    return found


def disk(what, path, mount="/", fstype="ext4", large=False, **more):
    found = {
        "what": what, "path": path, "large": large, "mount": mount, "fstype": fstype, "bytes": 1000 * GIB,
        "free": 600 * GIB, "inodes": 6 * 10**7, "inodes_free": 5 * 10**7, "read_only": False,
    }  # fmt: skip
    return dict(found, **more)


def record(engine="vllm", **more):
    found = {
        "engine": engine,
        "version": {"vllm": "0.32.0", "sglang": "0.5.23", "ollama": "0.24.0", "llama_cpp": "b11549"}[engine],
        "endpoint": "http://127.0.0.1:8000",
        "host": "127.0.0.1",
        "port": 8000,
        "device": "gpu",
        "user": "dsdeploy-" + engine,
        "state": {"active": "running", "restarts": 0, "detail": "active (running)", "pid": 4242, "restarting": False},
        "running": True,
        "on_purpose": False,
        "ready": True,
        "ready_detail": None,
        "has_tls": False,
        "has_key": True,
        "api_key_file": "/etc/dsdeploy/keys/" + engine,
        "key_mode": 0o600,
        "argv": [["--tensor-parallel-size", "2"]],
        "environ": {"NCCL_NVLS_ENABLE": "0"},
        "limits": {"nofile": 1048576, "memlock": None},
        "model_bytes": 80 * GIB,
        "model_problem": "",
        "cuda": "13.0",
        "certificate": None,
        "on_gpu": None,
    }
    return dict(found, **more)


def deployments(*records):
    return {"records": list(records), "unreadable": [], "hard_nofile": 1048576, "compiler": "gcc", "core_dumps": []}


def device(kind, **more):
    return dict({"address": "0000:18:00.0", "kind": kind, "numa_node": 0, "errors": 0, "acs": None}, **more)


GANG = {"gpu1": "10.0.0.1", "gpu2": "10.0.0.2"}


def gang_look_of(host):
    """What a host of a gang of two tells."""
    return {
        "hosts": ["gpu1", "gpu2"],
        "here": host,
        "address": GANG[host],
        "interface": "eth0",
        "mtu": 9000,
        "hcas": ["mlx5_0"],
        "gid_index": 3,
        "resolved": {name: [address] for name, address in GANG.items()},
        "clock": {"offset": 0.1, "error": 0.2},
        "problem": "",
        "driver": "580.159.04",
        "gpus": "8 × NVIDIA H200",
        "release": "vllm 0.32.0-cuda-1c0ffee5",
        "model": "deepseek-r1-awq, sha256 0123456789ab",
        "active": "running",
    }


def reached(why="", wrong=""):
    return {"why": why, "wrong": wrong}


def gang():
    """Two hosts that serve one model together."""
    met = {"gpu1": {"gpu2": reached()}, "gpu2": {"gpu1": reached()}}
    looks = {host: gang_look_of(host) for host in GANG}
    return {"here": "gpu1", "hosts": ["gpu1", "gpu2"], "looks": looks, "met": met, "away": {}, "problem": ""}


def healthy(distribution="ubuntu"):
    """A machine with two H200 that serves with vLLM: nothing to say about it."""
    kernel = KERNELS[distribution]
    packages = PACKAGES[distribution]
    host_driver = driver(packages=packages)
    host_driver["kernel"]["release"] = kernel
    facts = {
        "host": {
            "root": True,
            "container": None,
            "virtual": None,
            "systemd": True,
            "kernel": kernel,
            "distribution": {"ubuntu": "ubuntu 24.04", "debian": "debian 12", "rhel": "rocky 9.5"}[distribution],
        },  # fmt: skip
        "files": files(),
        "gang": gang(),
        "gpus": smi(),
        "pci": {
            "devices": [device("gpu"), device("gpu"), device("bridge", acs=0)],
            "gpus": ["0000:18:00.0", "0000:2a:00.0"],
            "vfio": [],
            "driver_gpus": 2,
            "iommus": ["dmar0"],
            "iommu_types": ["identity"],
            "nodes": 2,
            "expected_gpus": 0,
        },
        "driver": host_driver,
        "cuda": {
            "missing": False,
            "code": 0,
            "count": 2,
            "devices": {"nvidia0": 0o666, "nvidia1": 0o666, "nvidiactl": 0o666, "nvidia-uvm": 0o666},
            "mig": {"instances": [], "whole": 2},
        },  # fmt: skip
        "packages": {
            "tool": "dnf" if distribution == "rhel" else "apt",
            "held": list(packages),
            "held_problem": "",
            "reboot": [],
            "reboot_problem": "",
            "kernels": [{"release": kernel, "nvidia": True, "headers": True}],
        },
        "log": {"lines": []},
        "processes": {"stuck": []},
        "clock": {"now": 1000.5, "controller": 1000.0, "synchronised": True},
        "disks": [
            disk("system", "/"),
            disk("shm", "/dev/shm", "/dev/shm", "tmpfs", bytes=1000 * GIB, free=999 * GIB),
            disk("data", "/var/lib/dsdeploy/models/m", "/data", "xfs", large=True),
        ],
        "nvme": [{"name": "nvme0", "state": "live"}],
        "smart": [{"name": "nvme0", "failing": "", "worn": 3, "problem": ""}],
        "network": {
            "name": "gpu1",
            "addresses": ["10.0.0.1"],
            "problem": "",
            "links": [{"name": "eth0", "state": "up", "carrier": True, "downs": 1, "physical": True, "mtu": 9000}],
        },  # fmt: skip
        "infiniband": [
            {
                "device": "mlx5_0",
                "card": "MT4129",
                "port": "1",
                "state": "ACTIVE",
                "rate": "400 Gb/sec (4X NDR)",
                "downed": 0,
                "roce": True,
                "gids": [3],
                "interface": "eth0",
            },
            {
                "device": "mlx5_1",
                "card": "MT4129",
                "port": "1",
                "state": "ACTIVE",
                "rate": "400 Gb/sec (4X NDR)",
                "downed": 0,
                "roce": True,
                "gids": [3],
                "interface": "eth0",
            },
        ],
        "listeners": [
            {"address": "127.0.0.1", "port": 8000, "user": "dsdeploy-vllm", "program": "python vllm"},
            {"address": "0.0.0.0", "port": 22, "user": "root", "program": "sshd"},
        ],
        "deployments": deployments(record()),
        "answers": [
            {
                "engine": "vllm",
                "seconds": 0.2,
                "problem": "",
                "unread": "",
                "idle": "",
                "waiting": 0.0,
                "preempted": 3.0,
                "finished": 5000.0,
            }
        ],
        "replicas": {"names": ["gpu2", "gpu3"], "lacking": {}},
        "deep_context": {"gpus": {"0": "", "1": ""}},
        "deep_bandwidth": {"copy": {"0": 55.2, "1": 55.1}, "all_reduce": 350.0, "by": "PyTorch", "nvls": True},
        "deep_disk": {"path": "/data/model", "rate": 5.5},
    }
    return copy.deepcopy(facts)
