# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast an engine generates, by its own metrics: the Prometheus text of vLLM, SGLang and llama.cpp. Pure.

Names differ by version. Seconds a token of a request, its first token not counted, by what is there:

- ``request_time_per_output_token_seconds``: one observation a request (vLLM from 0.11, SGLang);
- ``inter_token_latency_seconds``, before vLLM 0.11 and in old SGLang ``time_per_output_token_seconds``: one
  observation an output *event*, which holds several tokens with speculative decoding (vLLM PR 52853). So the tokens
  are counted by ``generation_tokens_total``, and the observations only where that is missing;
- ``tokens_predicted_total`` and ``tokens_predicted_seconds_total``: llama.cpp, which has no histograms.
"""

from __future__ import annotations

import math
import re
from typing import Dict, Optional

_SAMPLE = re.compile(
    r"^[ \t]*([A-Za-z_:][\w:]*)(?:[ \t]*\{(?:[^\"{}]|\"(?:[^\"\\]|\\.)*\")*\})?[ \t]+"
    r"([-+]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|NaN|Inf(?:inity)?))(?:[ \t]+-?[0-9.]+)?"
    r"(?:[ \t]+#.*)?[ \t\r]*$",
    re.I,
)
# "vllm:", and as a collector that allows no colon writes it.
_PREFIX = re.compile(r".*:|(?:vllm|sglang|llamacpp)_")
_PER_REQUEST = "request_time_per_output_token_seconds"
_BETWEEN_EVENTS = ("inter_token_latency_seconds", "time_per_output_token_seconds")
_GENERATED = ("generation_tokens_total", "generation_tokens")
_STARTED = "time_to_first_token_seconds_count"


def bare(name: str) -> str:
    """The name of a metric without its engine's prefix."""
    return _PREFIX.sub("", name)


def parse(text: str) -> Dict[str, float]:
    """Value of each metric, summed over its labels, without the engine's prefix (`vllm:`). One with NaN or Inf
    among its values is left out: its sum is not known."""
    found: Dict[str, float] = {}
    for line in text.split("\n"):
        sample = _SAMPLE.match(line)
        if sample:
            name, value = bare(sample.group(1)), float(sample.group(2))
            found[name] = found.get(name, 0.0) + value
    return {name: value for name, value in found.items() if math.isfinite(value)}


def tokens_per_s(before: Dict[str, float], after: Dict[str, float]) -> Optional[float]:
    """Tokens per second of one request, its first token not counted, between two readings; None where none was made.

    With other requests at the same time it is the mean over all of them. A counter that went down (the engine was
    started anew in between) tells nothing.
    """

    def grown(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    def rate(tokens: float, seconds: float) -> Optional[float]:
        if not (tokens > 0 and seconds > 0):
            return None
        speed = tokens / seconds
        return round(speed, 1) if math.isfinite(speed) else None

    found = rate(grown(_PER_REQUEST + "_count"), grown(_PER_REQUEST + "_sum"))
    for name in _BETWEEN_EVENTS:
        generated = next((total for total in _GENERATED if total in after), None)
        events, seconds = grown(name + "_count"), grown(name + "_sum")
        if found is None and events > 0:
            # Each request's first token has no token before it.
            tokens = grown(generated) - (grown(_STARTED) if _STARTED in after else 1.0) if generated else events
            found = rate(tokens, seconds)
    if found is None:
        found = rate(grown("tokens_predicted_total"), grown("tokens_predicted_seconds_total"))
    return found
