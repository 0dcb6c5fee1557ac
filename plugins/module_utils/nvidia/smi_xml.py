# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The output of `nvidia-smi -q -x`. Pure; see smi.py."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET  # the text is a local, root-owned tool's, and one that declares entities is refused
from typing import Any
from xml.sax.saxutils import escape, unescape

from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.smi import (
    DEAD,
    Gpu,
    Report,
    add_lost,
    blank,
    int_of,
    number_anew,
    number_of,
    pci_id_of,
    report_of,
    value_of,
)

_MIG_TAGS = {
    "gpu_instance_id": "gpu_instance_id",
    "compute_instance_id": "compute_instance_id",
    "index": "index",
    "memory_used_mib": "fb_memory_usage/used",
    "memory_total_mib": "fb_memory_usage/total",
    "memory_free_mib": "fb_memory_usage/free",
    "multiprocessors": "device_attributes/shared/multiprocessor_count",
}

_PCIE_TAGS = {
    "width": "pci_gpu_link_info/link_widths/current_link_width",
    "max_width": "pci_gpu_link_info/link_widths/max_link_width",
    "gen": "pci_gpu_link_info/pcie_gen/current_link_gen",
    "max_gen": "pci_gpu_link_info/pcie_gen/max_link_gen",
    "device_gen": "pci_gpu_link_info/pcie_gen/max_device_link_gen",
    "replays": "replay_counter",
}

# A GPU is lost when one of these says so, or two of the readings; any of them can fail alone.
_IDENTITY = ("uuid", "product_name")
_READINGS = (
    "temperature/gpu_temp",
    "utilization/gpu_util",
    "performance_state",
    "clocks/sm_clock",
    "ecc_mode/current_ecc",
)
# Values of the parts of a fabric's health (NVML nvmlGpuFabricInfo_v3_t, healthMask) that are no trouble.
_SOUND = {"full", "false", "no", "none", "healthy", "not supported", "n/a", ""}


def parse_xml(text: str) -> Report:
    """Parse the output of `nvidia-smi -q -x`.

    When the text is cut or not XML, `damage` is set and `gpus` holds the GPUs whose element is whole.
    """
    report = report_of(text)
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
        reason = _lost(element, gpu)
        if reason:
            add_lost(report, gpu, reason)
        else:
            report["gpus"].append(gpu)
    attached = int_of(_text(root, "attached_gpus"))
    if attached is not None and attached > len(report["gpus"]) + len(report["lost_gpus"]):
        report["warnings"].append("The driver says %d GPUs and describes %d." % (attached, len(elements)))
    # A lost GPU that has no element of its own still holds its place in NVML's numbering.
    if len(report["lost_gpus"]) + len(report["gpus"]) > len(elements):
        number_anew(report)
    return report


def _lost(element: ET.Element, gpu: Gpu) -> str | None:
    """NVML's words for a GPU that no longer answers; None for one that does."""

    def words(path: str) -> str | None:
        found = DEAD.search(element.findtext(path) or "")
        return found.group(0) if found else None

    if gpu["memory_total_mib"] is None and (words("fb_memory_usage/total") or words("serial")):
        return words("fb_memory_usage/total") or words("serial")
    identity = next(filter(None, map(words, _IDENTITY)), None)
    readings = [found for found in map(words, _READINGS) if found]
    return identity or (readings[0] if len(readings) > 1 else None)


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


