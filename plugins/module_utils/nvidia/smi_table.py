# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plain table of nvidia-smi. Pure; see smi.py."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.smi import (
    DEAD,
    PCI,
    Gpu,
    Report,
    add_lost,
    blank,
    int_of,
    number_of,
    pci_id_of,
    report_of,
    value_of,
)


def parse_table(text: str) -> Report:
    """Parse the plain table of `nvidia-smi`, old (before driver 450) or new. It has no UUID, ECC totals or fabric."""
    report = report_of(text)
    version = re.search(r"(?:Driver|KMD) Version:\s*([0-9][0-9.]*)", text)
    report["driver_version"] = version.group(1) if version else None
    version = re.search(r"CUDA (?:UMD )?Version:\s*([0-9][0-9.]*)", text)
    report["cuda_version"] = version.group(1) if version else None
    head = re.compile(
        r"\|\s*(\d{1,4})\s+(\S.*?)\s+(?:On|Off|N/A|WDDM|TCC|MCDM)\s*\|\s*(%s|N/A)\s+\S+\s*\|\s*(\S+)" % PCI
    )
    mig = re.compile(
        r"\|\s*(?P<gpu>\d{1,4})\s+(?P<gpu_instance_id>\d{1,4})\s+(?P<compute_instance_id>\d{1,4})\s+(?P<index>\d{1,4})\s*"
        r"\|\s*(?P<memory_used_mib>\d{1,9})MiB\s*/\s*(?P<memory_total_mib>\d{1,9})MiB\s*\|\s*(?P<multiprocessors>\d*)"
    )
    process = re.compile(
        r"\|\s*(\d{1,4})\s+(?:(?:N/A|\d+)\s+(?:N/A|\d+)\s+)?(\d{1,10})\s+([CGM](?:\+[CG])?)\s+(.*?)\s+(\d+MiB|N/A)\s*\|"
    )
    rows: dict[int, Gpu] = {}
    lost: set[int] = set()
    section, row, gpu, name = "gpus", 0, blank(0), ""
    for line in text.splitlines():
        line = line.strip()
        cells = line.strip("|").split("|")
        found = head.match(line)
        if found:
            gpu, row = blank(int(found.group(1))), 1
            name = found.group(2)
            gpu["name"], gpu["pci_id"] = value_of(name), pci_id_of(found.group(3))
            ecc = found.group(4)
            gpu["ecc"]["mode"] = {"Off": "Disabled", "N/A": None, "ERR!": None}.get(ecc, "Enabled")
            gpu["ecc"]["volatile"]["uncorrectable"] = int_of(ecc)
            rows[gpu["index"]] = gpu
        elif row == 1 and len(cells) >= 3:
            row = 2
            _second_row(gpu, cells)
            # One sensor may fail alone; the memory's size may still be told of a GPU that is gone.
            readings = cells[0].split()[1:3] + cells[2].split()[:1]  # temperature, performance state, utilization
            no_memory = gpu["memory_total_mib"] is None and DEAD.search(cells[1])
            if no_memory or DEAD.search(name) or sum("ERR!" in one for one in readings) > 1:
                add_lost(
                    report, gpu, "nvidia-smi shows ERR! for its memory" if no_memory else "nvidia-smi shows ERR! for it"
                )
                lost.add(gpu["index"])
            elif "ERR!" in line:
                report["warnings"].append("GPU %d: nvidia-smi shows ERR! for a reading." % gpu["index"])
        elif row == 2 and len(cells) >= 3 and not cells[0].strip():
            row, gpu["mig"]["mode"] = 0, value_of(cells[2])
        elif re.match(r"\|\s*(MIG devices|Processes):", line):
            section, row = line.strip("| ").split(":")[0], 0
        elif section == "MIG devices" and mig.match(line):
            one: dict[str, Any] = {key: int_of(number) for key, number in mig.match(line).groupdict().items()}
            one.update(uuid=None, memory_free_mib=max(one["memory_total_mib"] - one["memory_used_mib"], 0))
            at = one.pop("gpu")
            if at in rows:
                rows[at]["mig"]["instances"].append(one)
        elif section == "Processes" and process.match(line):
            at, pid, kind, command, used = process.match(line).groups()
            one = {"pid": int(pid), "name": command, "type": kind, "used_memory_mib": int_of(used)}
            if int(at) in rows:
                rows[int(at)]["processes"].append(one)
    gone = {one["pci_id"] for one in report["lost_gpus"]} - {None}
    report["gpus"] = [one for one in rows.values() if one["index"] not in lost and one["pci_id"] not in gone]
    if not rows:
        report["damage"] = "no GPU row in the table"
    return report


def _second_row(gpu: Gpu, cells: list[str]) -> None:
    """Fill in `| N/A   37C    P0   84W / 700W |   4MiB / 81559MiB |   0%   Default |`."""
    temperature = re.search(r"(\d{1,3})C\b", cells[0])
    power = re.search(r"(\S+)\s*/\s*(\S+)\s*\Z", cells[0])
    memory = re.search(r"(\d{1,9})MiB\s*/\s*(\d{1,9})MiB", cells[1])
    busy = re.search(r"(\d{1,3})%", cells[2])
    gpu["temperature_c"] = int(temperature.group(1)) if temperature else None
    gpu["power_draw_w"], gpu["power_limit_w"] = (
        (number_of(power.group(1)), number_of(power.group(2))) if power else (None, None)
    )
    gpu["utilization_percent"] = int(busy.group(1)) if busy else None
    if memory and int(memory.group(2)):  # a size of 0 is none: the GPU shares the host's memory
        used, total = int(memory.group(1)), int(memory.group(2))
        gpu["memory_used_mib"], gpu["memory_total_mib"], gpu["memory_free_mib"] = used, total, max(total - used, 0)
