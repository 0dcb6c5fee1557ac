#!/usr/bin/env python3
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tables of docs/doctor.md are those of the checks.

Usage: doctor_docs.py [--write]. Prints one line and ends with 1 where the document differs; --write corrects it.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs/doctor.md"
BEGIN, END = "<!-- the checks: made by tests/lint/doctor_docs.py --write -->", "<!-- end of the checks -->"
GROUPS = {
    "gpu": "GPUs",
    "driver": "Driver and kernel log",
    "system": "Kernel, memory, clock",
    "disk": "Disks and models",
    "network": "Network",
    "engine": "What is deployed",
    "gang": "Between the hosts of one model",
    "deep": "Measured with `--deep`",
}


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def tables() -> str:
    sys.path.insert(0, str(ROOT / ".collections"))
    from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.make import listing

    parts = []
    for group, title in GROUPS.items():
        parts += [f"### {title}", "", "| check | why | fix | source | also after |", "| --- | --- | --- | --- | --- |"]
        for one in listing([group]):
            cells = [f"`{one['id']}`: {one['title']}", one["why"], one["fix"], one["source"], ", ".join(one["when"])]
            parts.append(f"| {' | '.join(map(cell, cells))} |")
        parts.append("")
    return "\n".join(parts)


def wanted(text: str) -> str:
    before, _begin, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


if __name__ == "__main__":
    found = DOCUMENT.read_text(encoding="utf-8")
    right = wanted(found)
    if "--write" in sys.argv[1:]:
        DOCUMENT.write_text(right, encoding="utf-8")
    elif found != right:
        print("docs/doctor.md: its tables are not those of the checks; tests/lint/doctor_docs.py --write corrects them")
        sys.exit(1)
