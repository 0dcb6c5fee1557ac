# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a measurement is good enough for who set a limit. Pure."""

from __future__ import annotations

from typing import Any, Dict, List, Optional


def best_throughput(points: List[Dict[str, Any]]) -> Optional[float]:
    """Most output tokens/s of all points; None where the server counted none."""
    return max((point["output_throughput"] for point in points if point["output_throughput"] is not None), default=None)


def missed(result: Dict[str, Any], min_tokens_s: Optional[float], max_ttft_p99_ms: Optional[float]) -> List[str]:
    """One line for each limit that is missed, also where what it limits was not measured; and for each point without an
    answer: an engine that is gone is no measurement."""
    found = []
    for point in result["points"]:
        if not point["completed"]:
            worst = max(point["errors"].items(), key=lambda item: item[1], default=("no answer", 0))[0]
            found.append("no request was answered at %d streams (%s)" % (point["max_concurrency"], worst))
    best = best_throughput(result["points"])
    if min_tokens_s is not None and (best is None or best < min_tokens_s):
        said = "not known" if best is None else "%.1f" % best
        found.append("output tokens/s: %s, wanted at least %g" % (said, min_tokens_s))
    first = result["points"][0]
    slow = first["p99_ttft_ms"]
    if max_ttft_p99_ms is not None and (slow is None or slow > max_ttft_p99_ms):
        said = "not known" if slow is None else "%.1f ms" % slow
        found.append(
            "p99 TTFT at %d streams: %s, wanted at most %g ms" % (first["max_concurrency"], said, max_ttft_p99_ms)
        )
    return found


def hint(result: Dict[str, Any]) -> str:
    """What to do next; "" where a limit was missed and no more."""
    if all(point["completed"] and not (point.get("against") or {}).get("problem") for point in result["points"]):
        return ""
    return "`dsdeploy status` says whether the engine answers, `dsdeploy logs` what it says. What was measured is kept."
