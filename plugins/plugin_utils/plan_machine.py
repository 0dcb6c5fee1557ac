# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine that a plan is for: a host's facts, a saved file of them, or GPUs that one thinks of buying. Pure but for
`read`."""

from __future__ import annotations

import os
import re
import stat
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.request import MIB, gpus_from_facts, memory_unknown
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import is_whole
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.facts import build_facts
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.smi import diagnose
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.smi_table import parse_table
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.smi_xml import parse_xml
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import gpu_products as products
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.engines import gpus_hidden, hidden_reason

LARGEST_FILE = 64 * MIB
# The machines of docs/plan.md, from one card to two hosts.
MACHINES = (
    "1xRTX4090-24GB", "1xL40S-48GB", "1xH100-80GB", "2xRTX4090-24GB", "2xH100-80GB", "4xA100-80GB",
    "4xH100-80GB", "8xH800-80GB", "8xH200-141GB", "2x8xH800-80GB",
)  # fmt: skip
_TAKES = "it takes the output of `nvidia-smi -q -x` or of `nvidia-smi`, or the facts of dsdeploy in JSON"


class Machine(NamedTuple):
    """One host, or several of a kind."""

    source: str  # where its numbers are from, in words
    nvidia_smi: Dict[str, Any]  # the fact, of one host
    memory: Dict[str, Any]  # the fact dsdeploy_memory; empty: not known
    hosts: int = 1
    system: str = ""  # distribution and release, where they are known
    users: Tuple[str, ...] = ()  # system users whose memory is given back before a model is loaded
    gang: Tuple[Tuple[str, Dict[str, Any]], ...] = ()  # name and fact nvidia_smi of each of the hosts, by rank

    @property
    def gpus(self) -> List[Dict[str, Any]]:
        """The GPUs of one host."""
        return self.nvidia_smi.get("gpus") or []

    def known(self) -> Tuple[int, List[str]]:
        """``(bytes of GPU memory of one host that processes can have, why GPUs are left out)``."""
        gpus, notes = gpus_from_facts(self.nvidia_smi, self.users)
        return sum(gpu.total for gpu in gpus), notes

    def memory_unknown(self) -> bool:
        """Whether there is a GPU of whose memory nothing is known, such as one that shares the host's."""
        return memory_unknown(self.nvidia_smi)

    def capability(self) -> Optional[str]:
        """The least compute capability among the GPUs; None where one of them does not tell."""
        found = [gpu.get("compute_capability") for gpu in self.gpus]
        return min(found, key=products.number_of) if found and all(found) else None

    def label(self) -> str:
        """The machine in a few words."""
        kinds: Dict[Tuple[Any, Any], int] = {}
        for gpu in self.gpus:
            kind = (gpu.get("name") or "GPU", gpu.get("memory_total_mib"))
            kinds[kind] = kinds.get(kind, 0) + 1
        parts = [
            "%d × %s, %s" % (count, name, "memory not known" if mib is None else "%d MiB" % mib)
            for (name, mib), count in kinds.items()
        ]
        text = " and ".join(parts) or "no GPU"
        return text if self.hosts == 1 else "%d hosts, each %s" % (self.hosts, text)

    def driver(self) -> Tuple[Optional[str], Optional[str]]:
        """``(driver, newest CUDA that it serves)``, None where they are not known."""
        return self.nvidia_smi.get("driver_version"), self.nvidia_smi.get("cuda_version")


def of_gpus(text: str) -> Machine:
    """The machine of ``--gpus``; ValueError, one line, for what is none."""
    hosts, found = products.machines(text)
    doubtful = sorted({name for one in found for name in one.unverified if name == "memory_mib"})
    source = "the table of GPUs" + (" (memory: not verified)" if doubtful else "")
    return Machine(source, products.facts_of(found), {}, hosts)


