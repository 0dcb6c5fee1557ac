# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which load comes next: profiles, and when a rising concurrency has told enough. Pure.

Shapes and limits follow what others publish: 1024/1024 and 8192/1024 tokens (InferenceX), twice the concurrency to warm
up and ten times it to measure, saturation at a gain below 5 %, and a service level of 500 ms to the first token and
50 ms a token (GPUStack's preset).
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from ansible_collections.dsdeploy.llm.plugins.module_utils.bench import prompts, turns

SATURATED_GAIN = 0.05
MAX_CONCURRENCY = 1024
WARM_UP = 2  # times the concurrency
MEASURED = 10  # times the concurrency
MAX_RANGE_RATIO = 0.95


class Profile(NamedTuple):
    """A shape of requests. Tokens; `budget_s` for all its points, the warm-up included."""

    prompt_tokens: int
    output_tokens: int
    concurrency: Sequence[int]  # the points; empty: 1, 2, 4, … until saturation
    budget_s: int
    shared_prefix: float = 0.0  # of the prompt, the same in all requests
    range_ratio: float = 0.0  # how far lengths lie around those tokens, see `prompts.Prompts.around`

    def fits(self, context: Optional[int]) -> bool:
        """Whether the longest request fits a context of so many tokens; also where that is not known."""
        lengths = (prompts.longest(tokens, self.range_ratio) for tokens in (self.prompt_tokens, self.output_tokens))
        return context is None or sum(lengths) <= context


PROFILES: Dict[str, Profile] = {
    "quick": Profile(512, 128, (1, 8), 50),
    "chat": Profile(1024, 1024, (), 1800),
    "long": Profile(8192, 1024, (), 3600),
    "rag": Profile(4096, 512, (), 1800, 0.75),
}


def cut_to(profile: Profile, context: Optional[int]) -> Profile:
    """The profile with its prompt, and then its answer, cut so that both fit `context`, with room for a template."""
    if context is None or profile.fits(context):
        return profile
    room = int(context / (1 + profile.range_ratio))
    output = min(profile.output_tokens, max(1, room // 4))
    return profile._replace(prompt_tokens=max(1, room - output - 16), output_tokens=output)


def requests_of(concurrency: int, fewest: int = 3) -> int:
    """How many requests a point measures."""
    return max(fewest, MEASURED * concurrency)


def following(
    profile: Profile, points: Sequence[Dict[str, Any]], spent_s: float, slo_ms: Optional[Dict[str, float]] = None
) -> "Step":
    """The next concurrency, or why there is none, after the `points` measured so far (in their order).

    :param spent_s: s since the start.
    """
    if points and points[-1]["completed"] == 0:
        return Step(None, "no request succeeded at %d streams" % points[-1]["max_concurrency"])
    if profile.concurrency:
        if len(points) >= len(profile.concurrency):
            return Step(None, "all points measured")
        if points and spent_s >= profile.budget_s:
            return Step(None, "the budget of %d s is spent" % profile.budget_s)
        return Step(profile.concurrency[len(points)], "")
    if not points:
        return Step(1, "")
    last = points[-1]
    if spent_s >= profile.budget_s:
        return Step(None, "the budget of %d s is spent" % profile.budget_s)
    broken = [name for name, limit in sorted((slo_ms or {}).items()) if (last.get("median_%s_ms" % name) or 0) > limit]
    if broken:
        return Step(
            None, "at %d streams the median %s is over the service level" % (last["max_concurrency"], broken[0].upper())
        )
    if len(points) > 1:
        before, now = points[-2]["output_throughput"], last["output_throughput"]
        if before and now is not None and now < before * (1 + SATURATED_GAIN):
            return Step(None, "saturated: %d streams bring less than 5 %% more" % last["max_concurrency"])
    wanted = last["max_concurrency"] * 2
    if wanted > MAX_CONCURRENCY:
        return Step(None, "%d streams, the maximum, are measured" % MAX_CONCURRENCY)
    return Step(wanted, "")


class Step(NamedTuple):
    concurrency: Optional[int]
    why: str  # why it ends; "" while it goes on


def eta_s(points: Sequence[Dict[str, Any]], step: int, requests: int) -> Optional[float]:
    """s that a point of `requests` requests at `step` streams takes, after the last one; None before the first."""
    if not points or not points[-1]["completed"]:
        return None
    last = points[-1]
    each = (last.get("mean_e2el_ms") or 0.0) / 1000.0
    return each * (requests + WARM_UP * step) / step


def problems(values: Dict[str, Any]) -> List[str]:
    """One line for each number that makes no sense: concurrency, tokens, times, limits."""
    found = []
    for name in ("min_tokens_s", "max_ttft_p99_ms", "slo_ttft_ms", "slo_tpot_ms", "stall_s"):
        value = values.get(name)
        # NaN is not more than anything: a limit that it is would always be kept.
        if value is not None and not (value > 0 and math.isfinite(value)):
            found.append("%s: %s is not a number above 0" % (name, value))
    for item in values.get("concurrency") or []:
        if not 1 <= item <= MAX_CONCURRENCY:
            found.append("concurrency: %s is not between 1 and %d" % (item, MAX_CONCURRENCY))
    ratio = values.get("range_ratio")
    if ratio is not None and not 0 <= ratio <= MAX_RANGE_RATIO:  # nor NaN
        found.append("range_ratio: %s is not between 0 and %s" % (ratio, MAX_RANGE_RATIO))
    rounds = values.get("rounds")
    if rounds is not None and not 1 <= rounds <= turns.MAX_ROUNDS:
        found.append("rounds: %s is not between 1 and %d" % (rounds, turns.MAX_ROUNDS))
    for name in ("prompt_tokens", "output_tokens", "budget_s"):
        value = values.get(name)
        if value is not None and value < 1:
            found.append("%s: %s is not at least 1" % (name, value))
    return found
