# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each fault, planted in the facts of a host that is in order, is found by its check and by no other."""

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks import check, look_system, make
from facts_of_hosts import GIB, MEMINFO, deployments, disk, driver, files, healthy, record, smi

MIB = 1024**2


def results(facts):
    assert make.FILES  # who imports it has all checks
    return {one.id: check.judge(one, check.Facts(facts)) for one in check.selected((), None, True)}


def gpu(index=0, **more):
    """A fault of one GPU, as `key=value` or `outer__inner=value`."""

    def plant(facts):
        for name, value in more.items():
            outer, _two, inner = name.partition("__")
            if inner:
                facts["gpus"]["gpus"][index][outer][inner] = value
            else:
                facts["gpus"]["gpus"][index][outer] = value

    return plant


def put(*path_and_value):
    """`put("driver", "nouveau_loaded", True)`."""
    *path, last, value = path_and_value

    def plant(facts):
        here = facts
        for step in path:
            here = here[step]
        here[last] = value

    return plant


def log(*lines):
    return put("log", "lines", list(lines))


def serves(**more):
    """The deployment is another one."""
    return put("deployments", deployments(record(**more)))


def file(name, text):
    return put("files", name, {"text": text})


def listens(address, port, user, program):
    return lambda facts: facts["listeners"].append({"address": address, "port": port, "user": user, "program": program})


def fabric(facts):
    facts["gpus"] = smi("fabric-in-progress")
    facts["pci"]["gpus"] = facts["pci"]["gpus"][:1] * len(facts["gpus"]["gpus"])
    facts["pci"]["driver_gpus"] = facts["cuda"]["count"] = len(facts["gpus"]["gpus"])


def lost_gpu(facts):
    facts["gpus"]["gpus"].pop()
    facts["pci"]["driver_gpus"] = 1
    facts["cuda"]["count"] = 1


def no_manager(facts):
    facts["driver"] = driver(nvswitches=4)


def other_manager(facts):
    facts["driver"] = driver(nvswitches=4, fabric_manager_version="550.54.15", fabric_manager_active="active")


def dead_manager(facts):
    facts["driver"] = driver(nvswitches=4, fabric_manager_version="580.159.04", fabric_manager_active="failed")


def other_library(facts):
    facts["driver"] = driver(library_version="580.65.06")
    facts["driver"]["reboot_reasons"] = []


def part(first, mode):
    """A MIG instance whose two device files have this mode; None: are not there."""
    paths = [f"/p/gi{first // 9}/access", f"/p/gi{first // 9}/ci0/access"]
    return {"gpu": "0", "paths": paths, "modes": {f"nvidia-cap{first}": mode, f"nvidia-cap{first + 1}": mode}}


def xid(number, said=""):
    return log(f"[ 10.0] NVRM: Xid (PCI:0000:18:00): {number}, pid=77, name=python, {said}")


def foreign(facts):
    one = {"pid": 99, "name": "/usr/bin/python3", "type": "C", "used_memory_mib": 30000, "user": "alice"}
    facts["gpus"]["gpus"][0]["processes"] = [one]


def held_memory(facts):
    facts["deployments"] = deployments()
    facts["gpus"]["gpus"][1]["memory_used_mib"] = 40000


def full_container(facts):
    """Of a host with memory enough: 1 GiB is left of the limit."""
    group = ("memory.limit_in_bytes", str(64 * GIB)), ("memory.usage_in_bytes", str(63 * GIB)), ("memory.stat", "")
    for name, text in group:
        facts["files"]["/sys/fs/cgroup/memory/" + name] = {"text": text}


def other_mtu(facts):
    facts["network"]["links"].append(dict(facts["network"]["links"][0], name="eth1", mtu=4200))
    facts["infiniband"][1]["interface"] = "eth1"


def fast_gpus(facts):
    facts["deep_bandwidth"]["copy"] = {"0": 55.2, "1": 24.0}


