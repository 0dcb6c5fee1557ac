# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nvidia-smi says, as data. Pure functions: text in, dictionaries out, never an exception.

`parse_xml` reads `nvidia-smi -q -x`, `parse_table` the plain table, `diagnose` tells why there is nothing to read;
gpu_facts.py puts the answers together. A value that the driver does not give ("N/A", "[Not Supported]",
"Requested functionality has been deprecated", a missing tag) is None. Memory is in MiB, power in W, temperature in C.

Sources: nvidia-smi(1) (return codes), the NVML API reference (fabric states, error strings), real outputs of drivers
470 to 580 (see tests/unit/fixtures/nvidia_smi/README.md).
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET  # the text is a local, root-owned tool's, and one that declares entities is refused
from typing import Any, TypedDict
from xml.sax.saxutils import escape, unescape


class Gpu(TypedDict):
    """One GPU that works. Every key is always there."""

    index: int  # NVML's, which is the PCI bus order
    uuid: str | None
    name: str | None  # the table cuts long names
    architecture: str | None  # "Hopper"
    pci_id: str | None  # "00000000:18:00.0"
    compute_capability: str | None  # "9.0"
    compute_capability_source: str | None  # "xml", "query" or "product"; set by gpu_facts
    memory_total_mib: int | None
    memory_used_mib: int | None
    memory_free_mib: int | None  # from the table: total less used
    memory_reserved_mib: int | None
    utilization_percent: int | None
    power_draw_w: float | None
    power_limit_w: float | None
    temperature_c: int | None
    ecc: dict[str, Any]  # {mode, volatile: {correctable, uncorrectable}, aggregate: {the same}}
    mig: dict[str, Any]  # {mode, instances: [{index, gpu_instance_id, compute_instance_id, uuid, memory_…_mib, …}]}
    fabric: dict[str, Any]  # {state, status, health}; all None where the GPU is on no NVLink fabric
    nvlinks: int | None  # active links; None when nvidia-smi did not say
    recovery_action: str | None  # "Reset", "Reboot", …: what the driver asks for
    processes: list[dict[str, Any]]  # [{pid, name, type, used_memory_mib}]


class Report(TypedDict):
    """One parsed output. `damage` says in one line why it cannot be trusted as a whole, else None."""

    driver_version: str | None
    cuda_version: str | None  # the newest CUDA that the driver serves
    gpus: list[Gpu]
    lost_gpus: list[dict[str, Any]]  # [{index, pci_id, uuid, name, reason}]
    warnings: list[str]
    damage: str | None


_PCI = r"[0-9A-Fa-f]{2,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f]"
# NVML's error strings, which nvidia-smi prints in place of a value when the GPU no longer answers.
_DEAD = re.compile(r"GPU is lost|GPU requires reset|fallen off the bus|Unknown Error|ERR!", re.I)
_NO_VALUE = re.compile(
    r"\[?(n/a|none|unknown|not supported|not available|not found|insufficient permissions|"
    r"requested functionality has been deprecated|gpu is lost|gpu requires reset|unknown error|err!)\]?\Z",
    re.I,
)
_LOST_LINE = re.compile(r"Unable to (?:determine|detect) the device handle for gpu\s*(%s)?\s*:?\s*(.*)" % _PCI, re.I)

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
    (re.compile(r"no (?:supported )?devices were found", re.I), "no_devices", 6),
    (re.compile(r"command not found", re.I), "not_installed", 127),
)
_BY_CODE = {code: status for _pattern, status, code in _MESSAGES}

_MIG_TAGS = {
    "gpu_instance_id": "gpu_instance_id",
    "compute_instance_id": "compute_instance_id",
    "index": "index",
    "memory_used_mib": "fb_memory_usage/used",
    "memory_total_mib": "fb_memory_usage/total",
    "memory_free_mib": "fb_memory_usage/free",
    "multiprocessors": "device_attributes/shared/multiprocessor_count",
}

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


