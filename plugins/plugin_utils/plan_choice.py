# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of what fits is recommended, and why; what a machine must have for what does not fit. Pure.

The rule, in this order: it fits for certain (or by its recipe's minimum) for the users and the context that are asked;
nothing is reported against it on this version of the engine; all of it is on the GPUs; its architecture was checked at
its source (`unverified` of the catalog); the most parameters, of equal ones a DeepSeek; where one model can be had in
several ways, the best published speed of one request, then the newest, then the engine (vLLM, SGLang, llama.cpp,
Ollama), then the most bits a weight.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.dsdeploy.llm.plugins.plugin_utils import plan_offers
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.plan_machine import MACHINES, of_gpus

_GOOD = ("fits", "recipe")
# vLLM before SGLang: of the two it is the one that this collection has run on GPUs.
_ORDER = {"vllm": 3, "sglang": 2, "llama_cpp": 1, "ollama": 0}


def is_good(row: Dict[str, Any]) -> bool:
    """Whether it can be deployed so: it fits, by its numbers or by its recipe's minimum."""
    return row["verdict"] in _GOOD


def _on_cpu(row: Dict[str, Any]) -> bool:
    return row["layout"].get("device") == plan_offers.CPU or row["layout"].get("cpu_share", 0) > 0


def parameters(entry: Dict[str, Any]) -> int:
    """Parameters as the catalog knows them; 0 where it does not."""
    return (entry.get("architecture") or {}).get("parameters") or 0


def single_stream(row: Dict[str, Any]) -> Optional[Dict[str, Any]]:
    """The best figure of one request at a time: one that was measured here before one that others published."""
    ours = [dict(one, tok_s=one["tok_s_1"], source="measured by us") for one in row["started"] if one.get("tok_s_1")]
    theirs = [one for one in row["published"] if one["streams"] == 1]
    return max(ours or theirs, key=lambda one: one["tok_s"], default=None)


def rank(row: Dict[str, Any], entry: Dict[str, Any]) -> Tuple[Any, ...]:
    """What is larger is better."""
    best = single_stream(row)
    bits = entry.get("weight_bits") or 0
    return (
        is_good(row),
        not row["doubts"],
        not _on_cpu(row),
        "architecture" not in (entry.get("unverified") or []),
        parameters(entry),
        "deepseek" in row["family"],
        row["verdict"] == "fits",
        best["tok_s"] if best else 0,
        entry.get("released") or "",
        _ORDER.get(row["engine"], 0),
        bits,
    )


def recommended(rows: List[Dict[str, Any]], catalog: Dict[str, Any]) -> Optional[Dict[str, Any]]:
    """The best row; None where none can be deployed."""
    good = [row for row in rows if is_good(row)]
    return max(good, key=lambda row: rank(row, catalog.get(row["model"]) or {}), default=None)


def _used(row: Dict[str, Any], gpus: int) -> str:
    """How many of the GPUs a layout over GPUs uses, where that is not all of them."""
    used = row["layout"].get("gpus") if "tensor_parallel" in row["layout"] else None
    return " on %d of %d GPUs" % (used, gpus) if used and used < gpus else ""


def reason(row: Dict[str, Any], rows: List[Dict[str, Any]], gpus: int = 0) -> str:
    """Why this one, in a sentence. `gpus`: how many there are, of all hosts."""
    parts = []
    if row["verdict"] == "recipe":
        parts.append("its recipe's minimum of GPU memory is there, its KV cache is not known before it runs")
    elif _on_cpu(row):
        how = "no GPU holds it whole" if gpus else "there is no GPU: it is computed on the CPU, many times slower"
        parts.append("nothing larger fits, and %s" % how)
    else:
        held = plan_offers.sequences(row)
        many = "" if held is None else ", the cache holds at least %d such request%s" % (held, "" if held == 1 else "s")
        parts.append(
            "it fits with %s for %d request%s of {:,} tokens%s".format(row["context"])
            % (
                plan_offers.layout_text(row) + _used(row, gpus),
                row["users"],
                "" if row["users"] == 1 else "s",
                many,
            )
        )
    best = single_stream(row)
    if best:
        who = "%s, %s" % (best["engine"], best["source"])
        parts.append("%s tokens/s for one request on %s (%s)" % (best["tok_s"], best["gpus"], who))
    for other in rows:
        if other is row or other["family"] != row["family"] or not is_good(other):
            continue
        fast = single_stream(other)
        if other["doubts"]:
            speed = " (%s tokens/s published for one request)" % fast["tok_s"] if fast else ""
            title = plan_offers.TITLES.get(other["engine"], other["engine"])
            parts.append("not %s on %s%s: %s" % (other["model"], title, speed, other["doubts"][0]))
    return "; ".join(parts)


def caveats(row: Dict[str, Any]) -> List[str]:
    """What is to be known before one relies on it, a line each."""
    lines = list(row["doubts"])
    if row["unproven"]:
        lines.append(row["unproven"])
    if row["newer"]:
        lines.append("%s: %s is planned" % (row["newer"], row["version"]))
    return lines + row["notes"]


def needed(
    catalog: Dict[str, Any], engines: List[plan_offers.Engine], ask: plan_offers.Ask, wanted: Tuple[str, ...]
) -> List[Dict[str, Any]]:
    """The best row of what is wanted on each of the machines of docs/plan.md, None-d where nothing fits there."""
    found = []
    for name in MACHINES:
        rows = plan_offers.offers(catalog, engines, of_gpus(name), ask, wanted)
        found.append({"machine": name, "row": recommended(rows, catalog), "rows": rows})
    return found


def nearest(rows: List[Dict[str, Any]]) -> Dict[str, Any]:
    """Of rows of which none fits, at least one, the one that is nearest to fitting."""

    def distance(row):
        # What a host's memory that nobody knows would have to hold says less than what is too much for the GPUs.
        vague = row["verdict"] == "unknown" and row["engine"] in plan_offers.LAYERED
        return vague, row["verdict"] == "no", row["bytes"]["value"] or 0

    return min(rows, key=distance)


def why_not(rows: List[Dict[str, Any]]) -> str:
    """Why nothing fits, in a sentence: of the row that is nearest to fitting."""
    if not rows:
        return "no engine of this dsdeploy serves it"
    row = nearest(rows)
    return row["why"] or "%s is not known to fit" % row["model"]
