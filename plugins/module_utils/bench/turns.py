# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two load generators on one server, in turns: rounds of the same load, and what they say of each other. Pure.

An engine's speed changes from minute to minute, most where clients and engine share a few cores. One measurement after
the other compares two times; rounds in turns see the same drift, and how far a client's own rounds lie apart says how
much a difference between the two is worth.
"""

from __future__ import annotations

import math
import statistics
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

OURS, TOOL = "ours", "tool"
ROUNDS = 3  # of each: the fewest with one in the middle
MAX_ROUNDS = 20
OTHER_ANSWERS = 0.01  # of their mean length: they are still as long as was asked for
CACHED = 0.02  # of the prompts: as much more found in the server's cache is another load
OTHER_PROMPTS = (0.02, 2.0)  # of the mean length, and tokens: as far apart, those of the two are still alike
# What is compared.
FIGURES = (
    "output_throughput",
    "request_throughput",
    "median_ttft_ms",
    "p99_ttft_ms",
    "median_tpot_ms",
    "p99_tpot_ms",
    "median_e2el_ms",
)


class Load(NamedTuple):
    """What both send: tokens of a prompt and of an answer, requests, requests at a time, and how far the lengths lie
    around those tokens (`prompts.Prompts.around`)."""

    prompt_tokens: int
    output_tokens: int
    count: int
    concurrency: int
    range_ratio: float = 0.0

    def by_chance(self) -> float:
        """How far the mean length of all requests may lie from what was asked for, as a share: four times the standard
        deviation of the mean of `count` lengths that are all as likely."""
        return 4.0 * self.range_ratio / math.sqrt(3.0 * self.count)


class Round(NamedTuple):
    """One round of one of the two."""

    who: str
    figures: Dict[str, Optional[float]]  # by FIGURES
    problem: Optional[str] = None  # why it does not count; None: it is whole
    lag_ms: Optional[float] = None  # how late processes on these cores ran meanwhile, 99th percentile
    cpus: Optional[float] = None  # that the client took, 1.0: one of them all the time
    prompt_tokens: Optional[float] = None  # of a request on average
    # Whether there is no use in another round.
    fatal: bool = False
    cached: Optional[float] = None  # what share of its prompts the server had in its cache, 0 to 1


def order(rounds: int) -> List[str]:
    """Who is next, for `rounds` of each: A B B A, so that what drifts drifts for both."""
    return [(OURS, TOOL, TOOL, OURS)[number % 4] for number in range(2 * rounds)]


def short_of(load: Load, completed: float, output_tokens: Optional[float], interrupted: bool = False) -> Optional[str]:
    """Why a round is not the load that was asked for; None where it is.

    :param output_tokens: of all answers; None where nobody counted.
    """
    if completed < load.count:
        cut = "broken off: " if interrupted else ""
        return "%s%d of %d requests were answered" % (cut, completed, load.count)
    if completed > load.count:
        return "%d answers to %d requests" % (completed, load.count)
    allowed = OTHER_ANSWERS + load.by_chance()
    if output_tokens is not None and abs(output_tokens / completed / load.output_tokens - 1) > allowed:
        return "answers of %.1f tokens, where %d were asked for" % (output_tokens / completed, load.output_tokens)
    return None


def number(value: Any) -> Optional[float]:
    """A figure of another's file: None for what is no number, or none that can be measured."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        return None
    return value


def of_ours(point: Dict[str, Any], load: Load) -> Round:
    """The round that a point of ours is."""
    problem = short_of(load, point["completed"], point["total_output_tokens"], point["interrupted"])
    if problem and point["errors"]:
        problem += " (%s)" % max(point["errors"].items(), key=lambda item: item[1])[0]
    completed = point["completed"]
    return Round(
        OURS,
        {name: number(point[name]) for name in FIGURES},
        problem,
        point["client_lag_p99_ms"],
        point.get("client_cpus"),
        point["total_input_tokens"] / completed if completed and point["total_input_tokens"] else None,
        fatal=not completed or point["interrupted"],
        cached=number(point["cached_tokens_ratio"]),
    )