def parse_xml(text: str) -> Report:
    """Parse the output of `nvidia-smi -q -x`.

    When the text is cut or not XML, `damage` is set and `gpus` holds the GPUs whose element is whole.
    """
    report = _report(text)
    start = re.search(r"<\?xml|<!DOCTYPE|<nvidia_smi_log", text)
    if not start:
        report["damage"] = "no <nvidia_smi_log> in it"
        return report
    end = text.rfind("</nvidia_smi_log>")
    root, elements, report["damage"] = _elements(
        text[start.start() : end + len("</nvidia_smi_log>") if end > 0 else None]
    )
    report["driver_version"] = _text(root, "driver_version", "kmd_version")
    report["cuda_version"] = _text(root, "cuda_version", "cuda_umd_version")
    for index, element in enumerate(elements):
        gpu = _gpu_from_xml(element, index)
        dead = _DEAD.search(
            " ".join(element.findtext(path) or "" for path in ("uuid", "fb_memory_usage/total", "serial"))
        )
        if dead and gpu["memory_total_mib"] is None:
            _add_lost(report, gpu, dead.group(0))
        else:
            report["gpus"].append(gpu)
    attached = _int(_text(root, "attached_gpus"))
    if attached is not None and attached > len(report["gpus"]) + len(report["lost_gpus"]):
        report["warnings"].append("The driver says %d GPUs and describes %d." % (attached, len(elements)))
    # A lost GPU that has no element of its own still holds its place in NVML's numbering.
    if len(report["lost_gpus"]) + len(report["gpus"]) > len(elements):
        order = sorted(str(gpu["pci_id"]) for gpu in report["gpus"] + report["lost_gpus"])
        for gpu in report["gpus"] + report["lost_gpus"]:
            gpu["index"] = order.index(str(gpu["pci_id"])) if gpu["pci_id"] else gpu["index"]
    return report


def parse_table(text: str) -> Report:
    """Parse the plain table of `nvidia-smi`, old (before driver 450) or new. It has no UUID, ECC totals or fabric."""
    report = _report(text)
    version = re.search(r"(?:Driver|KMD) Version:\s*([0-9][0-9.]*)", text)
    report["driver_version"] = version.group(1) if version else None
    version = re.search(r"CUDA (?:UMD )?Version:\s*([0-9][0-9.]*)", text)
    report["cuda_version"] = version.group(1) if version else None
    head = re.compile(r"\|\s*(\d{1,4})\s+(\S.*?)\s+(?:On|Off|N/A|WDDM|TCC|MCDM)\s*\|\s*(%s)\s+\S+\s*\|\s*(\S+)" % _PCI)
    mig = re.compile(
        r"\|\s*(?P<gpu>\d{1,4})\s+(?P<gpu_instance_id>\d{1,4})\s+(?P<compute_instance_id>\d{1,4})\s+(?P<index>\d{1,4})\s*"
        r"\|\s*(?P<memory_used_mib>\d{1,9})MiB\s*/\s*(?P<memory_total_mib>\d{1,9})MiB\s*\|\s*(?P<multiprocessors>\d*)"
    )
    process = re.compile(
        r"\|\s*(\d{1,4})\s+(?:(?:N/A|\d+)\s+(?:N/A|\d+)\s+)?(\d{1,10})\s+([CGM](?:\+[CG])?)\s+(.*?)\s+(\d+MiB|N/A)\s*\|"
    )
    rows: dict[int, Gpu] = {}
    section, row, gpu = "gpus", 0, _blank(0)
    for line in text.splitlines():
        line = line.strip()
        cells = line.strip("|").split("|")
        found = head.match(line)
        if found:
            gpu, row = _blank(int(found.group(1))), 1
            gpu["name"], gpu["pci_id"] = found.group(2), _pci_id(found.group(3))
            ecc = found.group(4)
            gpu["ecc"]["mode"] = {"Off": "Disabled", "N/A": None}.get(ecc, "Enabled")
            gpu["ecc"]["volatile"]["uncorrectable"] = _int(ecc)
            rows[gpu["index"]] = gpu
        elif row == 1 and len(cells) >= 3:
            row = 2
            _second_row(gpu, cells)
            if gpu["memory_total_mib"] is None and _DEAD.search(line):
                _add_lost(report, gpu, "nvidia-smi shows ERR! for its memory")
            elif "ERR!" in line:
                report["warnings"].append("GPU %d: nvidia-smi shows ERR! for a reading." % gpu["index"])
        elif row == 2 and len(cells) >= 3 and not cells[0].strip():
            row, gpu["mig"]["mode"] = 0, _value(cells[2])
        elif re.match(r"\|\s*(MIG devices|Processes):", line):
            section, row = line.strip("| ").split(":")[0], 0
        elif section == "MIG devices" and mig.match(line):
            one: dict[str, Any] = {key: _int(number) for key, number in mig.match(line).groupdict().items()}
            one.update(uuid=None, memory_free_mib=max(one["memory_total_mib"] - one["memory_used_mib"], 0))
            at = one.pop("gpu")
            if at in rows:
                rows[at]["mig"]["instances"].append(one)
        elif section == "Processes" and process.match(line):
            at, pid, kind, name, used = process.match(line).groups()
            one = {"pid": int(pid), "name": name, "type": kind, "used_memory_mib": _int(used)}
            if int(at) in rows:
                rows[int(at)]["processes"].append(one)
    lost = {gone["pci_id"] for gone in report["lost_gpus"]}
    report["gpus"] = [one for one in rows.values() if one["pci_id"] not in lost]
    if not rows:
        report["damage"] = "no GPU row in the table"
    return report


