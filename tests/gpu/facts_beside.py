#!/usr/bin/env python3
"""What module nvidia_smi_facts says of this host's GPUs beside nvidia-smi's own words: a line for each difference.

    facts_beside.py FACTS.json QUERY.csv

FACTS.json is the module's result, QUERY.csv the answer of `nvidia-smi --query-gpu=<fields()> --format=csv`, which
`facts_beside.py fields` prints. Ends with 1 when anything differs. Standard library only.
"""

from __future__ import annotations

import csv
import json
import sys

# nvidia-smi's field: (of our facts, how its text becomes our value); memory in MiB, power in W.
FIELDS = {
    "index": ("index", int),
    "name": ("name", str),
    "uuid": ("uuid", str),
    "memory.total": ("memory_total_mib", int),
    "memory.reserved": ("memory_reserved_mib", int),
    "memory.used": ("memory_used_mib", int),
    "memory.free": ("memory_free_mib", int),
    "compute_cap": ("compute_capability", str),
    "power.limit": ("power_limit_w", float),
    "persistence_mode": ("persistence_mode", {"Enabled": True, "Disabled": False}.get),
}


def differences(facts: dict, rows: list[dict]) -> list[str]:
    if len(facts["gpus"]) != len(rows):
        return ["%d GPUs in the facts, %d of nvidia-smi" % (len(facts["gpus"]), len(rows))]
    found = []
    for gpu, row in zip(facts["gpus"], rows):  # noqa: B905 -- the host's Python may be 3.8
        told = {name.split(" [")[0]: text for name, text in row.items()}
        for name, (ours, read) in FIELDS.items():
            theirs = read(told[name].split(" ")[0] if read in (int, float) else told[name])
            if gpu[ours] != theirs:
                found.append("GPU %s: %s is %r here, %r by nvidia-smi" % (row["index"], ours, gpu[ours], theirs))
    return found


def main() -> None:
    if sys.argv[1:] == ["fields"]:
        print(",".join(FIELDS))
        return
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as handle:
        facts = json.load(handle)["ansible_facts"]["nvidia_smi"]
    with open(sys.argv[2], encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle, skipinitialspace=True))
    found = differences(facts, rows)
    print("\n".join(found) or "%d GPUs, %d fields each: equal" % (len(rows), len(FIELDS)))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
