# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the requests of one load point come to: the figures of `vllm bench serve`, under its names.

Definitions, of one request: TTFT from the first byte sent to the first token; E2EL to the last token;
TPOT = (E2EL - TTFT) / (output tokens - 1), with the tokens as the server counts them; ITL between two events. An engine
may send several tokens in one event, and ITL then says how it groups them: beside it stands ``tokens_per_event``.
"""

from __future__ import annotations

import math
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

PERCENTILES = (50, 90, 95, 99)
MAX_GAPS = 200000  # of ITL, a point: more do not change a percentile, and would fill the memory of the host


class Request(NamedTuple):
    """One request as the client saw it. Times in s of one clock; tokens as the server counts them."""

    sent: float
    first: Optional[float]  # first token
    last: Optional[float]  # last token
    ended: float
    events: int  # that carried tokens
    gaps: Sequence[float]  # between the events, s
    prompt_tokens: Optional[int]
    output_tokens: Optional[int]
    cached_tokens: Optional[int] = None
    finish: Optional[str] = None  # why it ended, in the server's words
    error: Optional[str] = None  # one line; None: a good answer

    @property
    def ttft(self) -> float:
        """s; of an answer with a token."""
        return (self.sent if self.first is None else self.first) - self.sent

    @property
    def e2el(self) -> float:
        """s; of an answer with a token."""
        return (self.sent if self.last is None else self.last) - self.sent

    @property
    def tpot(self) -> Optional[float]:
        """s a token after the first; None of an answer of one token, or whose tokens nobody counted."""
        if not self.output_tokens or self.output_tokens < 2:
            return None
        return (self.e2el - self.ttft) / (self.output_tokens - 1)


def percentile(values: Sequence[float], wanted: float) -> Optional[float]:
    """Linear between the two nearest ranks, as NumPy and vLLM have it; None of nothing. `values` must be sorted."""
    if not values:
        return None
    rank = (len(values) - 1) * wanted / 100.0
    below = math.floor(rank)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (rank - below)


def spread(name: str, seconds: Sequence[float]) -> Dict[str, Optional[float]]:
    """``{mean,median,std,p90,p95,p99}_<name>_ms`` of values in s; each None where there is no value."""
    values = sorted(seconds)
    mean = sum(values) / len(values) if values else None
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values)) if mean is not None else None
    figures = {"mean": mean, "std": deviation, "median": percentile(values, 50)}
    figures.update({"p%d" % wanted: percentile(values, wanted) for wanted in PERCENTILES if wanted != 50})
    return {"%s_%s_ms" % (key, name): _ms(value) for key, value in figures.items()}


def _ms(seconds: Optional[float]) -> Optional[float]:
    return None if seconds is None else round(seconds * 1000.0, 3)


def timeline(requests: Sequence[Request], begin: float, end: float, steps: int = 60) -> List[Dict[str, float]]:
    """Output tokens/s and requests in flight over the point, in at most `steps` equal slices of at least a second.

    Tokens of a request are spread evenly between its first and its last.
    """
    length = end - begin
    if length <= 0:
        return []
    count = max(1, min(steps, int(length)))
    width = length / count
    tokens, running = [0.0] * count, [0.0] * count
    for item in requests:
        for i in range(count):
            low, high = begin + i * width, begin + (i + 1) * width
            running[i] += max(0.0, min(item.ended, high) - max(item.sent, low)) / width
        if item.error is not None or item.first is None or item.last is None or not item.output_tokens:
            continue
        duration = max(item.last - item.first, 1e-9)
        for i in range(count):
            low, high = begin + i * width, begin + (i + 1) * width
            share = max(0.0, min(item.last, high) - max(item.first, low)) / duration
            tokens[i] += item.output_tokens * share
    return [
        {"at_s": round(i * width, 3), "tokens_s": round(tokens[i] / width, 2), "running": round(running[i], 2)}
        for i in range(count)
    ]


def summarise(
    requests: Sequence[Request],
    begin: float,
    end: float,
    concurrency: int,
    slo_ms: Optional[Dict[str, float]] = None,
    lags: Sequence[float] = (),
) -> Dict[str, Any]:
    """The figures of one point.

    :param begin: when the first measured request was sent, `end`: when the last one ended; s of the requests' clock.
    :param slo_ms: the service level, ms, by ``ttft``, ``tpot`` or ``e2el``: a good request meets them all.
    :param lags: how late the client's own loop ran, s: a client that is late measures itself.
    """
    good = [item for item in requests if item.error is None and item.first is not None]
    counted = [item for item in good if item.output_tokens is not None]
    duration = max(end - begin, 1e-9)
    output = sum(item.output_tokens or 0 for item in counted)
    prompt = sum(item.prompt_tokens or 0 for item in good)
    gaps: List[float] = []
    for item in good:
        gaps.extend(item.gaps[: max(0, MAX_GAPS - len(gaps))])
    tpots = [item.tpot for item in counted if item.tpot is not None]
    events = sum(item.events for item in counted)
    errors: Dict[str, int] = {}
    for item in requests:
        if item.error is not None:
            errors[item.error] = errors.get(item.error, 0) + 1
    known_cache = [item for item in good if item.cached_tokens is not None and item.prompt_tokens]
    # Of answers whose tokens nobody counted there is no rate.
    whole = bool(good) and len(counted) == len(good)
    result: Dict[str, Any] = {
        "max_concurrency": concurrency,
        "completed": len(good),
        "failed": len(requests) - len(good),
        "errors": errors,
        "duration": round(duration, 6),
        "total_input_tokens": prompt,
        "total_output_tokens": output if whole else None,
        "request_throughput": round(len(good) / duration, 4),
        "output_throughput": round(output / duration, 3) if whole else None,
        "total_token_throughput": round((output + prompt) / duration, 3) if whole else None,
        "tokens_per_event": round(output / events, 4) if events and whole else None,
        "cached_tokens_ratio": (
            round(sum(i.cached_tokens or 0 for i in known_cache) / sum(i.prompt_tokens or 0 for i in known_cache), 4)
            if known_cache
            else None
        ),
        "natural_stops": sum(item.finish == "stop" for item in good),
        "client_lag_p99_ms": _ms(percentile(sorted(lags), 99)),
        "timeline": timeline(requests, begin, end),
    }
    result.update(spread("ttft", [item.ttft for item in good]))
    result.update(spread("tpot", tpots))
    result.update(spread("itl", gaps))
    result.update(spread("e2el", [item.e2el for item in good]))
    # What one user sees at worst: InferenceX's north star, tokens/s.
    per_user = sorted(item.e2el / item.output_tokens for item in counted if item.output_tokens)
    slow = percentile(per_user, 90)
    result["normalized_interactivity_p90"] = round(1.0 / slow, 3) if slow else None
    result["max_output_tokens_per_s"] = max((step["tokens_s"] for step in result["timeline"]), default=None)
    if slo_ms:
        result.update(goodput(good, len(requests), duration, slo_ms))
    return result


def goodput(good: Sequence[Request], asked: int, duration: float, slo_ms: Dict[str, float]) -> Dict[str, Any]:
    """Requests/s that meet all of the service level, and the share of all requests that meets each of it."""

    def met(item: Request, name: str) -> bool:
        value = {"ttft": item.ttft, "tpot": item.tpot, "e2el": item.e2el}[name]
        return value is None or value * 1000.0 <= slo_ms[name]

    meets_all = sum(all(met(item, name) for name in slo_ms) for item in good)
    return {
        "request_goodput": round(meets_all / duration, 4),
        "slo_attainment": {
            name: round(sum(met(i, name) for i in good) / asked, 4) if asked else None for name in slo_ms
        },
        "slo_ms": dict(slo_ms),
    }
