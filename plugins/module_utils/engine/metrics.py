# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast an engine generates, by its own metrics: the Prometheus text of vLLM and SGLang. Pure."""

from __future__ import annotations

import re
from typing import Dict, Optional

_SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{.*\})? ([-+0-9.eE]+|NaN|[-+]Inf)(?: \d+)?$")
# Seconds from one token of a request to its next, a histogram; the second is the older name (vLLM before 0.11).
_BETWEEN_TOKENS = ("inter_token_latency_seconds", "time_per_output_token_seconds")


def parse(text: str) -> Dict[str, float]:
    """Value of each metric, summed over its labels, without the engine's prefix (`vllm:`)."""
    found: Dict[str, float] = {}
    for line in text.splitlines():
        sample = _SAMPLE.match(line)
        if sample:
            name = sample.group(1).rpartition(":")[2]
            found[name] = found.get(name, 0.0) + float(sample.group(2))
    return found


def tokens_per_s(before: Dict[str, float], after: Dict[str, float]) -> Optional[float]:
    """Tokens per second of one request, its first token not counted, between two readings; None where none was made.

    With other requests at the same time it is the mean over all of them.
    """
    for name in _BETWEEN_TOKENS:
        count = after.get(name + "_count", 0.0) - before.get(name + "_count", 0.0)
        seconds = after.get(name + "_sum", 0.0) - before.get(name + "_sum", 0.0)
        if count > 0 and seconds > 0:
            return round(count / seconds, 1)
    return None