# (what is wrong, the check, its status, words of its fix, how it is planted)
FAULTS = [
    ("a GPU that is lost", "gpu_count", "fail", "xid", lost_gpu),
    ("recovery: reset", "gpu_recovery_action", "fail", "nvidia-smi -i 1 --gpu-reset", gpu(1, recovery_action="Reset")),
    ("recovery: reboot", "gpu_recovery_action", "fail", "reboot", gpu(recovery_action="Reboot")),
    ("recovery: drain", "gpu_recovery_action", "fail", "wait", gpu(recovery_action="Drain P2P")),
    ("rows wait", "gpu_row_remap", "fail", "-i 0 --gpu-reset", gpu(remapped_rows__pending=True)),
    ("a row failed", "gpu_row_remap", "fail", "RMA", gpu(remapped_rows__failure=True)),
    ("too many rows", "gpu_row_remap", "fail", "RMA", gpu(remapped_rows__uncorrectable=513)),
    ("ECC now", "gpu_ecc_errors", "fail", "gpu-reset", gpu(ecc={"mode": "Enabled", "volatile": {"uncorrectable": 3}})),
    ("SRAM in its life", "gpu_ecc_errors", "fail", "gpu-reset", gpu(sram_errors__uncorrectable=1)),
    ("SRAM too often", "gpu_ecc_errors", "fail", "gpu-reset", gpu(sram_errors__threshold_exceeded=True)),
    ("SRAM corrected", "gpu_ecc_errors", "fail", "gpu-reset", gpu(sram_errors__correctable=10001)),
    ("ECC off", "gpu_ecc_mode", "warn", "--ecc-config=1", gpu(ecc__mode="Disabled")),
    ("too hot", "gpu_throttle", "fail", "fans", gpu(throttle_reasons=["hw_slowdown", "hw_thermal_slowdown"])),
    ("power brake", "gpu_throttle", "fail", "power", gpu(throttle_reasons=["hw_power_brake_slowdown"])),
    ("warm", "gpu_throttle", "warn", "fans", gpu(throttle_reasons=["sw_thermal_slowdown"])),
    ("90 C", "gpu_temperature", "warn", "fans", gpu(temperature_c=93)),
    ("power limit", "gpu_power_limit", "warn", "-i 0 --power-limit=700", gpu(power_limit_w=350.0)),
    ("persistence off", "gpu_persistence", "warn", "nvidia-persistenced", gpu(persistence_mode=False)),
    ("PCIe x8", "gpu_pcie_width", "fail", "reseat", gpu(pcie__width=8)),
    ("PCIe generation 3", "gpu_pcie_generation", "warn", "firmware", gpu(pcie__max_gen=3)),
    ("PCIe replays", "gpu_pcie_replays", "warn", "reseat", gpu(pcie__replays=5000)),
    ("NVLink down", "gpu_nvlink", "fail", "nvlink --status", gpu(nvlinks=16, nvlinks_down=2)),
    ("NVLink few", "gpu_nvlink", "fail", "nvlink --status", gpu(nvlinks=12)),
    ("fabric in progress", "gpu_fabric", "fail", "systemctl status nvidia-fabricmanager", fabric),
    ("fabric degraded", "gpu_fabric", "warn", "fabricmanager", gpu(fabric__health_problems=["bandwidth Degraded"])),
    ("MIG on", "gpu_mig", "warn", "-i 0 -mig 0", gpu(mig__mode="Enabled")),
    ("exclusive", "gpu_compute_mode", "warn", "DEFAULT", gpu(compute_mode="Exclusive_Process")),
    ("prohibited", "gpu_compute_mode", "fail", "DEFAULT", gpu(compute_mode="Prohibited")),
    ("foreign process", "gpu_foreign_processes", "warn", "stop", foreign),
    ("memory held", "gpu_memory_held", "warn", "fuser", held_memory),
    ("two kinds", "gpu_same_model", "warn", "CUDA_VISIBLE_DEVICES", gpu(memory_total_mib=81559)),
    ("libraries of another version", "driver_versions", "fail", "Reboot", other_library),
    ("no fabric manager", "driver_fabric_manager", "fail", "580.159.04", no_manager),
    ("another fabric manager", "driver_fabric_manager", "fail", "580.159.04", other_manager),
    ("fabric manager is dead", "driver_fabric_manager", "fail", "systemctl enable --now", dead_manager),
    ("nouveau", "driver_nouveau", "fail", "blacklist", put("driver", "nouveau_loaded", True)),
    (
        "no module for the next kernel", "driver_next_kernel", "fail", "dkms autoinstall -k 6.8.0-90",
        put("packages", "kernels", [{"release": "6.8.0-90-generic", "nvidia": False, "headers": False}]),
    ),
    ("not held", "driver_held", "warn", "apt-mark hold", put("packages", "held", ["nvidia-utils-580"])),
    (
        "pending reboot", "driver_reboot", "warn", "reboot",
        put("packages", "reboot", ["packages ask for it: linux-image"]),
    ),
    ("Xid 79", "driver_xid", "fail", "reboot", xid(79, "GPU has fallen off the bus.")),
    ("Xid 48", "driver_xid", "fail", "nvidia-smi -i 0000:18:00 --gpu-reset", xid(48, "DBE")),
    ("Xid 74", "driver_xid", "fail", "nvlink", xid(74)),
    (
        "Xid 149 nonfatal", "driver_xid", "warn", "errorcounters",
        log("[1] NVRM: Xid (PCI:0000:04:00): 149, NETIR_BER_EVENT Nonfatal XC0 i0 Link 00 (0x00000013 0x00000000)"),
    ),
    (
        "Xid 149 fatal", "driver_xid", "fail", "fabricmanager",
        log("[1] NVRM: Xid (PCI:0000:04:00): 149, NETIR_LINK_EVT Fatal XC0 i0 Link 08 (0x004505c6 0x00000000)"),
    ),
    (
        "Xid 154", "driver_xid", "fail", "reboot;",
        log("[1] NVRM: Xid (PCI:0000:04:00): 154, GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot "
            "Required)"),
    ),
    (
        "Xid 154, reset", "driver_xid", "fail", "nvidia-smi -i 0000:04:00 --gpu-reset",
        log("[1] NVRM: Xid (PCI:0000:04:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset "
            "Required)"),
    ),
    (
        "Xid 95 of a MIG instance", "driver_xid", "fail", "nvidia-smi -i 0000:c3:00 --gpu-reset",
        log("[1] NVRM: Xid (PCI:0000:c3:00 GPU-I:05 GPU-CI:00): 95, pid=7, name=python3, Uncontained"),
    ),
    ("Xid 54", "driver_xid", "fail", "cable", xid(54)),
    ("Xid 78", "driver_xid", "fail", "firmware", xid(78)),
    ("Xid 142", "driver_xid", "fail", "bug-report", xid(142)),
    ("Xid 31", "driver_xid", "warn", "logs", xid(31, "Ch 00000008")),
    ("Xid unheard of", "driver_xid", "warn", "logs", xid(999)),
    ("CUDA 802", "driver_cuda", "fail", "fabric", put("cuda", "code", 802)),
    ("CUDA sees one", "driver_cuda", "fail", "dmesg", put("cuda", "count", 1)),
    ("no libcuda", "driver_cuda", "fail", "prepare", put("cuda", "missing", True)),
    ("no uvm", "driver_devices", "fail", "nvidia-modprobe", put("cuda", "devices", {"nvidiactl": 0o666})),
    ("no GPU's file", "driver_devices", "fail", "nvidia-smi -L",
     put("cuda", "devices", {"nvidiactl": 0o666, "nvidia-uvm": 0o666})),  # fmt: skip
    ("MIG's files missing", "driver_devices", "fail", "nvidia-modprobe -f /p/gi1/access -f /p/gi1/ci0/access",
     put("cuda", "mig", {"instances": [part(12, None)], "whole": 0})),  # fmt: skip
    ("one of MIG's files missing", "driver_devices", "warn", "nvidia-modprobe -f /p/gi2",
     put("cuda", "mig", {"instances": [part(12, 0o444), part(21, None)], "whole": 0})),  # fmt: skip
    ("MIG's files missing beside a whole GPU", "driver_devices", "warn", "nvidia-modprobe",
     put("cuda", "mig", {"instances": [part(12, None)], "whole": 1})),  # fmt: skip
    ("MIG's files closed", "driver_devices", "warn", "chmod 0444 /dev/nvidia-caps/nvidia-cap12",
     put("cuda", "mig", {"instances": [part(12, 0o440)], "whole": 0})),  # fmt: skip
    ("closed device", "driver_devices", "warn", "chmod 0666 /dev/nvidia0", put("cuda", "devices", "nvidia0", 0o660)),
    ("small /dev/shm", "system_shm", "fail", "remount,size=16G", put("disks", 1, "bytes", 8 * GIB)),
    ("tiny /dev/shm", "system_shm", "fail", "shm-size", put("disks", 1, "bytes", 64 * MIB)),
    ("full /dev/shm", "system_shm", "warn", "ls -l /dev/shm", put("disks", 1, "free", GIB)),
    ("no memory", "system_memory", "warn", "ps aux", file("/proc/meminfo", MEMINFO.replace("1900000000", "19000000"))),
    ("a full container", "system_memory", "warn", "ps aux", full_container),
    ("container's limit", "system_memory_limit", "warn", "--memory", file("/sys/fs/cgroup/memory.max", str(64 * GIB))),
    (
        "OOM", "system_oom", "warn", "Killed process".lower(),
        log("[1] Out of memory: Killed process 7 (VLLM::Worker) total"),
    ),
    ("machine check", "system_hardware_errors", "fail", "ipmitool", log("mce: [Hardware Error]: Uncorrected error")),
    ("corrected", "system_hardware_errors", "warn", "ipmitool", log("[Hardware Error]: Machine check events logged")),
    ("PCIe errors", "system_pci_errors", "fail", "reseat", put("pci", "devices", 0, "errors", 3)),
    ("ACS", "system_acs", "warn", "ECAP_ACS", put("pci", "devices", 2, "acs", 0x1D)),
    (
        "governor", "system_governor", "warn", "cpupower",
        file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave"),
    ),
    (
        "THP never", "system_huge_pages", "warn", "madvise",
        file("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]"),
    ),
    (
        "swapped out", "system_swap", "warn", "swapoff",
        file("/proc/meminfo", MEMINFO.replace("SwapTotal:             0", "SwapTotal:   8000000")),
    ),
    (
        "strict overcommit", "system_overcommit", "warn", "overcommit_memory=0",
        file("/proc/sys/vm/overcommit_memory", "2"),
    ),
    ("few maps", "system_max_map_count", "warn", "max_map_count=262144", file("/proc/sys/vm/max_map_count", "4096")),
    ("clock", "system_clock", "warn", "set-ntp", put("clock", "synchronised", False)),
    ("clock in the past", "system_clock_skew", "fail", "chronyc", put("clock", "now", 700.0)),
    ("clock a little in the past", "system_clock_skew", "warn", "chronyc", put("clock", "now", 990.0)),
    ("clock in the future", "system_clock_skew", "fail", "chronyc", put("clock", "now", 1200.0)),
    ("oops", "system_tainted", "warn", "reboot", file("/proc/sys/kernel/tainted", "12416")),
    ("GPU without a node", "system_numa_gpu", "warn", "firmware", put("pci", "devices", 0, "numa_node", -1)),
    ("disk nearly full", "disk_space", "warn", "model prune", put("disks", 2, "free", 20 * GIB)),
    ("disk full", "disk_space", "fail", "model prune", put("disks", 0, "free", 100 * MIB)),
    ("no inodes", "disk_inodes", "warn", "df -i", put("disks", 0, "inodes_free", 10)),
    ("read-only disk", "disk_read_only", "fail", "fsck", put("disks", 2, "read_only", True)),
    ("disk errors", "disk_errors", "fail", "smartctl", log("blk_update_request: I/O error, dev sda, sector 1")),
    ("dead NVMe", "disk_nvme", "fail", "replace", put("nvme", [{"name": "nvme1", "state": "dead"}])),
    ("a disk that dies", "disk_smart", "fail", "smartctl -a /dev/nvme0", put("smart", 0, "failing", "read-only")),
    ("a worn disk", "disk_smart", "warn", "replace", put("smart", 0, "worn", 97)),
    ("NFS", "disk_filesystem", "warn", "dsdeploy_data_dir", put("disks", 2, "fstype", "nfs4")),
    ("overlay", "disk_filesystem", "warn", "volume", put("disks", 2, "fstype", "overlay")),
    (
        "pointer file", "disk_models", "fail", "model verify",
        serves(model_problem="/m/a.safetensors is a git-lfs pointer"),
    ),
    ("no name", "network_name", "warn", "/etc/hosts", put("network", "addresses", [])),
    ("flapping link", "network_links", "warn", "ethtool", put("network", "links", 0, "downs", 40)),
    ("port lost", "network_infiniband", "fail", "ibstat", lambda f: f["infiniband"][1].update(state="DOWN", downed=3)),
    ("slow port", "network_infiniband", "warn", "ibstat", put("infiniband", 1, "rate", "200 Gb/sec (4X HDR)")),
    ("no GPUDirect", "network_gpudirect", "warn", "nvidia-peermem", put("driver", "loaded_open", False)),
    ("no RoCE v2", "network_gid", "warn", "IPv4 address", put("infiniband", 0, "gids", [])),
    ("two GIDs", "network_gid", "warn", "NCCL_IB_GID_INDEX", put("infiniband", 0, "gids", [5])),
    (
        "another GID is asked for", "network_gid", "warn", "set NCCL_IB_GID_INDEX to 3",
        serves(environ={"NCCL_IB_GID_INDEX": "0", "NCCL_NVLS_ENABLE": "0"}),
    ),
    ("MTU 1500", "network_mtu", "warn", "mtu 9000", put("network", "links", 0, "mtu", 1500)),
    ("two MTUs", "network_mtu", "warn", "mtu 9000", other_mtu),
    (
        "an Ollama of somebody's", "network_exposed", "fail", "OLLAMA_HOST=127.0.0.1",
        listens("0.0.0.0", 11434, "alice", "ollama serve"),
    ),
    (
        "a vLLM by hand", "network_exposed", "fail", "GLOO_SOCKET_IFNAME=lo",
        listens("192.0.2.2", 32771, "root", "VLLM::Worker_TP0"),
    ),
    (
        "Ray", "network_exposed", "warn", "127.0.0.1",
        listens("::", 8265, "alice", None),
    ),
    (
        "a record that is none", "engine_records", "fail", "dsdeploy up",
        put("deployments", "unreadable", ["x.json is not"]),
    ),
    (
        "dead engine", "engine_running", "fail", "dsdeploy logs",
        serves(running=False, state={"active": "failed", "restarts": 5, "detail": "failed, exit status 1"}),
    ),
    (
        "silent engine", "engine_answers", "fail", "dsdeploy status",
        serves(ready=False, ready_detail="connection refused"),
    ),
    (
        "still loading", "engine_answers", "warn", "status",
        serves(ready=False, state={"active": "starting", "restarts": 0, "detail": ""}),
    ),
    (
        "workers that hang", "engine_generates", "fail", "logs",
        lambda f: f["answers"][0].update(seconds=None, problem="the answer was not complete within 30 s"),
    ),
    (
        "a queue", "engine_generates", "warn", "--watch",
        lambda f: f["answers"][0].update(seconds=None, problem="not complete within 30 s", waiting=80.0),
    ),
    ("preemptions", "engine_preemptions", "warn", "max_num_seqs", put("answers", 0, "preempted", 700.0)),
    ("restarts", "engine_restarts", "warn", "logs", serves(state={"active": "running", "restarts": 9, "detail": ""})),
    (
        "open endpoint", "engine_exposed", "fail", "127.0.0.1",
        listens("0.0.0.0", 8000, "dsdeploy-vllm", "vllm"),
    ),
    (
        "a replica that may be somebody else", "engine_replicas", "fail", "up for all hosts",
        put("replicas", "lacking", {"gpu2": "its certificate is not the one that is known for it"}),
    ),
    (
        "developer's endpoints", "engine_dev_mode", "fail", "up",
        serves(environ={"VLLM_SERVER_DEV_MODE": "1", "NCCL_NVLS_ENABLE": "0"}),
    ),
    ("eager vLLM", "engine_eager", "warn", "--enforce-eager", serves(argv=[["--enforce-eager"]])),
    (
        "eager SGLang", "engine_eager", "warn", "--disable-cuda-graph",
        serves(engine="sglang", argv=[["--disable-cuda-graph"]]),
    ),
    (
        "the seed's num_gpu", "engine_gpu_layers", "warn", "num_gpu",
        serves(engine="ollama", on_gpu={"share": 0.16, "bytes": 200 * GIB}, environ={"OLLAMA_KEEP_ALIVE": "-1"}),
    ),
    (
        "keep-alive", "engine_keep_alive", "warn", "ollama_keep_alive to -1",
        serves(engine="ollama", on_gpu={"share": 1.0, "bytes": 40 * GIB}, environ={}),
    ),
    ("1024 files", "engine_open_files", "warn", "LimitNOFILE", serves(limits={"nofile": 1024, "memlock": None})),
    (
        "memlock with RDMA", "engine_memlock", "fail", "LimitMEMLOCK",
        serves(limits={"nofile": 1048576, "memlock": 65536}),
    ),
    ("certificate ends", "engine_certificate", "warn", "certificate", serves(has_tls=True, certificate={"days": 5})),
    ("certificate ended", "engine_certificate", "fail", "certificate", serves(has_tls=True, certificate={"days": -1})),
    ("open key", "engine_key_file", "fail", "chmod 0600 /etc/dsdeploy/keys/vllm", serves(key_mode=0o644)),
    (
        "a worker's port",
        "engine_side_ports", "warn", "firewall",
        listens("::", 41007, "dsdeploy-vllm", "VLLM::"),
    ),
    ("old engine", "engine_version", "fail", "newer", serves(version="0.11.0")),
    (
        "old Ollama", "engine_version", "fail", "newer",
        serves(engine="ollama", version="0.5.11", on_gpu={}, environ={"OLLAMA_KEEP_ALIVE": "-1"}),
    ),
    ("CUDA too new", "engine_cuda", "fail", "nvidia_driver_branch", serves(cuda="14.1")),
    ("no compiler", "engine_compiler", "fail", "apt install gcc", put("deployments", "compiler", None)),
    ("core dump", "engine_crashes", "warn", "coredumpctl", put("deployments", "core_dumps", ["core.VLLM.1"])),
    (
        "a GPU's memory is wrong", "deep_cuda_context", "fail", "gpu-reset",
        put("deep_context", "gpus", "1", "cuMemAlloc says 2"),
    ),
    ("slow copies", "deep_host_copy", "fail", "lspci", fast_gpus),
    ("slow all-reduce", "deep_all_reduce", "fail", "topo", put("deep_bandwidth", "all_reduce", 20.0)),
    ("slow disk", "deep_disk_read", "warn", "NVMe", put("deep_disk", "rate", 0.15)),
]  # fmt: skip
# What is told twice, because it is wrong in two ways.
ALSO = {
    "a GPU that is lost": {"driver_cuda"},
    "a full container": {"system_memory_limit"},
    "fabric in progress": {"gpu_persistence", "engine_cuda"},
}


