# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole plan: a machine, what is asked, and the catalog in; rows, choice and steps out. Pure."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import is_whole
from ansible_collections.dsdeploy.llm.plugins.module_utils.model.catalog import resolve
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import (
    mistakes,
    plan_choice,
    plan_measured,
    plan_offers,
    plan_steps,
    plan_text,
)
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.plan_machine import Machine

SCHEMA = 1
MOST_USERS, MOST_CONTEXT = 1_000_000, 100_000_000
PROFILES = ("", "latency", "throughput")


class Wish(NamedTuple):
    """What `up` would be told."""

    engine: str
    model: str
    named: bool  # the model is somebody's choice, not the embedded default
    given: str = ""  # how a model of the user's own is named: its path, repository or URL


class Host(NamedTuple):
    """What is known of a host beside its GPUs and memory."""

    looked: bool = False
    records: Tuple[Dict[str, Any], ...] = ()
    stored: Dict[str, int] = {}  # bytes of each model in the store
    free: Optional[int] = None


def check_ask(users: Any, context: Any, profile: str) -> plan_offers.Ask:
    """What is asked, checked; Failure (usage), one line."""
    for name, value, least, most in (("users", users, 1, MOST_USERS), ("context", context, 0, MOST_CONTEXT)):
        if not is_whole(value) or not least <= value <= most:
            raise Failure("%s is %r, not a whole number from %d to %d" % (name, value, max(least, 1), most),
                          hint="Leave it out for the default.", error_kind="usage")  # fmt: skip
    if profile not in PROFILES:
        raise Failure("profile is %r, not latency or throughput" % profile, error_kind="usage")
    return plan_offers.Ask(users, context, profile)


def wanted_of(catalog: Dict[str, Any], wish: Wish) -> Tuple[str, ...]:
    """Names and families that the plan is about; empty: the whole catalog.

    Failure (usage) for a name that the catalog does not have.
    """
    if not wish.named or not wish.model:
        return ()
    names = {name.lower(): name for name in catalog}
    families = {entry.get("family") for entry in catalog.values()} - {None}
    word = wish.model.lower()
    if word in names:
        name = names[word]
        return tuple(dict.fromkeys((name, catalog[name].get("family") or name)))
    if word in families:
        return (word,)
    try:
        resolve(catalog, {}, wish.model)
    except Failure as error:
        raise Failure("\n".join(error.problems), hint=error.hint, error_kind="usage") from None
    raise Failure("model %s: what it is was not read" % wish.model, error_kind="usage")


def build(
    machine: Optional[Machine],
    ask: plan_offers.Ask,
    catalog: Dict[str, Any],
    engines: List[plan_offers.Engine],
    roles: Dict[str, str],
    wish: Wish,
    host: Optional[Host] = None,
    download_mb_s: float = 100.0,
    merge: str = "copy",
) -> Dict[str, Any]:
    """The plan; its shape is docs/plan.schema.json.

    :param machine: None: any of the machines of docs/plan.md.
    :param roles: the role of each engine, whose prefix its variables have.
    """
    host = host or Host()
    wanted = wanted_of(catalog, wish)
    result: Dict[str, Any] = {
        "schema": SCHEMA,
        "machine": _machine(machine),
        "ask": dict(ask._asdict(), models=list(wanted)),
        "rows": [],
        "up": None,
        "recommended": None,
        "why_none": "",
        "needs": [],
        "measured": [],
    }
    if machine is None:
        result["needs"] = [_needs(catalog, engines, ask, wanted)]
        return result
    own = next((name for name in catalog if name.lower() == wish.model.lower()), "")
    rows = plan_offers.offers(catalog, engines, machine, ask, wanted, own)
    result["rows"] = rows
    by_name = {engine.name: engine for engine in engines}
    context = (catalog, by_name, roles, machine, ask, host, download_mb_s, merge, wish)
    result["up"] = _up(wish, rows, context)
    best = plan_choice.recommended(rows, catalog)
    gpus = len(machine.gpus) * machine.hosts
    if best:
        result["recommended"] = _deployment(best, plan_choice.reason(best, rows, gpus), context, chosen=False)
    else:
        # A family that has a member of the same name, such as deepseek-r1, is asked for as a whole.
        family = any(entry.get("family") == own and name != own for name, entry in catalog.items())
        result["why_none"] = plan_choice.why_not([row for row in rows if row["model"] == own and not family] or rows)
        if wanted:
            result["needs"] = [_needs(catalog, engines, ask, wanted)]
    result["measured"] = plan_measured.beside(host.records, catalog, by_name, machine, ask)
    return result


