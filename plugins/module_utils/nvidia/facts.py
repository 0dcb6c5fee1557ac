# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The facts of a host's NVIDIA GPUs, put together from what smi_xml.py or smi_table.py read. Pure functions."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.smi import (
    Report,
    parse_nvlink,
    parse_nvlink_down,
    parse_query,
    report_of,
)

# Compute capability by product, from NVIDIA's page "CUDA GPUs", for drivers before 510, whose nvidia-smi does not tell.
# The first match wins: the older "Quadro RTX 4000" is a Turing, "RTX 4000 Ada" is not.
_CAPABILITY_BY_PRODUCT = (
    (r"\bG?B300\b", "10.3"),
    (r"\bG?B[12]00\b", "10.0"),
    (r"\bGB10\b", "12.1"),
    (r"\bThor\b", "11.0"),
    (r"\bRTX PRO\b|\bGeForce RTX 50[5-9]0", "12.0"),
    (r"\b(?:G?H[128]00(?:L|XM?)?|H20[BX]?)\b", "9.0"),
    (r"\bRTX 3050 A\b", "8.9"),  # a chip of the 40 series
    (r"\bRTX 2050\b|\bMX570\b|\bCMP [79]0HX\b", "8.6"),
    (r"\bQuadro RTX\b|\bTITAN RTX\b|\bT(?:4G?|[45]00|550|600|1000|1200|2000)\b|\bGeForce (?:RTX 20|GTX 16)\d\d", "7.5"),
    (r"\bMX[45]50\b|\bCMP [345]0HX\b|\bT[14]0\b|\bGRID RTX[68]000P?\b", "7.5"),
    (r"\bOrin\b", "8.7"),
    (r"\bAda\b|\bL(?:2|4|16|20|30|40S?|40G)\b|\bGeForce RTX 40[5-9]0", "8.9"),
    (r"\bA(?:100[DX]{0,2}|800[DX]{0,2}|30X?)\b|\bCMP 170HX\b", "8.0"),
    (r"\bA(?:2|10[GM]?|16|40)\b|\bRTX ?A\d{3,4}\b|\bGeForce RTX 30[5-9]0", "8.6"),
    (r"\bV100(?:S|DX?|X|L)?\b|\bGV100\b|\bTITAN V\b", "7.0"),
    (r"\bXavier\b", "7.2"),
    (r"\b(?:GP100|P100X?)\b", "6.0"),
    (r"\bP(?:4|6|40)\b|\bP10[2-6]-\d+\b|\bGeForce GTX 10\d\d|\bMX(?:[1-3]50|230|330)\b|\bTITAN Xp\b", "6.1"),
    (r"\bQuadro P\d{3,4}\b", "6.1"),
    (r"\bM(?:4|6|40|60)\b|\bGeForce GTX 9[5-8]0(?: Ti)?$|\bGTX TITAN X\b", "5.2"),
    (r"\bM10\b|\bMX1[13]0\b|\bGeForce GTX 750\b", "5.0"),
    (r"\bK80\b", "3.7"),
)
# Only the architectures that have one capability among the cards nvidia-smi knows.
_CAPABILITY_BY_ARCHITECTURE = {"Hopper": "9.0", "Ada Lovelace": "8.9", "Turing": "7.5", "Volta": "7.0"}