@pytest.mark.parametrize(("what", "name", "status", "fix", "plant"), FAULTS, ids=[row[0] for row in FAULTS])
def test_a_fault_is_found_by_its_check_and_no_other(what, name, status, fix, plant):
    facts = healthy()
    plant(facts)
    found = results(facts)
    assert found[name]["status"] == status, found[name]
    assert fix in found[name]["fix"]
    assert found[name]["why"] and found[name]["source"] and found[name]["expected"] and found[name]["value"]
    others = {other for other, one in found.items() if one["status"] in ("fail", "warn")} - {name}
    assert others <= ALSO.get(what, set()), [found[other] for other in others]


def test_every_check_has_a_fault_here_or_below():
    below = {"gpu_answers", "gpu_retired_pages", "driver_secure_boot", "driver_sxid", "system_hung", "system_iommu"}
    below |= {"system_numa_balancing", "engine_multicast"}
    # Those between hosts are in test_gang.py.
    checks = [one for one in check.selected((), None, True) if one.group != "gang"]
    assert {one.id for one in checks} == {row[1] for row in FAULTS} | below


@pytest.mark.parametrize("distribution", ["ubuntu", "debian", "rhel"])
def test_of_a_healthy_host_there_is_nothing_to_say(distribution):
    found = results(healthy(distribution))
    assert {one["id"]: one for one in found.values() if one["status"] not in ("pass", "skip")} == {}
    passed = {name for name, one in found.items() if one["status"] == "pass"}
    assert len(passed) >= 60
    assert check.overall(list(found.values())) == "pass"
    assert check.told(list(found.values())) == []