def parse_query(text: str) -> list[tuple[str, int, str | None]]:
    """Parse `--query-gpu=uuid,index,compute_cap --format=csv,noheader`: [(uuid, index, compute capability or None)].

    A driver before 510 does not know the field compute_cap and answers with a message, which gives [].
    """
    rows = re.findall(r"^\s*(\S+)\s*,\s*(\d{1,4})\s*,\s*(.*?)\s*$", text, re.M)
    return [(uuid, int(index), cap if re.match(r"\d{1,2}\.\d\Z", cap) else None) for uuid, index, cap in rows]


def parse_nvlink(text: str) -> dict[str, int]:
    """Parse `nvidia-smi nvlink --status`: {GPU uuid: active links}. A GPU without NVLink has 0."""
    links: dict[str, int] = {}
    uuid = None
    for line in text.splitlines():
        gpu = re.match(r"\s*GPU \d+:.*\(UUID: (\S+?)\)", line)
        if gpu:
            uuid = gpu.group(1)
            links[uuid] = 0
        elif uuid and re.match(r"\s*Link \d+: [0-9.]+ GB/s", line):
            links[uuid] += 1
    return links


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
        said = "; ".join("GPU %s: %s" % (gpu["pci_id"] or "?", gpu["reason"]) for gpu in report["lost_gpus"])
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


def _report(text: str) -> Report:
    """An empty report with what stands between the XML or the table: lost GPUs and warnings."""
    report: Report = {
        "driver_version": None, "cuda_version": None, "gpus": [], "lost_gpus": [], "warnings": [], "damage": None,
    }  # fmt: skip
    for line in text.splitlines():
        lost = _LOST_LINE.match(line.strip())
        if lost:
            gpu = _blank(-1)
            gpu["pci_id"] = _pci_id(lost.group(1))
            _add_lost(report, gpu, " ".join(lost.group(2).split()) or "no device handle")
        elif re.match(r"\s*warning: ", line, re.I):
            report["warnings"].append(line.strip())
    return report