def build_facts(
    diagnosis: dict[str, str],
    report: Report | None = None,
    source: str | None = None,
    query: str = "",
    nvlink: str = "",
    pci: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Put the answers together: the value of `ansible_facts.nvidia_smi`. Shape: RETURN of nvidia_smi_facts.

    `query` and `nvlink` are outputs for `parse_query` and `parse_nvlink`; `pci` is what the PCI bus holds of NVIDIA
    (`pci.on_bus`), None when it could not be read.
    """
    report = report or report_of("")
    # An output that broke off tells nothing certain of how many GPUs there are, unless it broke off at a lost one.
    gpus: list[Any] = [dict(gpu) for gpu in report["gpus"]] if diagnosis["status"] in ("ok", "gpu_lost") else []
    rows, links, down = parse_query(query), parse_nvlink(nvlink), parse_nvlink_down(nvlink)
    for gpu in gpus:
        told = None
        for uuid, index, capability in rows:
            if uuid == gpu["uuid"] or (gpu["uuid"] is None and index == gpu["index"]):
                gpu["uuid"], gpu["index"], told = uuid, index, capability
        guess = capability_of(gpu["name"], gpu["architecture"])
        for source_of, capability in (("xml", gpu["compute_capability"]), ("query", told), ("product", guess)):
            if capability:
                gpu["compute_capability"], gpu["compute_capability_source"] = capability, source_of
                break
        gpu["nvlinks"], gpu["nvlinks_down"] = links.get(gpu["uuid"] or ""), down.get(gpu["uuid"] or "")
    counts = [gpu["nvlinks"] for gpu in gpus if gpu["nvlinks"] is not None]
    facts = dict(
        diagnosis,
        source=source if gpus else None,
        driver_version=report["driver_version"],
        cuda_version=report["cuda_version"],
        gpus=gpus,
        lost_gpus=report["lost_gpus"],
        total_memory_mib=_total([gpu["memory_total_mib"] for gpu in gpus]),
        fabric=_fabric_of_all(gpus),
        nvlink={"present": any(counts) if counts else None, "links": sum(counts) if counts else None},
        nvswitch={"present": _switches(pci), "count": pci["nvswitches"] if pci else None},
        pci_gpu_count=pci["gpus"] if pci else None,
        vfio_gpu_count=pci["vfio"] if pci else None,
        warnings=report["warnings"] + _fabric_warnings(gpus),
    )
    facts["summary"] = summary(facts)
    return facts


def _switches(pci: dict[str, Any] | None) -> bool | None:
    """Whether the host has NVSwitches of its own, on the bus or behind network cards."""
    if not pci:
        return None
    return True if pci["nvswitches"] or pci["bridges"] else None if pci["bridges"] is None else False


def _total(sizes: list[int | None]) -> int | None:
    """Their sum; None where one is not known, such as that of a GPU that shares the host's memory."""
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def summary(facts: dict[str, Any]) -> str:
    """One line for people: "8 x NVIDIA H800, 81559 MiB each, driver 550.90.12, CUDA 12.4", or the reason for none."""
    kinds: dict[tuple[Any, Any], int] = {}
    for gpu in facts["gpus"]:
        kind = (gpu["name"] or "unnamed GPU", gpu["memory_total_mib"])
        kinds[kind] = kinds.get(kind, 0) + 1
    parts = []
    for (name, memory), count in kinds.items():
        size = "memory unknown" if memory is None else "%d MiB%s" % (memory, " each" if count > 1 else "")
        parts.append("%d x %s, %s" % (count, name, size))
    if not parts:
        return "no usable NVIDIA GPU: %s" % facts["reason"]
    if facts["driver_version"]:
        parts.append("driver %s" % facts["driver_version"])
    if facts["cuda_version"]:
        parts.append("CUDA %s" % facts["cuda_version"])
    if facts["lost_gpus"]:
        parts.append("%d lost" % len(facts["lost_gpus"]))
    return ", ".join(parts)


def capability_of(name: str | None, architecture: str | None) -> str | None:
    """Compute capability ("9.0") by product name, else by architecture; None when neither tells for certain."""
    for pattern, capability in _CAPABILITY_BY_PRODUCT:
        if re.search(pattern, name or "", re.I):
            return capability
    return _CAPABILITY_BY_ARCHITECTURE.get(architecture or "")


def _fabric_of_all(gpus: list[dict[str, Any]]) -> dict[str, Any]:
    """{ready, state, status, health} of the GPU that is furthest from ready; all None where no GPU is on a fabric."""
    fabrics = [gpu["fabric"] for gpu in gpus if gpu["fabric"]["state"]]
    if not fabrics:
        return {"ready": None, "state": None, "status": None, "health": None}
    # NVML: the status counts only when the state is Completed, and the health when it was registered.
    unready = [one for one in fabrics if one["state"] != "Completed" or one["status"] != "Success"]
    unwell = [one for one in fabrics if one["health"] == "Unhealthy"]
    worst = (unready or unwell or [one for one in fabrics if one["health"] not in (None, "Healthy")] or fabrics)[0]
    return dict({key: worst[key] for key in ("state", "status", "health")}, ready=not unready and not unwell)


def _fabric_warnings(gpus: list[dict[str, Any]]) -> list[str]:
    """A line for each GPU whose place on the NVLink fabric is not sound."""
    lines = []
    for gpu in gpus:
        health, problems = gpu["fabric"]["health"], gpu["fabric"]["health_problems"]
        if problems or health not in (None, "Healthy"):
            said = ", ".join(([health] if health else []) + problems)
            lines.append("GPU %s: the health of the NVLink fabric is %s." % (gpu["index"], said))
    return lines