def test_holds_are_made_with_the_distribution_s_own_tool():
    facts = healthy("rhel")
    facts["packages"]["held"] = []
    assert results(facts)["driver_held"]["fix"].startswith("dnf versionlock add kmod-nvidia")


def test_nvidia_smi_fails():
    facts = healthy()
    facts["gpus"] = dict(smi(), gpus=[], status="driver_library_mismatch", reason="version mismatch", hint="reboot it")
    found = results(facts)
    assert (found["gpu_answers"]["status"], found["gpu_answers"]["fix"]) == ("fail", "reboot it")
    # What hangs on it is unknown, and not a pass.
    assert {one["status"] for name, one in found.items() if name.startswith("gpu_")} == {"fail", "unknown"}


def test_retired_pages_of_a_card_before_ampere():
    facts = healthy()
    for one in facts["gpus"]["gpus"]:
        one["retired_pages"]["pending"] = False
    assert results(facts)["gpu_retired_pages"]["status"] == "pass"
    facts["gpus"]["gpus"][1]["retired_pages"]["pending"] = True
    assert results(facts)["gpu_retired_pages"]["status"] == "fail"


def test_secure_boot():
    facts = healthy()
    key = "/var/lib/shim-signed/mok/MOK.der"
    facts["driver"].update(secure_boot=True, mok_key=key)
    # The module is loaded, and the next one, which DKMS builds, will not be.
    assert results(facts)["driver_secure_boot"]["status"] == "warn"
    facts["driver"].update(mok_enrolled=None)
    assert results(facts)["driver_secure_boot"]["status"] == "unknown"
    facts["driver"].update(loaded_version=None, mok_enrolled=False)
    found = results(facts)["driver_secure_boot"]
    assert (found["status"], "not enrolled" in found["value"]) == ("fail", True)
    assert f"mokutil --import {key}," in found["fix"]
    facts["driver"].update(mok_key=None)
    found = results(facts)["driver_secure_boot"]
    assert (found["status"], "no key yet" in found["value"]) == ("fail", True)
    facts["driver"].update(mok_enrolled=True)
    assert results(facts)["driver_secure_boot"]["status"] == "pass"


