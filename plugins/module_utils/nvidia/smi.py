# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nvidia-smi says, as data. Pure functions: text in, dictionaries out, never an exception.

smi_xml.py reads `nvidia-smi -q -x`, smi_table.py the plain table, `diagnose` tells why there is nothing to read;
facts.py puts the answers together. Here is what they share. A value that the driver does not give ("N/A",
"[Not Supported]", "Requested functionality has been deprecated", a missing tag) is None. Memory is in MiB, power in W,
temperature in C.

Sources: nvidia-smi(1) (return codes), the NVML API reference (fabric states, error strings), real outputs of drivers
384 to 610 (see tests/unit/fixtures/nvidia_smi/README.md).
"""

from __future__ import annotations

import re
from typing import Any, TypedDict


class Gpu(TypedDict):
    """One GPU that works. Every key is always there."""

    index: int  # NVML's, which is the PCI bus order
    uuid: str | None
    name: str | None  # the table cuts long names
    architecture: str | None  # "Hopper"
    pci_id: str | None  # "00000000:18:00.0"
    compute_capability: str | None  # "9.0"
    compute_capability_source: str | None  # "xml", "query" or "product"; set by facts.py
    memory_total_mib: int | None
    memory_used_mib: int | None
    memory_free_mib: int | None  # from the table: total less used
    memory_reserved_mib: int | None
    utilization_percent: int | None
    power_draw_w: float | None
    power_limit_w: float | None
    power_default_w: float | None  # what the limit is when nobody has changed it
    temperature_c: int | None
    ecc: dict[str, Any]  # {mode, volatile: {correctable, uncorrectable}, aggregate: {the same}}
    sram_errors: dict[str, Any]  # over its life: {correctable, uncorrectable: int, threshold_exceeded: bool}
    mig: dict[str, Any]  # {mode, instances: [{index, gpu_instance_id, compute_instance_id, uuid, memory_…_mib, …}]}
    fabric: dict[str, Any]  # {state, status, health, health_problems}; None and [] where it is on no NVLink fabric
    nvlinks: int | None  # active links; None when nvidia-smi did not say
    nvlinks_down: int | None  # links that are not active
    persistence_mode: bool | None
    pcie: dict[
        str, Any
    ]  # {width, max_width: lanes; gen, max_gen: of the link; device_gen: what the GPU could; replays}
    recovery_action: str | None  # "Reset", "Reboot", …: what the driver asks for
    remapped_rows: dict[str, Any]  # {correctable, uncorrectable: int, pending, failure: bool}; Ampere and later
    retired_pages: dict[str, Any]  # {single_bit, double_bit: int, pending: bool}; before Ampere
    throttle_reasons: list[str]  # what holds the clocks down now: "hw_thermal_slowdown", …
    compute_mode: str | None  # "Default", "Exclusive_Process", "Prohibited"
    processes: list[dict[str, Any]]  # [{pid, name, type, used_memory_mib}]


class Report(TypedDict):
    """One parsed output. `damage` says in one line why it cannot be trusted as a whole, else None."""

    driver_version: str | None
    cuda_version: str | None  # the newest CUDA that the driver serves
    gpus: list[Gpu]
    lost_gpus: list[dict[str, Any]]  # [{index, pci_id, uuid, name, reason}]
    warnings: list[str]
    damage: str | None


PCI = r"[0-9A-Fa-f]{2,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f]"
# NVML's error strings, which nvidia-smi prints in place of a value when the GPU no longer answers.
DEAD = re.compile(r"GPU is lost|GPU requires reset|fallen off the bus|Unknown Error|ERR!", re.I)
_NO_VALUE = re.compile(
    r"\[?(n/a|none|unknown|not supported|not available|not found|insufficient permissions|"
    r"requested functionality has been deprecated|gpu is lost|gpu requires reset|unknown error|err!)\]?\Z",
    re.I,
)
# "GPU 0000:07:00.0: …" (driver 390 on), "GPU0000:07:00.0: …" (525), "GPU1: 0000:34:00.0: …" (560) and "GPU1: …"
_LOST_LINE = re.compile(
    r"Unable to (?:determine|detect) the device handle for gpus?\s*(?:(?P<index>\d{1,4})\s*(?::\s+|:?\Z))?"
    r"(?P<pci>%s)?\s*:?\s*(?P<reason>.*)" % PCI,
    re.I,
)

# What `nvidia-smi nvlink --status` says in place of a GPU's links.
_NO_LINK_IS_TOLD = re.compile(r"queries are not supported for devices in MIG mode", re.I)
_NO_LINK_IS_UP = re.compile(r"all links are inactive", re.I)

# (what the tool prints, status, return code of nvidia-smi(1) or NVML with that meaning)
_MESSAGES = (
    (re.compile(r"driver/library version mismatch", re.I), "driver_library_mismatch", 18),
    (_LOST_LINE, "gpu_lost", 15),
    (re.compile(r"gpu is lost|fallen off the bus|gpu requires reset", re.I), "gpu_lost", 16),
    (re.compile(r"libnvidia-ml|nvml shared library", re.I), "library_missing", 12),
    (
        re.compile(r"couldn't communicate with the nvidia driver|driver (?:is )?not loaded", re.I),
        "driver_not_loaded",
        9,
    ),
    (re.compile(r"insufficient permissions|blocked by the operating system", re.I), "no_permission", 4),
    (re.compile(r"no (?:supported )?devices (?:were )?found", re.I), "no_devices", 6),
    (re.compile(r"command not found", re.I), "not_installed", 127),
)
_BY_CODE = {code: status for _pattern, status, code in _MESSAGES}

HINTS = {
    "ok": "",
    "not_installed": "Install the NVIDIA driver with its utilities; if nvidia-smi lies elsewhere, give its path.",
    "driver_library_mismatch": "The driver was updated while the old kernel module stayed loaded: reboot the host "
    "(in a container: start it anew, so that it gets the host's libraries).",
    "driver_not_loaded": "Load the kernel module with 'modprobe nvidia'; if it fails, 'dkms status' and dmesg say why "
    "(no module for this kernel, Secure Boot, nouveau in the way).",
    "library_missing": "libnvidia-ml.so is not found: install the driver's libraries, or start the container with "
    "the NVIDIA container toolkit.",
    "no_devices": "The driver runs but finds no GPU: see 'lspci -d 10de:' and 'dmesg | grep NVRM'; in a virtual "
    "machine or container, see that the GPU is passed in.",
    "no_permission": "Run with become, and see the permissions of /dev/nvidia*; in a container, see its device rules.",
    "gpu_lost": "See 'dmesg | grep Xid' (79: fallen off the bus). Reset the GPU or reboot the host; if it comes back, "
    "check power, cooling and seating.",
    "timed_out": "The driver does not answer: see 'dmesg | grep Xid' and reboot the host. With many GPUs and no "
    "persistence mode it may only be slow: start nvidia-persistenced, or raise the time-out.",
    "unreadable": "Run 'nvidia-smi -q -x' and 'nvidia-smi' on the host by hand: their output cannot be read.",
    "unknown": "Run nvidia-smi on the host by hand and see dmesg. A container that had its GPUs before may have "
    "lost its devices: start it anew.",
}


def parse_query(text: str) -> list[tuple[str, int, str | None]]:
    """Parse `--query-gpu=uuid,index,compute_cap --format=csv,noheader`: [(uuid, index, compute capability or None)].

    A driver before 510 does not know the field compute_cap and answers with a message, which gives [].
    """
    rows = re.findall(r"^\s*(\S+)\s*,\s*(\d{1,4})\s*,\s*(.*?)\s*$", text, re.M)
    return [(uuid, int(index), cap if re.match(r"\d{1,2}\.\d\Z", cap) else None) for uuid, index, cap in rows]


def parse_nvlink(text: str) -> dict[str, int]:
    """Parse `nvidia-smi nvlink --status`: {GPU uuid: active links}. A GPU without NVLink has 0; one that MIG divides is
    not in it, because the driver does not tell of its links."""
    links: dict[str, int] = {}
    uuid = None
    for line in text.splitlines():
        gpu = re.match(r"\s*GPU \d+:.*\(UUID: (\S+?)\)", line)
        if gpu:
            uuid = gpu.group(1)
            links[uuid] = 0
        elif uuid and _NO_LINK_IS_TOLD.search(line):
            links.pop(uuid, None)
            uuid = None
        elif uuid and re.match(r"\s*Link \d+: [0-9.]+ GB/s", line):
            links[uuid] += 1
    return links


def parse_nvlink_down(text: str) -> dict[str, int]:
    """From the same output: {GPU uuid: links that are there and not active}. A GPU whose links are all inactive is not
    in it: the driver does not say how many they are."""
    down: dict[str, int] = {}
    uuid = None
    for line in text.splitlines():
        gpu = re.match(r"\s*GPU \d+:.*\(UUID: (\S+?)\)", line)
        if gpu:
            uuid = gpu.group(1)
            down[uuid] = 0
        elif uuid and (_NO_LINK_IS_TOLD.search(line) or _NO_LINK_IS_UP.search(line)):
            down.pop(uuid, None)
            uuid = None
        elif uuid and re.match(r"\s*Link \d+: <?inactive>?\s*\Z", line, re.I):
            down[uuid] += 1
    return down


def diagnose(rc: int | None, stdout: str, stderr: str, report: Report, timeout: float | None = None) -> dict[str, str]:
    """Say how nvidia-smi fared: {status, reason, hint}; `status` is a key of HINTS.

    `rc` is None when there is no nvidia-smi to run; `timeout` (s) is given when it did not end in time.
    GPUs that were read count more than the return code: nvidia-smi also complains of small things with one.
    """
    said = _said(stdout, stderr)
    status = "unknown"
    if timeout is not None:
        status, said = "timed_out", "nvidia-smi did not answer within %g s" % timeout
    elif rc is None:
        status, said = "not_installed", said or "nvidia-smi is not installed"
    elif report["lost_gpus"]:
        status = "gpu_lost"
        said = "; ".join("GPU %s: %s" % (_which(gpu), gpu["reason"]) for gpu in report["lost_gpus"])
    elif report["gpus"] and not report["damage"]:
        status, said = "ok", ""
    else:
        by_text = (kind for pattern, kind, _code in _MESSAGES if pattern.search(said))
        status = next(by_text, _BY_CODE.get(rc, "unknown"))
        if status == "unknown" and rc == 0 and not report["damage"]:
            status, said = "no_devices", said or "nvidia-smi lists no GPU"
        elif status == "unknown" and rc == 0:
            status, said = "unreadable", "the output of nvidia-smi cannot be read: %s" % report["damage"]
    if status != "ok" and not said:
        said = "nvidia-smi ended with code %s and no message" % rc
    return {"status": status, "reason": said, "hint": HINTS[status]}


def report_of(text: str) -> Report:
    """An empty report with what stands between the XML or the table: lost GPUs and warnings."""
    report: Report = {
        "driver_version": None, "cuda_version": None, "gpus": [], "lost_gpus": [], "warnings": [], "damage": None,
    }  # fmt: skip
    for line in text.splitlines():
        lost = _LOST_LINE.match(line.strip())
        if lost:
            gpu = blank(int(lost.group("index")) if lost.group("index") else -1)
            gpu["pci_id"] = pci_id_of(lost.group("pci"))
            add_lost(report, gpu, " ".join(lost.group("reason").split()) or "no device handle")
        elif re.match(r"\s*warning: ", line, re.I):
            report["warnings"].append(line.strip())
    return report


def add_lost(report: Report, gpu: Gpu, reason: str) -> None:
    """Note a GPU that does not answer; what is told of it twice, by address or else by index, is one."""
    index = gpu["index"] if gpu["index"] >= 0 else None
    lost = {"index": index, "pci_id": gpu["pci_id"], "uuid": gpu["uuid"], "name": gpu["name"], "reason": reason}
    for known in report["lost_gpus"]:
        addresses = known["pci_id"], lost["pci_id"]
        if (
            all(addresses)
            and addresses[0] == addresses[1]
            or not all(addresses)
            and index is not None
            and index == known["index"]
        ):
            known.update({key: value for key, value in lost.items() if value is not None})
            return
    report["lost_gpus"].append(lost)


def number_anew(report: Report) -> None:
    """Number the GPUs of a report in which those that answer come one after the other, without those that are lost.

    NVML numbers by PCI address, and a lost GPU keeps its place. One whose message gives its number keeps that.
    """
    fixed = {gpu["index"] for gpu in report["lost_gpus"] if gpu["index"] is not None}
    order = [gpu for gpu in report["lost_gpus"] if gpu["index"] is None and gpu["pci_id"]] + list(report["gpus"])
    order.sort(key=lambda gpu: (gpu["pci_id"] or "~", -1 if gpu["index"] is None else gpu["index"]))
    index = 0
    for gpu in order:
        while index in fixed:
            index += 1
        gpu["index"] = index
        index += 1


def _which(lost: dict[str, Any]) -> str:
    return str(lost["pci_id"] or ("?" if lost["index"] is None else lost["index"]))


def blank(index: int) -> Gpu:
    """A GPU of which nothing is known but its index."""
    gpu: Any = dict.fromkeys(Gpu.__annotations__)
    counts = {"correctable": None, "uncorrectable": None}
    gpu.update(
        index=index,
        ecc={"mode": None, "volatile": dict(counts), "aggregate": dict(counts)},
        sram_errors=dict(counts, threshold_exceeded=None),
        mig={"mode": None, "instances": []},
        fabric={"state": None, "status": None, "health": None, "health_problems": []},
        remapped_rows=dict.fromkeys(("correctable", "uncorrectable", "pending", "failure")),
        retired_pages=dict.fromkeys(("single_bit", "double_bit", "pending")),
        pcie=dict.fromkeys(("width", "max_width", "gen", "max_gen", "device_gen", "replays")),
        throttle_reasons=[],
        processes=[],
    )
    return gpu


def _said(stdout: str, stderr: str) -> str:
    """The tool's own message: the first lines that are neither XML nor table, each once, in one line."""
    lines: list[str] = []
    outside = re.sub(r"<\?xml.*?(?:</nvidia_smi_log>|\Z)", "\n", stdout, flags=re.S)
    for line in (outside + "\n" + stderr).splitlines():
        line = " ".join("".join(char if char.isprintable() else " " for char in line).split())
        if line and line[0] not in "<|+" and line not in lines:
            lines.append(line)
    return "; ".join(lines[:3])[:400]


def value_of(text: str | None) -> str | None:
    """The text in one line; None for one of the driver's words for no value."""
    text = " ".join((text or "").split())
    return None if not text or _NO_VALUE.match(text) else text


def number_of(text: str | None) -> float | None:
    """The number of a value with its unit; None for what is none."""
    found = re.match(r"\s*(-?\d{1,12}(?:\.\d{1,6})?)\s*(?:MiB|MB|W|C|%)?\s*\Z", text or "", re.A)
    return float(found.group(1)) if found else None


def int_of(text: str | None) -> int | None:
    """The same without what is after the point."""
    number = number_of(text)
    return None if number is None else int(number)


def pci_id_of(text: str | None) -> str | None:
    """In the driver's own form, upper case with a domain of eight digits: "00000000:18:00.0"."""
    return text.strip().upper().zfill(16) if text and re.match(PCI + r"\Z", text.strip()) else None
