#!/usr/bin/env python3
"""Stand-in for a machine with two H200: its sysfs, procfs, kernel log and nvidia-smi, in order or with faults.

Usage: doctor_host.py RECORDED ROOT [FAULT]...
RECORDED is tests/unit/fixtures/nvidia_smi/h200-x2. Makes ROOT/sys, ROOT/proc, ROOT/kernel.log and ROOT/case (for
nvidia_smi_replay) anew. The nvidia-smi of the machine is recorded, a fault is a change of it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

DRIVER = "580.159.04"
# (text in the recorded XML, what a fault makes of it), the first occurrence: GPU 0.
XML = {
    "recovery": ("<gpu_recovery_action>None<", "<gpu_recovery_action>Reset<"),
    "row-remap": ("<remapped_row_pending>No<", "<remapped_row_pending>Yes<"),
    "row-failure": ("<remapped_row_failure>No<", "<remapped_row_failure>Yes<"),
    "ecc": ("<dram_uncorrectable>0<", "<dram_uncorrectable>7<"),
    "ecc-off": ("<current_ecc>Enabled<", "<current_ecc>Disabled<"),
    "throttle": ("<clocks_event_reason_hw_slowdown>Not Active<", "<clocks_event_reason_hw_slowdown>Active<"),
    "power-limit": ("<current_power_limit>700.00 W<", "<current_power_limit>300.00 W<"),
    "persistence": ("<persistence_mode>Enabled<", "<persistence_mode>Disabled<"),
    "pcie-width": ("<current_link_width>16x<", "<current_link_width>4x<"),
    "pcie-generation": ("<max_link_gen>5<", "<max_link_gen>3<"),
    "pcie-replays": ("<replay_counter>0<", "<replay_counter>40000<"),
    "mig": ("<current_mig>Disabled<", "<current_mig>Enabled<"),
    "compute-mode": ("<compute_mode>Default<", "<compute_mode>Prohibited<"),
    "fabric": ("<state>Completed<", "<state>In Progress<"),
    "hot": ("<gpu_temp>31 C<", "<gpu_temp>94 C<"),
    "foreign": (
        "<processes>",
        "<processes><process_info><pid>1</pid><type>C</type><process_name>/usr/bin/python3</process_name>"
        "<used_memory>30000 MiB</used_memory></process_info>",
    ),
}
PROC = {
    "cmdline": "root=/dev/sda1 ro iommu=pt\n",
    "cpuinfo": "flags\t\t: fpu sse2\n",
    "meminfo": "MemTotal: 2113540420 kB\nMemFree: 1800000000 kB\nMemAvailable: 1900000000 kB\n"
    "SwapTotal: 0 kB\nSwapFree: 0 kB\n",
    "sys/kernel/numa_balancing": "0\n",
    "sys/kernel/tainted": "12288\n",
    "sys/kernel/osrelease": "6.1.0-standin\n",
    "sys/vm/overcommit_memory": "0\n",
    "sys/vm/max_map_count": "65530\n",
    "version": "Linux version 6.1.0-standin (gcc-12 (Debian 12.2.0-14) 12.2.0, GNU ld) #1\n",
    "modules": "nvidia 16384 0 - Live 0x0\n",
    "self/status": "CapEff:\t000001ffffffffff\n",
    "driver/nvidia/version": f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {DRIVER}  Release Build\n",
    "driver/nvidia/gpus/0000:10:00.0/information": "",
    "driver/nvidia/gpus/0000:11:00.0/information": "",
}
SYS = {
    "devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
    "devices/system/cpu/cpu0/cpufreq/scaling_driver": "acpi-cpufreq\n",
    "kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    "class/nvme/nvme0/state": "live\n",
}
ROCE = {
    "class/net/ib0/operstate": "up\n",
    "class/net/ib0/device": "",
    "class/net/ib0/mtu": "9000\n",
    "class/infiniband/mlx5_0/ports/1/rate": "400 Gb/sec (4X NDR)\n",
    "class/infiniband/mlx5_0/ports/1/state": "4: ACTIVE\n",
    "class/infiniband/mlx5_0/ports/1/link_layer": "Ethernet\n",
    "class/infiniband/mlx5_0/ports/1/counters/link_downed": "2\n",
    "class/infiniband/mlx5_0/ports/1/gid_attrs/types/3": "RoCE v2\n",
    "class/infiniband/mlx5_0/ports/1/gid_attrs/ndevs/3": "ib0\n",
    "class/infiniband/mlx5_0/ports/1/gids/3": "0000:0000:0000:0000:0000:ffff:0a00:0001\n",
}
# Files that a fault writes otherwise.
FILES = {
    "nouveau": ("proc/modules", "nouveau 16384 0 - Live 0x0\n"),
    "driver": ("proc/driver/nvidia/version", PROC["driver/nvidia/version"].replace(DRIVER, "550.90.12")),
    "memory": ("proc/meminfo", PROC["meminfo"].replace("MemAvailable: 1900000000", "MemAvailable: 1900000")),
    "swap": (
        "proc/meminfo",
        PROC["meminfo"]
        .replace("SwapTotal: 0", "SwapTotal: 8000000")
        .replace("MemAvailable: 1900000000", "MemAvailable: 99"),
    ),
    "overcommit": ("proc/sys/vm/overcommit_memory", "2\n"),
    "max-map-count": ("proc/sys/vm/max_map_count", "4096\n"),
    "tainted": ("proc/sys/kernel/tainted", "12416\n"),
    "governor": ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
    "huge-pages": ("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n"),
    "memory-limit": ("sys/fs/cgroup/memory.max", "68719476736\n"),
    "nvme": ("sys/class/nvme/nvme0/state", "dead\n"),
    "pci-errors": ("sys/bus/pci/devices/0000:10:00.0/aer_dev_fatal", "TOTAL_ERR_FATAL 4\n"),
    "link": ("sys/class/net/ib0/carrier_down_count", "80\n"),
    "infiniband": ("sys/class/infiniband/mlx5_1/ports/1/state", "1: DOWN\n"),
    "gid": ("sys/class/infiniband/mlx5_0/ports/1/gids/3", "fe80:0000:0000:0000:a288:c2ff:fe3b:506a\n"),
    "mtu": ("sys/class/net/ib0/mtu", "1500\n"),
    "smart": (
        "smart.json",
        '{"smart_status": {"passed": false}, "nvme_smart_health_information_log": {"critical_warning": 4}}\n',
    ),
}
LOG = {
    "xid": "NVRM: Xid (PCI:0000:10:00): 79, pid=77, name=python3, GPU has fallen off the bus.\n",
    "sxid": "nvidia-nvswitch0: SXid (PCI:0000:80:00.0): 12028, Fatal, Link 44 egress non-posted PRIV error\n",
    "oom": "Out of memory: Killed process 77 (VLLM::Worker) total-vm:1kB\n",
    "disk": "blk_update_request: I/O error, dev nvme0n1, sector 8\n",
    "machine-check": "mce: [Hardware Error]: Uncorrected error, bank 5\n",
    "hung": "INFO: task nvidia-smi:77 blocked for more than 120 seconds.\n",
}


def put(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def main() -> None:
    recorded, root, faults = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    known = {*XML, *FILES, *LOG, "nvlink", "nvswitches", "secure-boot"}
    if set(faults) - known:
        raise SystemExit(f"there is no fault {', '.join(set(faults) - known)}")
    for name in ("sys", "proc", "case"):
        shutil.rmtree(root / name, ignore_errors=True)
    hardware = [sys.executable, Path(__file__).with_name("nvidia_host.py"), root, "--gpu=0x2335", "--gpu=0x2335"]
    switches = ["--nvswitches=4"] if {"nvswitches", "sxid"} & set(faults) else []
    subprocess.run([*hardware, *switches], check=True)
    put(root / "proc", PROC)
    put(root / "sys", SYS)
    put(root / "sys", ROCE)
    if "infiniband" in faults:
        put(root / "sys", {path.replace("mlx5_0", "mlx5_1"): text for path, text in ROCE.items()})
    put(root, {"smart.json": '{"smart_status": {"passed": true}}\n'})
    put(root, {FILES[fault][0]: FILES[fault][1] for fault in faults if fault in FILES})
    if "secure-boot" in faults:
        variables = root / "sys/firmware/efi/efivars"
        variables.mkdir(parents=True)
        (variables / "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c").write_bytes(b"\x06\x00\x00\x00\x01")
    lines = "usb 1-1: new device\n" + "".join(LOG[fault] for fault in faults if fault in LOG)
    (root / "kernel.log").write_text(lines)
    shutil.copytree(recorded, root / "case")
    xml = root / "case/nvidia-smi-q-x.xml"
    text = xml.read_text()
    for fault in faults:
        if fault in XML:
            if XML[fault][0] not in text:
                raise SystemExit(f"{XML[fault][0]} is not in the recorded output")
            text = text.replace(*XML[fault], 1)
    xml.write_text(text)
    if "nvlink" in faults:
        status = root / "case/nvlink.txt"
        status.write_text(re.sub(r"Link 3: .*", "Link 3: <inactive>", status.read_text(), count=1))


if __name__ == "__main__":
    main()