def test_gpus_that_do_not_tell_their_memory():
    """One that shares the host's, as GB10 does, is not one of 0 MiB."""
    facts = healthy()
    for one in facts["gpus"]["gpus"]:
        one["memory_total_mib"] = None
    found = results(facts)["gpu_same_model"]
    assert (found["status"], found["value"]) == ("pass", "NVIDIA H200 without memory of its own")
    facts["gpus"]["gpus"][0]["name"] = None
    assert results(facts)["gpu_same_model"]["status"] == "unknown"


def test_memory_of_which_nobody_tells_who_holds_it():
    facts = healthy()
    held_memory(facts)
    process = {"pid": 7, "name": "python3", "type": "C", "used_memory_mib": None, "user": None}
    facts["gpus"]["gpus"][1]["processes"] = [process]
    assert results(facts)["gpu_memory_held"]["status"] == "skip"
    # Another that does is found all the same.
    facts["gpus"]["gpus"][0].update(memory_used_mib=40000, processes=[])
    assert results(facts)["gpu_memory_held"]["status"] == "warn"


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("updates/dkms/nvidia.ko.xz:", True),
        ("kernel/drivers/video/nvidia.ko: ", True),
        ("updates/dkms/nvidia-current.ko:", True),
        # Debian 13's, of nvidia-open-kernel-dkms.
        ("updates/dkms/nvidia-current-open.ko.xz:", True),
        ("updates/dkms/nvidia-current-open-modeset.ko:", False),
        ("kernel/drivers/net/forcedeth-nvidia.ko:", False),
    ],
)
def test_a_kernel_s_module_of_the_driver(path, is_one):
    assert look_system.has_driver(f"kernel/fs/ext4.ko:\n{path}\n") is is_one