def _add_lost(report: Report, gpu: Gpu, reason: str) -> None:
    index = gpu["index"] if gpu["index"] >= 0 else None
    lost = {"index": index, "pci_id": gpu["pci_id"], "uuid": gpu["uuid"], "name": gpu["name"], "reason": reason}
    for known in report["lost_gpus"]:
        if gpu["pci_id"] and known["pci_id"] == gpu["pci_id"]:
            known.update({key: value for key, value in lost.items() if value is not None})
            return
    report["lost_gpus"].append(lost)


def _elements(text: str) -> tuple[ET.Element | None, list[ET.Element], str | None]:
    """(root, whole <gpu> elements, why the XML is damaged or None)."""
    if "<!ENTITY" in text:
        return None, [], "it declares XML entities"
    # What XML forbids but a process name can hold, and the clocks: three quarters of the text, and no fact.
    text = re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
    text = re.sub(r"<supported_clocks>.*?</supported_clocks>", "", text, flags=re.S)
    text = re.sub(
        r"(<process_name>)(.*?)(</process_name>)",
        lambda found: found.group(1) + escape(unescape(found.group(2))) + found.group(3),
        text,
        flags=re.S,
    )
    parser = ET.XMLPullParser(events=("start", "end"))
    root, gpus, damage = None, [], None
    try:
        parser.feed(text)
        for event, element in parser.read_events():
            root = element if root is None else root
            if event == "end" and element.tag == "gpu":
                gpus.append(element)
        parser.close()
    except ET.ParseError as error:
        damage = "XML: %s" % error
    if root is not None and root.tag != "nvidia_smi_log":
        return None, [], "its root is <%s>, not <nvidia_smi_log>" % root.tag
    return root, gpus, damage


def _blank(index: int) -> Gpu:
    gpu: Any = dict.fromkeys(Gpu.__annotations__)
    counts = {"correctable": None, "uncorrectable": None}
    gpu.update(
        index=index,
        ecc={"mode": None, "volatile": dict(counts), "aggregate": dict(counts)},
        mig={"mode": None, "instances": []},
        fabric={"state": None, "status": None, "health": None},
        processes=[],
    )
    return gpu


def _gpu_from_xml(element: ET.Element, index: int) -> Gpu:
    gpu = _blank(index)
    gpu["uuid"] = _text(element, "uuid")
    gpu["name"] = _text(element, "product_name")
    gpu["architecture"] = _text(element, "product_architecture")
    gpu["pci_id"] = _pci_id(element.get("id")) or _pci_id(_text(element, "pci/pci_bus_id"))
    capability = _text(element, "compute_cap", "compute_capability")
    if capability and re.match(r"\d{1,2}\.\d\Z", capability):
        gpu["compute_capability"] = capability
    for kind in ("total", "used", "free", "reserved"):
        gpu["memory_%s_mib" % kind] = _int(_text(element, "fb_memory_usage/" + kind))  # type: ignore[literal-required]
    gpu["utilization_percent"] = _int(_text(element, "utilization/gpu_util"))
    gpu["temperature_c"] = _int(_text(element, "temperature/gpu_temp"))
    new, old = "gpu_power_readings/", "power_readings/"  # the old one before driver 530
    draws = (new + "power_draw", new + "instant_power_draw", new + "average_power_draw", old + "power_draw")
    limits = (new + "current_power_limit", old + "enforced_power_limit", old + "power_limit")
    gpu["power_draw_w"], gpu["power_limit_w"] = _number(_text(element, *draws)), _number(_text(element, *limits))
    gpu["ecc"]["mode"] = _text(element, "ecc_mode/current_ecc")
    for span in ("volatile", "aggregate"):
        gpu["ecc"][span] = _ecc_counts(element.find("ecc_errors/" + span))
    gpu["mig"]["mode"] = _text(element, "mig_mode/current_mig")
    for one in element.iterfind("mig_devices/mig_device"):
        instance: dict[str, Any] = {key: _int(_text(one, tag)) for key, tag in _MIG_TAGS.items()}
        gpu["mig"]["instances"].append(dict(instance, uuid=_text(one, "uuid")))
    gpu["fabric"] = {
        "state": _text(element, "fabric/state"),
        "status": _text(element, "fabric/status"),
        "health": _text(element, "fabric/health/summary"),
    }
    gpu["recovery_action"] = _text(element, "gpu_recovery_action")
    for one in element.iterfind("processes/process_info"):
        pid, used = _int(_text(one, "pid")), _int(_text(one, "used_memory"))
        name, kind = one.findtext("process_name") or "", _text(one, "type")
        gpu["processes"].append({"pid": pid, "name": name, "type": kind, "used_memory_mib": used})
    return gpu


