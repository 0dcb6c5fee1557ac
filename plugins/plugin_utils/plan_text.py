# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as lines for people. Pure."""

from __future__ import annotations

import json
import shlex
from typing import Any, Dict, Iterator, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.fit.request import GIB
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.sizes import mib
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import plan_choice, plan_offers

VERDICTS = {
    "fits": "yes",
    "tight": "if lean",  # only if the engine's overhead stays low
    "recipe": "by recipe",
    "unknown": "not known",
    "refused": "no",
    "no": "no",
}


def duration(seconds: float) -> str:
    """45 s, 12 min, 1 h 07 min."""
    if seconds < 90:
        return "%d s" % seconds
    minutes = int(round(seconds / 60.0))
    return "%d min" % minutes if minutes < 90 else "%d h %02d min" % divmod(minutes, 60)


def of_number(found: Optional[Dict[str, Any]], shown=mib) -> str:
    """The value, with a tilde where it is estimated; "not known" where it is."""
    if not found or found["value"] is None:
        return "not known"
    return "%s%s" % ("~" if found["label"] == "estimated" else "", shown(found["value"]))


def table(rows: List[Dict[str, Any]]) -> Iterator[str]:
    """A line for each row that fits, or may."""
    heads = ("model", "kind", "size", "engine", "fits", "how", "longest context", "such requests")
    cells = [heads]
    for row in rows:
        held = plan_offers.sequences(row)
        longest, most = row["numbers"].get("largest_context"), ""
        if row["verdict"] == "tight" and row["numbers"].get("context_high"):
            longest, most = row["numbers"]["context_high"], "up to "
        cells.append(
            (
                row["model"],
                row["quantization"],
                of_number(row["bytes"]),
                plan_offers.TITLES.get(row["engine"], row["engine"]),
                VERDICTS[row["verdict"]],
                plan_offers.layout_text(row),
                "not known" if not longest or longest["value"] is None else most + "{:,}".format(longest["value"]),
                "–" if held is None else most + str(held),
            )
        )
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    for line in cells:
        yield "  ".join(word.ljust(width) for word, width in zip(line, widths)).rstrip()


def lines(plan: Dict[str, Any], explain: bool = False) -> Iterator[str]:
    """All of a plan: the value of `plan` that module deployment_plan returns."""
    machine = plan["machine"]
    if machine["hosts"] is None:
        yield from _needs(plan)
        return
    driver = "driver %s, CUDA %s" % (machine["driver"], machine["cuda"]) if machine["driver"] else "driver not known"
    yield "machine      %s (%s)" % (machine["label"], ", ".join(filter(None, [driver, machine["system"]])))
    yield "known from   %s" % machine["source"]
    yield from ("note         %s" % note for note in machine["notes"])
    ask = plan["ask"]
    yield "asked        %d request%s at a time, each of %s" % (
        *(ask["users"], "" if ask["users"] == 1 else "s"),
        "%s tokens" % "{:,}".format(ask["context"]) if ask["context"] else "8,192 tokens (or the model's longest)",
    )
    rows = plan["rows"]
    good = [row for row in rows if row["verdict"] in ("fits", "tight", "recipe", "unknown")]
    if good:
        yield ""
        yield from ("  " + line for line in table(good))
    bad = [row for row in rows if row["verdict"] in ("no", "refused")]
    if bad and not ask["models"] and len(bad) > MOST_REASONS:
        names = dict.fromkeys(row["model"] for row in bad if row["model"] not in {one["model"] for one in good})
        if names:
            yield ""
            yield "does not fit, or is not served here (--model NAME says why): %s" % ", ".join(names)
    elif bad:
        yield ""
        yield "does not fit:"
        for row in bad:
            yield "  %s, %s: %s" % (row["model"], plan_offers.TITLES.get(row["engine"], row["engine"]), row["why"])
            if row.get("would_fit"):
                yield "    would fit: %s" % "; ".join(row["would_fit"])
    unsure = [row for row in good if row["why"]]
    if unsure:
        yield ""
        yield "not sure:"
        yield from ("  %s, %s: %s" % (row["model"], plan_offers.TITLES.get(row["engine"], row["engine"]), row["why"])
                    for row in unsure)  # fmt: skip
    yield ""
    yield from _deployment("up would", plan["up"], explain)
    if plan["recommended"] and not _same(plan["up"], plan["recommended"]):
        yield ""
        yield from _deployment("recommended", plan["recommended"], explain)
    elif plan["recommended"]:
        yield "recommended  the same"
    else:
        yield "recommended  nothing: %s" % plan["why_none"]
    yield from _needs(plan)
    for one in plan["measured"]:
        yield ""
        yield from _measured(one)


def _needs(plan: Dict[str, Any]) -> Iterator[str]:
    """Which machines hold what is asked."""
    ask = plan["ask"]
    for one in plan["needs"]:
        yield ""
        yield "%s, %d request%s at a time, each of %s tokens, is held by:" % (
            *(one["wanted"], ask["users"], "" if ask["users"] == 1 else "s"),
            "{:,}".format(ask["context"] or plan_offers.DEFAULT_CONTEXT),
        )
        for found in one["machines"]:
            yield "  %-16s %s" % (found["machine"], found["text"])