def middle(points: Sequence[Dict[str, Any]], rounds: Sequence[Round]) -> Dict[str, Any]:
    """The point that stands for its rounds: by output tokens/s the one in the middle of those that are whole, of all
    where none is. Of two in the middle the lower one."""
    whole = [point for point, one in zip(points, rounds) if one.problem is None] or list(points)
    return sorted(whole, key=lambda point: point["output_throughput"] or 0.0)[(len(whole) - 1) // 2]


def spread(values: Sequence[float]) -> Optional[float]:
    """How far they lie apart: (most - least) / median; None of fewer than two."""
    between = statistics.median(values) if len(values) > 1 else 0.0
    return round((max(values) - min(values)) / between, 4) if between else None


def within(ratio: Optional[float], spreads: Sequence[Optional[float]]) -> Optional[bool]:
    """Whether a difference is no larger than what either's own rounds differ by; None where that is not known."""
    known = [one for one in spreads if one is not None]
    if ratio is None or len(known) < len(spreads):
        return None
    return abs(ratio - 1.0) <= max(known)


def compare(tool: str, load: Load, wanted: int, done: Sequence[Round], ended: Optional[str] = None) -> Dict[str, Any]:
    """What the rounds come to, ready for JSON.

    :param wanted: rounds of each; `done`: those that began, in their order.
    :param ended: why there were no more, in words that follow "round 3 of 6: "; None: no reason but the rounds' own.

    ``figures`` and ``ours``: medians of the whole rounds; ``ratio``: ours over theirs; ``spread`` of each; ``within``:
    see above; ``whole``: how many rounds of each count; ``problem``: why it is less than was asked for, absent where it
    is not; ``notes``: what else to know.
    """
    whole = {who: [one for one in done if one.who == who and one.problem is None] for who in (OURS, TOOL)}
    medians: Dict[str, Dict[str, Optional[float]]] = {OURS: {}, TOOL: {}}
    spreads: Dict[str, Dict[str, Optional[float]]] = {OURS: {}, TOOL: {}}
    ratios: Dict[str, Optional[float]] = {}
    reading: Dict[str, Optional[bool]] = {}
    for name in FIGURES:
        for who, rounds in whole.items():
            values = [one.figures.get(name) for one in rounds]
            known = [value for value in values if value is not None]
            # A figure that one round lacks is none of all rounds.
            known = known if len(known) == len(values) else []
            medians[who][name] = round(statistics.median(known), 4) if known else None
            spreads[who][name] = spread(known)
        mine, other = medians[OURS][name], medians[TOOL][name]
        ratios[name] = round(mine / other, 4) if mine is not None and other else None
        reading[name] = within(ratios[name], (spreads[OURS][name], spreads[TOOL][name]))
    problems = _problems(tool, wanted, done, ended)
    found: Dict[str, Any] = {
        "tool": tool,
        "wanted": wanted,
        "whole": {who: len(rounds) for who, rounds in whole.items()},
        "ours": medians[OURS],
        "figures": medians[TOOL],
        "ratio": ratios,
        "spread": spreads,
        "within": reading,
        "client": {who: _client(rounds) for who, rounds in whole.items()},
        "rounds": [_told(one) for one in done],
        "notes": _notes(tool, load, whole, reading),
    }
    if problems:
        found["problem"] = "against %s: at %d streams %s" % (tool, load.concurrency, "; ".join(problems))
    return found


def _told(one: Round) -> Dict[str, Any]:
    told = {
        "who": one.who,
        "figures": one.figures,
        "client_lag_p99_ms": one.lag_ms,
        "client_cpus": one.cpus,
        "prompt_tokens": one.prompt_tokens,
        "cached_tokens_ratio": one.cached,
    }
    return dict(told, problem=one.problem) if one.problem else told


def _client(rounds: Sequence[Round]) -> Dict[str, Optional[float]]:
    """Medians of what the client itself took."""
    cpus, lags = (_median([getattr(one, name) for one in rounds]) for name in ("cpus", "lag_ms"))
    return {
        "cpus": None if cpus is None else round(cpus, 3),
        "lag_p99_ms": None if lags is None else round(lags, 3),
    }


def _problems(tool: str, wanted: int, done: Sequence[Round], ended: Optional[str]) -> List[str]:
    names = {OURS: "ours", TOOL: "its"}
    found = [
        "round %d of %d (%s): %s" % (at, 2 * wanted, names[one.who], one.problem)
        for at, one in enumerate(done, 1)
        if one.problem is not None
    ]
    if len(done) < 2 * wanted:
        missing = range(len(done) + 1, 2 * wanted + 1)
        said = "round %d is missing" % missing[0] if len(missing) == 1 else "rounds %d to %d are missing" % (
            missing[0], missing[-1])  # fmt: skip
        found.append("%s: %s" % (ended, said) if ended else said)
    if found:
        counts = [sum(one.who == who and one.problem is None for one in done) for who in (OURS, TOOL)]
        found.append("%d of %d rounds of ours and %d of %d of its count" % (counts[0], wanted, counts[1], wanted))
    return found


def _median(values: Sequence[Optional[float]]) -> Optional[float]:
    """None where one of them is not known."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known and len(known) == len(values) else None


def _notes(tool: str, load: Load, whole: Dict[str, List[Round]], reading: Dict[str, Optional[bool]]) -> List[str]:
    notes = []
    if min(len(rounds) for rounds in whole.values()) < 2:
        notes.append("fewer than 2 whole rounds of each: what a difference is worth is not known")
    lengths = {
        who: statistics.median([one.prompt_tokens for one in rounds if one.prompt_tokens] or [0])
        for who, rounds in whole.items()
    }
    share, tokens = OTHER_PROMPTS
    allowed = max((share + load.by_chance()) * lengths[OURS], tokens)
    if all(lengths.values()) and abs(lengths[OURS] - lengths[TOOL]) > allowed:
        notes.append("prompts of %.1f tokens, %s's of %.1f: not the same load" % (lengths[OURS], tool, lengths[TOOL]))
    found = {who: _median([one.cached for one in rounds]) for who, rounds in whole.items()}
    mine, theirs = found[OURS], found[TOOL]
    if mine is not None and theirs is not None and abs(theirs - mine) > CACHED:
        # vLLM's random prompts count upwards from a random token: with few tokens in a vocabulary they come again.
        notes.append(
            f"{theirs:.0%} of {tool}'s prompts were in the server's cache of equal beginnings, {mine:.0%} of ours: not "
            "the same load; without that cache it is (--no-enable-prefix-caching, --disable-radix-cache)"
        )
    if reading["median_ttft_ms"] is False and load.concurrency > 1 and not load.range_ratio:
        # Seen with vLLM 0.32.0 at 8 streams: 75 ms and 45 ms; with lengths that differ 33 ms and 32 ms.
        notes.append(
            "answers of one length keep the streams in step: TTFT then tells how closely a client sends its requests, "
            "too; lengths that differ do not (--range-ratio 0.5)"
        )
    return notes


def problems(points: Sequence[Dict[str, Any]]) -> List[str]:
    """Why the comparisons are less than was asked for, each reason once."""
    found = [(point.get("against") or {}).get("problem") for point in points]
    return list(dict.fromkeys(reason for reason in found if reason))