def test_sxid():
    facts = healthy()
    facts["driver"] = driver(nvswitches=4, fabric_manager_version="580.159.04", fabric_manager_active="active")
    assert results(facts)["driver_sxid"]["status"] == "pass"
    line = "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): %d, %s, Link 44 error"
    facts["log"]["lines"] = [line % (11001, "Non-fatal")]
    assert results(facts)["driver_sxid"]["status"] == "warn"
    facts["log"]["lines"].append(line % (12028, "Fatal"))
    assert results(facts)["driver_sxid"]["status"] == "fail"


def test_hung_processes():
    facts = healthy()
    facts["log"]["lines"] = ["INFO: task nvidia-smi:812 blocked for more than 120 seconds."]
    assert results(facts)["system_hung"]["status"] == "warn"
    facts["processes"]["stuck"] = ["nvidia-smi"]
    assert results(facts)["system_hung"]["status"] == "fail"


def test_iommu():
    facts = healthy()
    facts["files"]["/proc/cmdline"] = {"text": "ro quiet"}
    assert results(facts)["system_iommu"]["status"] == "pass"  # its groups are passed through all the same
    facts["pci"]["iommu_types"] = ["DMA-FQ"]
    assert results(facts)["system_iommu"]["status"] == "warn"
    facts["host"]["virtual"] = "kvm"
    assert results(facts)["system_iommu"]["status"] == "skip"
    assert results(facts)["system_acs"]["status"] == "skip"


def test_numa_balancing_counts_where_a_model_computes_on_the_cpu():
    facts = healthy()
    facts["files"]["/proc/sys/kernel/numa_balancing"] = {"text": "1"}
    assert results(facts)["system_numa_balancing"]["status"] == "pass"
    facts["deployments"] = deployments(record("llama_cpp"))
    assert results(facts)["system_numa_balancing"]["status"] == "warn"


def test_nvlink_multicast_of_a_guest():
    facts = healthy()
    facts["host"]["virtual"] = "kvm"
    assert results(facts)["engine_multicast"]["status"] == "pass"
    facts["deployments"]["records"][0]["environ"] = {}
    assert results(facts)["engine_multicast"]["status"] == "warn"


