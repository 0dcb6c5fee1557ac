# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine said of its memory after it had started (`measured` of its record), beside what is planned. Pure."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.request import GIB
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.shape import number
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.sizes import mib
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import plan_offers

_PARTS = ("gpu", "cpu")


def beside(records, catalog, engines, machine, ask) -> List[Dict[str, Any]]:
    """A comparison for each deployment whose record holds what its engine measured.

    Each is ``{engine, model, source, since, figures}``, a figure ``{name, measured, planned, error_percent, …_text}``;
    the numbers are mappings of ``value`` (bytes, tokens; a planned range is a list of two), ``label`` and ``how``.
    """
    found = []
    for record in records:
        measured = record.get("measured")
        if not {"weights", "kv", "kv_tokens"} & set(measured or {}) or record["engine"] not in engines:
            continue
        engine = engines[record["engine"]]
        entry = catalog.get(record.get("model") or "")
        where = machine if record.get("device", "gpu") == "gpu" else without_gpus(machine)
        row = None
        if entry and engine.name in entry.get("engines", []):
            row = plan_offers.offer(record["model"], entry, engine, where, ask._replace(**served(engine)))
        found.append(
            {
                "engine": engine.title,
                "model": record.get("model") or "?",
                "source": measured["source"],
                "since": measured.get("since"),
                "figures": figures(row, measured, set_aside(engine) if where is not machine or not machine.gpus else 0),
            }
        )
    return found


def without_gpus(machine):
    """The machine as an engine sees it that computes on the CPU."""
    smi = dict(machine.nvidia_smi, gpus=[], status="not_installed", pci_gpu_count=0, vfio_gpu_count=0)
    return machine._replace(nvidia_smi=smi)


def served(engine: plan_offers.Engine) -> Dict[str, int]:
    """Users and context that the deployment is set to, as far as the variables say."""
    settings = engine.settings or {}
    names = {"vllm": ("max_num_seqs", "max_model_len"), "sglang": ("max_running_requests", "context_length")}
    users, context = names.get(engine.name, ("parallel", "context"))
    values = {"users": settings.get(users), "context": settings.get(context)}
    found = {name: int(value) for name, value in values.items() if str(value or "").isdigit() and int(value)}
    # How many may wait for each other says nothing of the memory.
    return found if engine.name in plan_offers.LAYERED else {k: v for k, v in found.items() if k == "context"}


def set_aside(engine: plan_offers.Engine) -> int:
    """Bytes that vLLM sets aside for its cache on a CPU; 0 for other engines."""
    space = str((engine.settings or {}).get("cpu_kv_cache_gib") or "")
    return int(space) * GIB if engine.name == "vllm" and space.isdigit() else 0


def figures(row: Optional[Dict[str, Any]], measured: Dict[str, Any], space: int = 0) -> List[Dict[str, Any]]:
    """The figures that the engine gave, each with what is planned, where that is known.

    :param space: bytes that are set aside for the cache, whatever the sequences take.
    """
    planned = _planned(row) if row else {}
    if space and "token" in planned:
        tokens = number(int(space // planned["token"]["value"]), "exact", "what is set aside / bytes a token")
        planned.update(kv=number(space, "exact", "what is set aside"), kv_tokens=tokens)
    found = []
    if "weights" in measured:
        found.append(_figure("weights", measured["weights"], planned.get("weights"), mib))
    if "kv" in measured:
        found.append(_figure("KV cache", measured["kv"], planned.get("kv"), mib))
    if "kv_tokens" in measured:
        found.append(_figure("KV tokens", measured["kv_tokens"], planned.get("kv_tokens"), "{:,}".format))
    if measured.get("kv") and measured.get("kv_tokens"):
        each = int(round(measured["kv"] / float(measured["kv_tokens"])))
        found.append(_figure("bytes a token", each, planned.get("token"), "{:,}".format))
    return found


def _planned(row: Dict[str, Any]) -> Dict[str, Any]:
    """``weights``, ``kv``, ``kv_tokens``, ``token``: numbers, or lists of the least and the most."""
    numbers = row["numbers"]
    found: Dict[str, Any] = {}
    token = numbers.get("kv_bytes_per_token")
    if token and token["value"]:
        found["token"] = token
    if "weights" in numbers:
        found["weights"] = numbers["weights"]
    else:
        parts = [numbers[name] for name in numbers if name.startswith("weights_")]
        if parts:
            label = "exact" if all(part["label"] == "exact" for part in parts) else "estimated"
            found["weights"] = number(sum(part["value"] for part in parts), label, "all layers")
    low, high, kv = (numbers.get(name) for name in ("left_low", "left_high", "kv"))
    if low and high and kv and None not in (low["value"], high["value"], kv["value"]):
        room = [low["value"] + kv["value"], high["value"] + kv["value"]]
        found["kv"] = number([max(0, size) for size in room], "estimated", "usable − weights − overhead")
        if "token" in found and "sliding" not in token["how"] and "state" not in token["how"]:
            tokens = [max(0, int(size / token["value"])) for size in room]
            found["kv_tokens"] = number(tokens, "estimated", "what is left / bytes a token")
    else:
        pools = [numbers[name] for name in numbers if name.startswith("kv_") and name[3:6] in _PARTS]
        if pools:
            found["kv"] = number(sum(pool["value"] for pool in pools), "exact", "context × sequences")
            found["kv_tokens"] = number(row["context"] * row["users"], "exact", "context × sequences")
    return found


def _figure(name: str, value: int, planned: Optional[Dict[str, Any]], shown) -> Dict[str, Any]:
    found = {
        "name": name,
        "measured": number(value, "measured", "the engine's own words"),
        "planned": planned or number(None, "not known", "no plan of it"),
        "error_percent": None,
        "measured_text": shown(value),
        "planned_text": "not known",
        "error_text": "",
    }
    if not planned:
        return found
    if isinstance(planned["value"], list):
        low, high = planned["value"]
        inside = low <= value <= high
        edge = low if value < low else high
        found["planned_text"] = "%s to %s" % (shown(low), shown(high))
        found["error_percent"] = 0.0 if inside else _percent(edge, value)
        found["error_text"] = "inside" if inside else _said(found["error_percent"])
    else:
        found["planned_text"] = shown(planned["value"])
        found["error_percent"] = _percent(planned["value"], value)
        found["error_text"] = _said(found["error_percent"])
    return found


def _percent(planned: float, value: float) -> Optional[float]:
    return round((planned - value) * 100.0 / value, 2) if value else None


def _said(percent: Optional[float]) -> str:
    return "" if percent is None else "planned %s%.1f %%" % ("+" if percent > 0 else "", percent)