def _second_row(gpu: Gpu, cells: list[str]) -> None:
    """Fill in `| N/A   37C    P0   84W / 700W |   4MiB / 81559MiB |   0%   Default |`."""
    temperature = re.search(r"(\d{1,3})C\b", cells[0])
    power = re.search(r"(\S+)\s*/\s*(\S+)\s*\Z", cells[0])
    memory = re.search(r"(\d{1,9})MiB\s*/\s*(\d{1,9})MiB", cells[1])
    busy = re.search(r"(\d{1,3})%", cells[2])
    gpu["temperature_c"] = int(temperature.group(1)) if temperature else None
    gpu["power_draw_w"], gpu["power_limit_w"] = (
        (_number(power.group(1)), _number(power.group(2))) if power else (None, None)
    )
    gpu["utilization_percent"] = int(busy.group(1)) if busy else None
    if memory:
        used, total = int(memory.group(1)), int(memory.group(2))
        gpu["memory_used_mib"], gpu["memory_total_mib"], gpu["memory_free_mib"] = used, total, max(total - used, 0)


def _ecc_counts(block: ET.Element | None) -> dict[str, int | None]:
    """Sum up: sram_…/dram_… tags (Ampere and later), or the totals of single_bit and double_bit (before)."""
    counts: dict[str, int | None] = {"correctable": None, "uncorrectable": None}
    leaves = [] if block is None else [(leaf.tag, leaf.text) for leaf in block]
    if block is not None:
        leaves += [(tag, block.findtext(path)) for tag, path in
                   (("correctable", "single_bit/total"), ("uncorrectable", "double_bit/total"))]  # fmt: skip
    for tag, text in leaves:
        kind = "uncorrectable" if "uncorrectable" in tag else "correctable" if "correctable" in tag else None
        number = _int(text)
        if kind and number is not None:
            counts[kind] = (counts[kind] or 0) + number
    return counts


def _said(stdout: str, stderr: str) -> str:
    """The tool's own message: the first lines that are neither XML nor table, each once, in one line."""
    lines: list[str] = []
    outside = re.sub(r"<\?xml.*?(?:</nvidia_smi_log>|\Z)", "\n", stdout, flags=re.S)
    for line in (outside + "\n" + stderr).splitlines():
        line = " ".join("".join(char if char.isprintable() else " " for char in line).split())
        if line and line[0] not in "<|+" and line not in lines:
            lines.append(line)
    return "; ".join(lines[:3])[:400]


def _text(element: ET.Element | None, *paths: str) -> str | None:
    """The first of these that holds a value."""
    for path in paths if element is not None else ():
        value = _value(element.findtext(path))
        if value is not None:
            return value
    return None


def _value(text: str | None) -> str | None:
    text = " ".join((text or "").split())
    return None if not text or _NO_VALUE.match(text) else text


def _number(text: str | None) -> float | None:
    found = re.match(r"\s*(-?\d{1,12}(?:\.\d{1,6})?)\s*(?:MiB|MB|W|C|%)?\s*\Z", text or "", re.A)
    return float(found.group(1)) if found else None


def _int(text: str | None) -> int | None:
    number = _number(text)
    return None if number is None else int(number)


def _pci_id(text: str | None) -> str | None:
    """In the driver's own form, upper case with a domain of eight digits: "00000000:18:00.0"."""
    return text.strip().upper().zfill(16) if text and re.match(_PCI + r"\Z", text.strip()) else None