def test_what_is_stopped_on_purpose_is_well():
    facts = healthy()
    state = {"active": "stopped", "restarts": 0, "detail": "inactive (dead)"}
    facts["deployments"] = deployments(record(running=False, on_purpose=True, ready=None, state=state))
    found = results(facts)
    assert found["engine_running"]["status"] == "pass"
    assert found["engine_answers"]["status"] == "skip"


def test_a_large_model_that_does_not_fit_is_no_mistake():
    facts = healthy()
    facts["deployments"] = deployments(
        record("ollama", on_gpu={"share": 0.5, "bytes": 900 * GIB}, environ={"OLLAMA_KEEP_ALIVE": "48h"})
    )
    found = results(facts)
    assert found["engine_gpu_layers"]["status"] == "pass"
    assert found["engine_keep_alive"]["status"] == "pass"


def test_a_small_model_in_a_container_s_overlay_is_no_mistake():
    facts = healthy()
    facts["disks"][2] = disk("data", "/var/lib/m", "/", "overlay")
    assert results(facts)["disk_filesystem"]["status"] == "pass"


def test_an_h800_has_half_of_an_h100_s_links():
    facts = healthy()
    facts["gpus"] = smi("h800-x8-driver550", 4)
    found = results(facts)["gpu_nvlink"]
    assert (found["status"], found["value"]) == ("pass", "8 on each")


def test_eight_h800_reduce_at_half_the_rate_of_h100s():
    facts = healthy()
    facts["gpus"] = smi("h800-x8-driver550", 4)
    facts["deep_bandwidth"]["all_reduce"] = 205.0
    assert results(facts)["deep_all_reduce"]["status"] == "pass"
    for one in facts["gpus"]["gpus"]:
        one["name"] = "NVIDIA H100 80GB HBM3"
    assert results(facts)["deep_all_reduce"]["status"] == "fail"


def test_a_plain_user_is_told_unknown_and_a_section_that_broke_is_too():
    facts = healthy()
    facts["host"]["root"] = False
    facts["log"] = {"problem": "dmesg: Operation not permitted"}
    facts["deployments"]["records"][0].update(environ=None, limits=None, argv=[], key_mode=None)
    facts["files"]["/proc/meminfo"] = {"problem": "Permission denied"}
    found = results(facts)
    unknown = {name for name, one in found.items() if one["status"] == "unknown"}
    assert unknown >= {
        "driver_xid", "system_oom", "system_acs", "engine_eager", "engine_open_files", "engine_key_file", "system_swap",
    }  # fmt: skip
    assert found["driver_xid"]["value"] == "dmesg: Operation not permitted"
    assert not any(one["fix"] for one in found.values())


def test_what_could_not_be_asked_for_a_token_is_unknown_and_what_would_be_loaded_is_left_alone():
    facts = healthy()
    facts["answers"][0].update(seconds=None, unread="only root can read its API key")
    assert results(facts)["engine_generates"]["status"] == "unknown"
    facts["answers"][0].update(unread="", idle="no model is loaded")
    assert results(facts)["engine_generates"]["status"] == "skip"
    facts["answers"] = []
    assert results(facts)["engine_generates"]["status"] == "skip"


def test_disks_that_were_not_asked_are_unknown_and_those_of_a_virtual_machine_tell_nothing():
    facts = healthy()
    facts["smart"].append({"name": "sda", "failing": "", "worn": None, "problem": "smartctl is not installed"})
    found = results(facts)["disk_smart"]
    assert (found["status"], found["value"]) == ("unknown", "sda: smartctl is not installed")
    facts["smart"] = []
    assert results(facts)["disk_smart"]["status"] == "skip"


def test_infiniband_proper_has_neither_gids_to_choose_nor_an_mtu_of_ethernet():
    facts = healthy()
    for one in facts["infiniband"]:
        one.update(roce=False, gids=[], interface="")
    assert {results(facts)[name]["status"] for name in ("network_gid", "network_mtu")} == {"skip"}


def test_no_gpu_at_all():
    facts = healthy()
    facts["gpus"] = dict(smi(), gpus=[], status="not_installed", pci_gpu_count=0)
    facts["driver"] = driver(None, gpus=[])
    facts["cuda"]["missing"] = True
    facts["deployments"] = deployments(record("llama_cpp", device="cpu"))
    found = results(facts)
    assert {one["status"] for one in found.values()} == {"pass", "skip"}
    assert found["gpu_answers"]["status"] == "skip"


def test_gpus_of_virtual_machines_are_none_of_the_host_and_not_missing():
    facts = healthy()
    facts["pci"]["vfio"] = ["0000:3a:00.0"] * 6
    facts["gpus"]["vfio_gpu_count"] = 6
    assert results(facts)["gpu_count"]["status"] == "pass"
    facts["pci"]["expected_gpus"] = 8
    found = results(facts)["gpu_count"]
    assert (found["status"], found["value"]) == (
        "fail", "nvidia-smi shows 2 GPUs, expected are 8; 6 GPUs are bound to vfio-pci, for virtual machines",
    )  # fmt: skip
    assert found["fix"].startswith("Give them back")
    # The driver finds none then, whatever it says of that.
    facts["gpus"] = dict(
        smi(), gpus=[], status="driver_not_loaded", reason="no driver", pci_gpu_count=0, vfio_gpu_count=8
    )
    found = results(facts)["gpu_answers"]
    assert (found["status"], found["value"]) == (
        "skip",
        "this host's 8 GPUs are bound to vfio-pci, for virtual machines",
    )


