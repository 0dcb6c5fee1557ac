# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an engine does now, by its own metrics: requests, tokens, how full its KV cache is. Pure.

By the names of vLLM, SGLang and llama.cpp, without their prefixes; the older name of the same figure stands behind.
"""

from __future__ import annotations

import math
import re
from typing import Collection, Dict, List, NamedTuple, Optional, Sequence

from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import metrics

RUNNING = ("num_requests_running", "num_running_reqs", "requests_processing")
WAITING = ("num_requests_waiting", "num_queue_reqs", "requests_deferred")
KV_USE = ("kv_cache_usage_perc", "gpu_cache_usage_perc", "token_usage", "kv_cache_usage_ratio")
GENERATED = ("generation_tokens_total", "generation_tokens", "tokens_predicted_total")
PROMPTED = ("prompt_tokens_total", "prompt_tokens")
# Tokens of prompts that the cache of equal beginnings was asked for, and those found in it.
LOOKED_UP = ("prefix_cache_queries_total", "gpu_prefix_cache_queries_total", "prompt_tokens_total")
FOUND = ("prefix_cache_hits_total", "gpu_prefix_cache_hits_total", "cached_tokens_total")
# Ranks that work on the same requests tell of them again: SGLang with --enable-metrics-for-all-schedulers, and with
# context parallelism (its PR 38825). Data-parallel ranks have requests of their own.
_SAME_REQUESTS = re.compile(r'\b(?:tp|pp|moe_ep|attn_cp|cp)_rank="[^"]*"')
_WANTED = frozenset(RUNNING + WAITING + KV_USE + GENERATED + PROMPTED)


class Gauges(NamedTuple):
    """One reading; None is not known. `kv_use` from 0 to 1, of the fullest cache where there are several;
    `generated` and `prompted` are tokens since the engine started."""

    running: Optional[float]
    waiting: Optional[float]
    kv_use: Optional[float]
    generated: Optional[float]
    prompted: Optional[float]


class Cached(NamedTuple):
    """Tokens of prompts since the engine started: looked up in its cache of equal beginnings, and found there."""

    looked_up: float
    found: float

    def share_since(self, before: "Cached") -> Optional[float]:
        """What share of the prompts between two readings was found, 0 to 1; None where it was started anew between."""
        asked, found = self.looked_up - before.looked_up, self.found - before.found
        if asked < 0 or found < 0 or found > asked:
            return None
        return round(found / asked, 4) if asked else 0.0


def _values(text: str, wanted: Collection[str]) -> Dict[str, List[float]]:
    """What stands at these names, once of ranks that tell the same. Only the wanted lines are parsed: an engine has
    thousands."""
    found: Dict[str, Dict[str, float]] = {}
    for line in text.split("\n"):
        told, _brace, labels = line.partition("{")
        name = metrics.bare(told.partition(" ")[0])
        if name in wanted:
            value = metrics.parse(line).get(name)
            once = found.setdefault(name, {})
            whose = _SAME_REQUESTS.sub("", labels.rpartition("}")[0])
            # What is no number makes its sum one that is not known.
            seen = (once.get(whose, -math.inf), math.nan if value is None else value)
            once[whose] = math.nan if any(map(math.isnan, seen)) else max(seen)
    return {name: list(once.values()) for name, once in found.items()}


def _total(found: Dict[str, List[float]], names: Sequence[str]) -> Optional[float]:
    values = next((found[name] for name in names if name in found), None)
    if values is None:
        return None
    value = sum(values)
    return value if value >= 0 and math.isfinite(value) else None


def read(text: str) -> Gauges:
    """The figures in a text of the Prometheus format."""
    found = _values(text, _WANTED)
    caches = [value for value in next((found[name] for name in KV_USE if name in found), []) if 0 <= value <= 1]
    running, waiting, generated, prompted = (_total(found, names) for names in (RUNNING, WAITING, GENERATED, PROMPTED))
    return Gauges(running, waiting, max(caches, default=None), generated, prompted)


def cached(text: str) -> Optional[Cached]:
    """What its cache of equal beginnings was good for; None where it does not say."""
    values = _values(text, frozenset(LOOKED_UP + FOUND))
    # Of one engine, both by the names of the same release.
    for asked, found in zip(LOOKED_UP, FOUND):
        if found in values:
            both = _total(values, (asked,)), _total(values, (found,))
            return None if None in both else Cached(*both)
    return None


class Rates:
    """Tokens/s from readings one after the other, over the last `window_s`: engines that count a request's tokens
    when it ends would show nothing and then too much."""

    def __init__(self, window_s: float = 10.0) -> None:
        self._window_s = window_s
        self._seen: List["tuple[float, Gauges]"] = []

    def see(self, gauges: Gauges, now: float) -> Dict[str, Optional[float]]:
        """``{generated_s, prompted_s}``, tokens/s; None before a second reading, or where a counter went down (the
        engine was started anew). `now`: time.monotonic(), s."""
        if self._seen and _went_down(self._seen[-1][1], gauges):
            self._seen = []
        self._seen.append((now, gauges))
        while len(self._seen) > 2 and now - self._seen[1][0] >= self._window_s:
            del self._seen[0]
        then, before = self._seen[0]

        def rate(name: str) -> Optional[float]:
            first, last = getattr(before, name), getattr(gauges, name)
            if first is None or last is None or now <= then:
                return None
            return round((last - first) / (now - then), 1)

        return {"generated_s": rate("generated"), "prompted_s": rate("prompted")}


def _went_down(before: Gauges, after: Gauges) -> bool:
    pairs = ((before.generated, after.generated), (before.prompted, after.prompted))
    return any(one is not None and two is not None and two < one for one, two in pairs)