def _gpu_from_xml(element: ET.Element, index: int) -> Gpu:
    gpu = blank(index)
    gpu["uuid"] = _text(element, "uuid")
    gpu["name"] = _text(element, "product_name")
    gpu["architecture"] = _text(element, "product_architecture")
    gpu["pci_id"] = pci_id_of(element.get("id")) or pci_id_of(_text(element, "pci/pci_bus_id"))
    capability = _text(element, "compute_cap", "compute_capability")
    if capability and re.match(r"\d{1,2}\.\d\Z", capability):
        gpu["compute_capability"] = capability
    for kind in ("total", "used", "free", "reserved"):
        gpu["memory_%s_mib" % kind] = _size(_text(element, "fb_memory_usage/" + kind))  # type: ignore[literal-required]
    if gpu["memory_total_mib"] == 0:  # a size of 0 is none: the GPU shares the host's memory
        gpu.update(memory_total_mib=None, memory_used_mib=None, memory_free_mib=None, memory_reserved_mib=None)
    gpu["utilization_percent"] = int_of(_text(element, "utilization/gpu_util"))
    gpu["temperature_c"] = int_of(_text(element, "temperature/gpu_temp"))
    new, old = "gpu_power_readings/", "power_readings/"  # the old one before driver 530
    draws = (new + "power_draw", new + "instant_power_draw", new + "average_power_draw", old + "power_draw")
    limits = (new + "current_power_limit", old + "enforced_power_limit", old + "power_limit")
    gpu["power_draw_w"], gpu["power_limit_w"] = number_of(_text(element, *draws)), number_of(_text(element, *limits))
    gpu["power_default_w"] = number_of(_text(element, new + "default_power_limit", old + "default_power_limit"))
    gpu["persistence_mode"] = {"enabled": True, "disabled": False}.get(
        (_text(element, "persistence_mode") or "").lower()
    )
    gpu["pcie"] = {key: _lanes(_text(element, "pci/" + tag)) for key, tag in _PCIE_TAGS.items()}
    gpu["ecc"]["mode"] = _text(element, "ecc_mode/current_ecc")
    for span in ("volatile", "aggregate"):
        gpu["ecc"][span] = _ecc_counts(element.find("ecc_errors/" + span))
    life = element.find("ecc_errors/aggregate")
    exceeded = _yes(_text(life, "sram_threshold_exceeded"))
    gpu["sram_errors"] = dict(_ecc_counts(life, "sram_"), threshold_exceeded=exceeded)
    gpu["mig"]["mode"] = _text(element, "mig_mode/current_mig")
    for one in element.iterfind("mig_devices/mig_device"):
        instance: dict[str, Any] = {key: _size(_text(one, tag)) for key, tag in _MIG_TAGS.items()}
        gpu["mig"]["instances"].append(dict(instance, uuid=_text(one, "uuid")))
    gpu["fabric"] = {
        "state": _word(_text(element, "fabric/state")),
        "status": _word(_text(element, "fabric/status")),
        "health": _word(_text(element, "fabric/health/summary")),
        "health_problems": _health_problems(element.find("fabric/health")),
    }
    gpu["recovery_action"] = _text(element, "gpu_recovery_action")
    gpu["compute_mode"] = _text(element, "compute_mode")
    rows, pages = element.find("remapped_rows"), element.find("retired_pages")
    gpu["remapped_rows"] = {
        "correctable": int_of(_text(rows, "remapped_row_corr")),
        "uncorrectable": int_of(_text(rows, "remapped_row_unc")),
        "pending": _yes(_text(rows, "remapped_row_pending")),
        "failure": _yes(_text(rows, "remapped_row_failure")),
    }
    gpu["retired_pages"] = {
        "single_bit": int_of(_text(pages, "multiple_single_bit_retirement/retired_count")),
        "double_bit": int_of(_text(pages, "double_bit_retirement/retired_count")),
        "pending": _yes(_text(pages, "pending_retirement", "pending_blacklist")),
    }
    for name in ("clocks_event_reasons", "clocks_throttle_reasons"):  # the latter before driver 535
        for one in element.iterfind(name + "/*"):
            if value_of(one.text) == "Active" and isinstance(one.tag, str):
                gpu["throttle_reasons"].append(re.sub(r"\Aclocks_(?:event|throttle)_reasons?_", "", one.tag))
    for one in element.iterfind("processes/process_info"):
        pid, used = int_of(_text(one, "pid")), _size(_text(one, "used_memory"))
        name, kind = one.findtext("process_name") or "", _text(one, "type")
        gpu["processes"].append({"pid": pid, "name": name, "type": kind, "used_memory_mib": used})
    return gpu


def _word(text: str | None) -> str | None:
    """The driver's own spelling of a word that decides something, whatever the letters are."""
    return {word.lower(): word for word in ("Completed", "Success", "Healthy", "Unhealthy")}.get(
        (text or "").lower(), text
    )


def _health_problems(health: ET.Element | None) -> list[str]:
    """What of a fabric's health is not well, as "bandwidth Degraded"; its summary is not among it."""
    parts = [] if health is None else [(str(one.tag), " ".join((one.text or "").split())) for one in health]
    return ["%s %s" % part for part in parts if part[0] != "summary" and part[1].strip("[]").lower() not in _SOUND]


def _size(text: str | None) -> int | None:
    """A number that cannot be less than nothing."""
    number = int_of(text)
    return None if number is None or number < 0 else number


def _lanes(text: str | None) -> int | None:
    """16 of "16x"; a plain number of any other."""
    return _size((text or "").rstrip("x"))


def _yes(text: str | None) -> bool | None:
    return {"yes": True, "no": False}.get((text or "").lower())


def _ecc_counts(block: ET.Element | None, memory: str = "") -> dict[str, int | None]:
    """Sum up: sram_…/dram_… tags (Ampere and later), or the totals of single_bit and double_bit (before).

    :param memory: the beginning of the tags that count, such as "sram_"; empty for all.
    """
    counts: dict[str, int | None] = {"correctable": None, "uncorrectable": None}
    leaves = [] if block is None else [(leaf.tag, leaf.text) for leaf in block if str(leaf.tag).startswith(memory)]
    if block is not None and not memory:
        leaves += [(tag, block.findtext(path)) for tag, path in
                   (("correctable", "single_bit/total"), ("uncorrectable", "double_bit/total"))]  # fmt: skip
    for tag, text in leaves:
        kind = "uncorrectable" if "uncorrectable" in tag else "correctable" if "correctable" in tag else None
        number = int_of(text)
        if kind and number is not None:
            counts[kind] = (counts[kind] or 0) + number
    return counts


def _text(element: ET.Element | None, *paths: str) -> str | None:
    """The first of these that holds a value."""
    for path in paths if element is not None else ():
        value = value_of(element.findtext(path))
        if value is not None:
            return value
    return None