def test_nvswitches_behind_network_cards():
    """HGX B200: they are on no PCI bus, and the fabric manager is needed all the same."""
    facts = healthy()
    facts["driver"] = driver(switch_bridges=4)
    found = results(facts)["driver_fabric_manager"]
    assert found["status"] == "fail" and "NVSwitches of NVLink 5" in found["value"]
    there = {"fabric_manager_version": "580.159.04", "subnet_manager": True}
    facts["driver"] = driver(switch_bridges=4, **there, fabric_manager_active="failed")
    found = results(facts)["driver_fabric_manager"]
    assert found["status"] == "fail" and "ib_umad" in found["fix"]
    facts["driver"] = driver(switch_bridges=4, **there, fabric_manager_active="active")
    assert results(facts)["driver_fabric_manager"]["status"] == "pass"
    facts["driver"] = driver(switch_bridges=4, **{**there, "subnet_manager": False}, fabric_manager_active="active")
    assert "nvlsm" in results(facts)["driver_fabric_manager"]["fix"]
    facts["driver"] = driver(switch_bridges=None)
    facts["gpus"]["fabric"] = {"ready": None, "state": None, "status": None, "health": None}
    assert results(facts)["driver_fabric_manager"]["status"] == "unknown"
    # What the GPUs say of it is known to everybody.
    facts["gpus"]["fabric"] = {"ready": True, "state": "Completed", "status": "Success", "health": "Healthy"}
    assert results(facts)["driver_fabric_manager"]["status"] == "skip"


@pytest.mark.parametrize("section", ["files", "gpus", "driver", "deployments", "disks", "log", "network", "clock"])
@pytest.mark.parametrize("rubbish", [None, [], {}, "x", [None], {"records": [{}]}, {"lines": None}, 7])
def test_facts_of_an_odd_form_leave_checks_unknown(section, rubbish):
    facts = healthy()
    facts[section] = rubbish
    assert {one["status"] for one in results(facts).values()} <= {"pass", "skip", "unknown", "fail", "warn"}
    facts[section] = {"problem": "it cannot be read"}
    assert {one["status"] for one in results(facts).values()} == {"pass", "skip", "unknown"}


def test_files_that_are_read():
    assert set(files()) == set(look_system.FILES)


@pytest.mark.parametrize(("root", "says"), [(True, "not even root can, in this container,"), (False, "only root can")])
def test_an_environment_that_cannot_be_read_is_unknown_with_its_reason(root, says):
    facts = healthy()
    facts["host"]["root"] = root
    facts["deployments"] = deployments(record(environ=None))
    found = results(facts)["engine_dev_mode"]
    assert (found["status"], found["value"]) == ("unknown", f"{says} read the environment of vllm")


def test_a_program_with_many_ports_is_named_once():
    """`vllm serve --tensor-parallel-size 2` by hand, on a host with two H200: seven sockets for each worker."""
    facts = healthy()
    for port in (32771, 33395, 43493, 49839, 52057):
        listens("192.0.2.2", port, "root", "VLLM::Worker_TP0")(facts)
    listens("192.0.2.2", 32772, "root", "VLLM::Worker_TP1")(facts)
    found = results(facts)["network_exposed"]
    assert found["value"] == (
        "VLLM::Worker_TP0 on 192.0.2.2 ports 32771, 33395, 43493 and 2 more; VLLM::Worker_TP1 on 192.0.2.2 port 32772"
    )
    assert "OLLAMA" not in found["fix"]


def on_half_the_gpu(**gpu_facts):
    facts = healthy()
    for one in facts["gpus"]["gpus"]:
        one.update(gpu_facts)
    facts["deployments"] = deployments(record("ollama", on_gpu={"share": 0.5, "bytes": 60 * GIB}, environ={}))
    return results(facts)["engine_gpu_layers"]


def test_memory_that_is_not_told_is_not_taken_for_full():
    assert on_half_the_gpu()["status"] == "warn"
    assert on_half_the_gpu(memory_free_mib=0)["status"] == "pass"
    found = on_half_the_gpu(memory_free_mib=None)
    assert (found["status"], found["value"]) == ("unknown", "how much memory the GPUs have free is not known")


def test_what_the_whole_gpu_has_free_is_not_the_instance_s():
    small = [{"index": 0, "memory_total_mib": 19968, "memory_used_mib": 19000, "memory_free_mib": 968}]
    found = on_half_the_gpu(mig={"mode": "Enabled", "instances": small})
    assert found["status"] == "pass"


def test_a_container_is_not_told_of_mig_s_instances_that_are_not_its_own():
    facts = healthy()
    facts["host"]["container"] = "docker"
    facts["cuda"]["mig"] = {"instances": [part(12, None), part(21, 0o444)], "whole": 0}
    assert results(facts)["driver_devices"]["status"] == "pass"
    facts["cuda"]["mig"]["instances"].pop()
    assert results(facts)["driver_devices"]["status"] == "fail"