def _machine(machine: Optional[Machine]) -> Dict[str, Any]:
    if machine is None:
        return {"label": "any", "source": "the table of GPUs", "hosts": None, "gpus": [], "driver": None, "cuda": None,
                "system": "", "memory": {}, "notes": []}  # fmt: skip
    driver, cuda = machine.driver()
    keys = ("index", "name", "memory_total_mib", "memory_free_mib", "compute_capability")
    memory = {key: machine.memory[key] for key in ("total_mib", "available_mib") if key in machine.memory}
    _total, notes = machine.known()
    if len({(gpu.get("name"), gpu.get("memory_total_mib")) for gpu in machine.gpus}) > 1:
        notes = [*notes, "the GPUs are not alike: each takes what the smallest can"]
    return {
        "label": machine.label(),
        "source": machine.source,
        "hosts": machine.hosts,
        "gpus": [{key: gpu.get(key) for key in keys} for gpu in machine.gpus],
        "driver": driver,
        "cuda": cuda,
        "system": machine.system,
        "memory": memory,
        "notes": notes,
    }


def _needs(catalog, engines, ask, wanted):
    found = plan_choice.needed(catalog, engines, ask, wanted)
    return {
        "wanted": ", ".join(wanted) or "any model",
        "machines": [
            {
                "machine": one["machine"],
                "fits": one["row"] is not None,
                "model": one["row"] and one["row"]["model"],
                "engine": one["row"] and one["row"]["engine"],
                "text": plan_text.needs_text(one["row"], one["rows"]),
            }
            for one in found
        ],
    }


def _up(wish, rows, context):
    """What `up` would do with the engine and the model that it is told."""
    catalog, by_name, _roles, machine, ask = context[:5]
    names = {name.lower(): name for name in catalog}
    name = names.get(wish.model.lower())
    if wish.engine not in by_name:
        return {"problem": "there is no engine %s" % wish.engine}
    if name is None:
        return {
            "problem": "be refused: %s is no model of the catalog by itself, but a family: name one of them"
            % wish.model
        }
    try:
        entry = resolve(catalog, {}, name, wish.engine)
    except Failure as error:
        return {"problem": "be refused: %s" % "; ".join(error.problems)}
    row = next((row for row in rows if (row["model"], row["engine"]) == (name, wish.engine)), None)
    row = row or plan_offers.offer(name, entry, by_name[wish.engine], machine, ask)
    reason = (
        "it is what the inventory or the command names"
        if wish.named
        else "no model was named: it is the embedded default"
    )
    return _deployment(row, reason, context, chosen=True)


def _deployment(row, reason, context, chosen):
    catalog, by_name, roles, _machine_of, _ask, host, rate, merge, wish = context
    engine, entry = by_name[row["engine"]], catalog.get(row["model"]) or {}
    role = roles.get(engine.name, engine.name)
    mine = plan_steps.record_of(row, host.records)
    costs = plan_steps.costs(row, entry, engine, host.stored.get(row["model"]), host.free, rate, merge, mine)
    fit = row["layout"].get("gpu_layers")
    # A number of layers that is set is what the row was planned with: what would fit is asked without it.
    if fit is not None and str((engine.settings or {}).get("gpu_layers", "")).isdigit() and chosen:
        free = engine._replace(settings=dict(engine.settings or {}, gpu_layers="auto", parameters={}))
        fit = plan_offers.offer(row["model"], entry, free, context[3], context[4])["layout"].get("gpu_layers")
    settings = plan_steps.variables(row, entry, engine, role, context[3].hosts)
    return {
        "model": row["model"],
        "engine": row["engine"],
        "row": row,
        "reason": reason,
        "caveats": plan_choice.caveats(row),
        "mistakes": mistakes.find(role, engine.settings or {}, row["bytes"]["value"], fit) if chosen else [],
        "costs": costs,
        "changes": plan_steps.changes(row, list(host.records), costs, host.looked),
        "variables": settings,
        "command": plan_text.command(row, settings, wish.given if row["model"] == wish.model else ""),
    }