def _same(one: Optional[Dict[str, Any]], other: Dict[str, Any]) -> bool:
    return bool(one) and (one.get("model"), one.get("engine")) == (other["model"], other["engine"])


def _deployment(title: str, one: Optional[Dict[str, Any]], explain: bool) -> Iterator[str]:
    if not one:
        yield "%-12s not known" % title
        return
    if one.get("problem"):
        yield "%-12s %s" % (title, one["problem"])
        return
    row, costs = one["row"], one["costs"]
    engine = plan_offers.TITLES.get(row["engine"], row["engine"])
    yield "%-12s serve %s with %s: %s" % (
        title,
        row["model"],
        ("%s %s" % (engine, row["version"])).strip(),
        one["reason"],
    )
    yield "  fits       %s%s" % (VERDICTS[row["verdict"]], ": " + row["why"] if row["why"] else "")
    yield from ("  mistake    %s. Better: %s" % (found["what"], found["fix"]) for found in one["mistakes"])
    yield from ("  careful    %s" % line for line in one["caveats"])
    yield from ("  change     %s" % line for line in one["changes"])
    yield "  download   %s, about %s (at %s)" % (
        *(of_number(costs["download"]), of_number(costs["download_s"], duration).lstrip("~")),
        costs["download_s"]["how"].replace("bytes / ", ""),
    )
    parts = ["%s %s" % (name, mib(found["value"])) for name, found in costs["disk"].items()]
    free = costs["disk_free"]["value"]
    said = "" if free is None else "; %s free" % mib(free)
    if free is not None and costs["disk_total"]["value"] and free < costs["disk_total"]["value"]:
        said += ": NOT ENOUGH"
    if parts or costs["disk_total"]["value"] is None:
        total = of_number(costs["disk_total"])
        yield "  disk       %s at the most (%s)%s" % (total, ", ".join(parts) or "not known", said)
    else:
        yield "  disk       nothing more%s" % said
    if costs["load_fast_s"]["value"] is not None:
        yield "  load       %s from one NVMe disk, %s from a cold network disk (assumed: 3 GB/s and 100 MB/s)" % (
            duration(costs["load_fast_s"]["value"]),
            duration(costs["load_slow_s"]["value"]),
        )
    first = costs["first_start_s"]
    if first["value"] is None or first["value"]:
        took = "not known" if first["value"] is None else "about %s more" % duration(first["value"])
        yield "  start      the first of a release on these GPUs: %s (%s); its caches are kept" % (took, first["how"])
    yield "  command    %s" % one["command"]
    if explain:
        yield from ("    " + line for line in explained(row))


# Of the rows that do not fit the reasons are shown, up to so many.
MOST_REASONS = 6
_TOKENS = ("largest_context", "context_low", "context_high")


def explained(row: Dict[str, Any]) -> Iterator[str]:
    """Every number of a row: value, label, formula."""
    for name, found in dict(row["numbers"], download=row["bytes"]).items():
        if not found:
            continue
        value = found["value"]
        if value is None:
            text = "not known"
        elif name in _TOKENS:
            text = "{:,} tokens".format(value)
        elif name == "kv_bytes_per_token":
            text = "{:,} B".format(value)
        else:
            text = "%.2f GiB" % (value / GIB)
        yield "%-20s %16s  %-9s  %s" % (name.replace("_", " "), text, found["label"], found["how"])


def _measured(one: Dict[str, Any]) -> Iterator[str]:
    """What the engine itself said of a deployment that answered, beside what is planned for it."""
    yield "measured     %s serving %s, by its own %s" % (one["engine"], one["model"], one["source"])
    for found in one["figures"]:
        yield "  %-18s %14s measured  %22s planned  %s" % (
            found["name"],
            found["measured_text"],
            found["planned_text"],
            found["error_text"],
        )


def command(row: Dict[str, Any], variables: Dict[str, Any], given: str = "") -> str:
    """The command that deploys a row.

    :param given: how the model is named where that is not its name in the catalog.
    """
    if given.startswith(("http://", "https://")):
        return "none: a config.json has no weights; name the repository or a path"
    parts = ["dsdeploy up", "--engine %s" % row["engine"], "--model %s" % shlex.quote(given or row["model"])]
    if variables:
        parts.append("-e '%s'" % json.dumps(variables, sort_keys=True))
    return " ".join(parts)


def needs_text(row: Optional[Dict[str, Any]], rows: List[Dict[str, Any]]) -> str:
    """One cell of the table of machines: the best row there, or why there is none."""
    if not row:
        known = not rows or plan_choice.nearest(rows)["verdict"] != "unknown"
        return "%s: %s" % ("no" if known else "not known", plan_choice.why_not(rows))
    title = plan_offers.TITLES.get(row["engine"], row["engine"])
    held = plan_offers.sequences(row)
    many = "" if held is None else ", at least %d such requests" % held
    sure = "" if row["verdict"] == "fits" else " (%s)" % VERDICTS[row["verdict"]]
    return "%s on %s, %s%s%s" % (row["model"], title, plan_offers.layout_text(row), many, sure)