def of_facts(facts: Dict[str, Any], source: str, users: Tuple[str, ...] = ()) -> Machine:
    """The machine of a host's facts, under the names that module host_facts gives them.

    ValueError, one line, where the GPUs of the host cannot be used, or the facts are not of this shape.
    """
    smi = facts.get("nvidia_smi")
    if not isinstance(smi, dict) or not isinstance(smi.get("gpus"), list):
        raise ValueError("%s: nvidia_smi with a list of gpus is missing" % source)
    for gpu in smi["gpus"]:
        _check_gpu(gpu, source)
    status = smi.get("status", "ok")
    if gpus_hidden(dict(smi, status=status)):
        raise ValueError(
            "%s: the GPUs cannot be used: %s"
            % (source, hidden_reason(smi) if smi.get("reason") or smi.get("vfio_gpu_count") else status)
        )
    memory = facts.get("dsdeploy_memory") or {}
    if memory and not (
        isinstance(memory, dict)
        and all(is_whole(memory.get(key)) and memory[key] >= 0 for key in ("total_mib", "available_mib"))
        and isinstance(memory.setdefault("users", {}), dict)
        and all(is_whole(size) for size in memory["users"].values())
    ):
        raise ValueError("%s: dsdeploy_memory is not of dsdeploy" % source)
    words = [facts.get(key) or facts.get("ansible_" + key) for key in ("distribution", "distribution_version")]
    return Machine(source, smi, memory, 1, " ".join(str(word) for word in words if word), users)


def _check_gpu(gpu: Any, source: str) -> None:
    good = isinstance(gpu, dict) and is_whole(gpu.get("index")) and isinstance(gpu.get("name"), (str, type(None)))
    if good:
        sizes = [gpu.get("memory_%s_mib" % kind) for kind in ("total", "used", "free", "reserved")]
        good = all(size is None or (is_whole(size) and size >= 0) for size in sizes)
    if good:
        capability = gpu.get("compute_capability")
        good = capability is None or re.match(r"\d{1,2}\.\d\Z", str(capability)) is not None
        good = good and isinstance(gpu.get("mig") or {}, dict) and isinstance(gpu.get("processes") or [], list)
    if not good:
        raise ValueError("%s: a GPU in it is not as nvidia_smi_facts describes one" % source)


def of_text(text: str, source: str) -> Machine:
    """The machine of a saved file's text; ValueError, one line, for what is none of the kinds that are taken."""
    if text.lstrip().startswith("{"):
        try:
            found = foreign.loads(text, LARGEST_FILE)
        except ValueError as error:
            raise ValueError("%s is not JSON: %s" % (source, error)) from None
        for inside in ("ansible_facts", "facts"):
            if isinstance(found, dict) and "nvidia_smi" not in found and isinstance(found.get(inside), dict):
                found = found[inside]
        if isinstance(found, dict) and "gpus" in found and "nvidia_smi" not in found:
            found = {"nvidia_smi": found}
        if not isinstance(found, dict) or "nvidia_smi" not in found:
            raise ValueError("%s holds JSON, but no facts of dsdeploy (nvidia_smi is missing): %s" % (source, _TAKES))
        return of_facts(found, source)
    xml = "<nvidia_smi_log" in text
    report = (parse_xml if xml else parse_table)(text)
    diagnosis = diagnose(0, text, "", report)
    if diagnosis["status"] == "no_devices" and re.search(r"No devices were found", text):
        return of_facts({"nvidia_smi": dict(build_facts(diagnosis, report, None), status="no_devices")}, source)
    if diagnosis["status"] in ("unreadable", "unknown", "no_devices"):
        what = (
            "holds no output of nvidia-smi" if not xml else "cannot be read: %s" % (report["damage"] or "no GPU in it")
        )
        raise ValueError("%s %s: %s" % (source, what, _TAKES))
    if diagnosis["status"] != "ok":
        raise ValueError("%s: the GPUs cannot be used: %s" % (source, diagnosis["reason"]))
    return of_facts({"nvidia_smi": build_facts(diagnosis, report, "xml" if xml else "table")}, source)


def read(path: str) -> Machine:
    """The machine of a saved file; ValueError, one line, where there is none in it."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("%s is no file" % path)
        if status.st_size > LARGEST_FILE:
            raise ValueError("%s has %d bytes, which no facts have" % (path, status.st_size))
        with open(path, "rb") as handle:
            data = handle.read()
    except OSError as error:
        raise ValueError("%s: %s" % (path, error.strerror)) from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):  # as PowerShell's > writes it
        text = data.decode("utf-16", "replace")
    elif b"\x00" in data:
        raise ValueError("%s is no text: %s" % (path, _TAKES))
    else:
        text = data.decode("utf-8-sig", "replace")
    if not text.strip():
        raise ValueError("%s is empty: %s" % (path, _TAKES))
    return of_text(text, path)
