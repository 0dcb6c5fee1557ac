# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the catalog lets expect of a measurement: the rates that were measured or published for the same model, engine,
GPUs and streams. Nothing is expected of what nobody measured."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

DEFAULTS = Path(__file__).resolve().parents[2] / "roles/model/defaults/main"
CATALOGS = (("catalog_others.yml", "_model_catalog_others"), ("catalog.yml", "model_catalog"))
SPREAD = 0.1  # of a rate, below and above: others had other prompts, versions and clocks


def read_catalog() -> dict[str, Any]:
    """The catalog of the collection. Raises OSError."""
    found: dict[str, Any] = {}
    for name, variable in CATALOGS:
        found.update(yaml.safe_load((DEFAULTS / name).read_text(encoding="utf-8"))[variable])
    return found


def _same_gpus(said: str, names: list[str]) -> bool:
    """Whether "8 x H100" are these, as nvidia-smi names them."""
    match = re.fullmatch(r"(\d+) x (.+)", said)
    if not match or int(match[1]) != len(names):
        return False
    wanted = re.compile(r"(?<![A-Za-z0-9])%s(?![A-Za-z0-9])" % re.escape(match[2]), re.I)
    return all(wanted.search(name) for name in names)


def rows_of(entry: dict[str, Any], engine: str) -> list[dict[str, Any]]:
    """``{gpus, streams, tok_s, source}`` of a catalog entry's recipes for an engine."""
    found = []
    for recipe in (entry.get("recipes") or {}).get(engine) or []:
        found += recipe.get("published") or []
        for one in recipe.get("started") or []:
            for key, streams in (("tok_s_1", 1), ("tok_s_32", 32)):
                if one.get(key):
                    row = {"gpus": one["gpus"], "streams": streams, "tok_s": one[key], "source": "measured by us"}
                    found.append(row)
    return found


def expected(result: dict[str, Any], catalog: dict[str, Any]) -> dict[str, Any] | None:
    """``{low, high, streams, measured, sources}``, output tokens/s, of the most streams that both have."""
    environment = result["environment"]
    record, gpus = environment.get("record") or {}, environment.get("gpus") or []
    entry = catalog.get(str(record.get("model")))
    if not entry or not gpus:
        return None
    rates = {
        point["max_concurrency"]: point["output_throughput"]
        for point in result["points"]
        if point.get("output_throughput") is not None
    }
    rows = [
        row
        for row in rows_of(entry, str(record.get("engine")))
        if row["streams"] in rates and _same_gpus(row["gpus"], gpus)
    ]
    if not rows:
        return None
    streams = max(row["streams"] for row in rows)
    rows = [row for row in rows if row["streams"] == streams]
    return {
        "low": min(row["tok_s"] for row in rows) * (1 - SPREAD),
        "high": max(row["tok_s"] for row in rows) * (1 + SPREAD),
        "streams": streams,
        "measured": rates[streams],
        "sources": sorted({row["source"] for row in rows}),
    }
