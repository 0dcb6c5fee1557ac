# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of checks and health of GPUs as metrics, for the node exporter's textfile collector. Pure.

Source: prometheus.io/docs/instrumenting/exposition_formats. There is no time stamp: the collector refuses one, and has
the file's own (node_textfile_mtime_seconds).
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.check import STATUSES

NAME = "dsdeploy_doctor.prom"
# Of a check in dsdeploy_check_status: skip has no line.
VALUES = {"pass": 0, "warn": 1, "fail": 2, "unknown": 3}

Line = Tuple[Dict[str, Any], Optional[float]]


def escaped(value: Any) -> str:
    return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def metric(name: str, says: str, lines: List[Line]) -> str:
    """One gauge with its lines; values of None are left out, and a gauge without any."""
    rows = []
    for labels, value in lines:
        if value is not None:
            inside = ",".join('%s="%s"' % (key, escaped(label)) for key, label in labels.items())
            rows.append("%s%s %s\n" % (name, "{%s}" % inside if inside else "", ("%f" % value).rstrip("0").rstrip(".")))
    return "# HELP %s %s\n# TYPE %s gauge\n%s" % (name, says, name, "".join(rows)) if rows else ""


def render(result: Dict[str, Any], smi: Optional[Dict[str, Any]]) -> str:
    """The text of the file.

    :param result: as make.make returns it. `smi`: facts of nvidia_smi_facts, None where they were not read.
    """
    checks = result["checks"]
    parts = [
        metric(
            "dsdeploy_check_status",
            "Result of a check of dsdeploy doctor: 0 pass, 1 warn, 2 fail, 3 unknown.",
            [({"check": one["id"], "group": one["group"]}, VALUES.get(one["status"])) for one in checks],
        ),
        metric(
            "dsdeploy_checks",
            "Checks of dsdeploy doctor by their result.",
            [({"status": status}, result["counts"][status]) for status in STATUSES],
        ),
    ]
    if smi and "gpus" in smi:
        parts += _gpus(smi)
    return "".join(parts)


def _gpus(smi: Dict[str, Any]) -> List[str]:
    found = smi["gpus"]
    labels = [{"gpu": gpu["index"], "uuid": gpu["uuid"] or ""} for gpu in found]

    def each(name: str, says: str, values: List[Any]) -> str:
        numbers = [None if value is None else float(value) for value in values]
        return metric("dsdeploy_gpu_" + name, says, list(zip(labels, numbers)))

    remapped = [gpu["remapped_rows"] for gpu in found]
    slow = [[one for one in gpu["throttle_reasons"] if one.startswith("hw_")] for gpu in found]
    fabric = smi["fabric"]["ready"]
    return [
        metric("dsdeploy_gpus", "GPUs that answer.", [({}, len(found))]),
        metric("dsdeploy_gpus_on_pci", "GPUs on the PCI bus.", [({}, smi["pci_gpu_count"])]),
        metric(
            "dsdeploy_fabric_ready", "Whether the NVLink fabric is.", [({}, None if fabric is None else int(fabric))]
        ),
        each(
            "recovery_action",
            "Whether the driver asks for a recovery.",
            [bool(gpu["recovery_action"]) for gpu in found],
        ),
        each("row_remap_pending", "Whether rows wait for a reset.", [one["pending"] for one in remapped]),
        each("row_remap_failure", "Whether a row could not be remapped.", [one["failure"] for one in remapped]),
        each(
            "ecc_uncorrectable_errors",
            "Uncorrectable errors since the driver was loaded.",
            [gpu["ecc"]["volatile"]["uncorrectable"] for gpu in found],
        ),
        each("hw_slowdown", "Whether hardware holds the clocks down.", [bool(reasons) for reasons in slow]),
        each("nvlinks_down", "NVLink links that are down.", [gpu["nvlinks_down"] for gpu in found]),
        each("temperature_celsius", "Temperature.", [gpu["temperature_c"] for gpu in found]),
    ]
