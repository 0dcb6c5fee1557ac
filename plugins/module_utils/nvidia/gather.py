# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask nvidia-smi and the PCI bus of this host; what they say is read by facts.py."""

from __future__ import annotations

import os
import pwd
import shutil
import time
from typing import Any

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.process import run
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.facts import build_facts
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.pci import on_bus
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.smi import Report, diagnose
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.smi_table import parse_table
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.smi_xml import parse_xml

USUAL_PLACES = ("/usr/bin", "/usr/local/nvidia/bin", "/usr/lib/wsl/lib")


def find(path: str | None) -> str | None:
    """The nvidia-smi to run. A path that was asked for is not replaced by another one."""
    places = os.pathsep.join((os.environ.get("PATH", os.defpath),) + USUAL_PLACES)
    return shutil.which(path or "nvidia-smi", path=places)


def gather(path: str | None, timeout: int, pci_devices: str) -> dict[str, Any]:
    """Ask nvidia-smi, each question in what is left of `timeout` s."""
    pci = on_bus(pci_devices)
    binary = find(path)
    if not binary:
        missing = "%s is not an executable file" % path if path else ""
        return dict(build_facts(diagnose(None, "", missing, parse_xml("")), pci=pci), path=None)
    deadline = time.monotonic() + timeout

    def ask(parse: Any, *arguments: str) -> tuple[Report, dict[str, str]]:
        answer = run([binary, *arguments], deadline - time.monotonic())
        if answer.rc is None and not answer.timed_out:
            answer = answer._replace(rc=126)  # it is there and cannot be started
        report = parse(answer.stdout + "\n" + answer.stderr)
        return report, diagnose(answer.rc, answer.stdout, answer.stderr, report, timeout if answer.timed_out else None)

    source = "xml"
    report, diagnosis = ask(parse_xml, "-q", "-x")
    if diagnosis["status"] in ("unreadable", "unknown") or (diagnosis["status"] == "gpu_lost" and not report["gpus"]):
        table, verdict = ask(parse_table)
        if table["gpus"] and verdict["status"] in ("ok", "gpu_lost"):
            table["warnings"].insert(0, "Read from the table, because of nvidia-smi -q -x: %s" % diagnosis["reason"])
            source, report, diagnosis = "table", table, verdict
    query = nvlink = ""
    if report["gpus"] and diagnosis["status"] in ("ok", "gpu_lost"):
        fields = ["--query-gpu=uuid,index,compute_cap", "--format=csv,noheader"]
        query = run([binary, *fields], deadline - time.monotonic()).stdout
        nvlink = run([binary, "nvlink", "--status"], deadline - time.monotonic()).stdout
    facts = dict(build_facts(diagnosis, report, source, query, nvlink, pci), path=binary)
    for gpu in facts["gpus"]:
        gpu["processes"] = [dict(process, user=user_of(process["pid"])) for process in gpu["processes"]]
    return facts


def user_of(pid: int) -> str | None:
    """The user of a process; None for one that this process namespace does not have."""
    try:
        uid = os.stat("/proc/%d" % pid).st_uid
    except (OSError, TypeError):
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
