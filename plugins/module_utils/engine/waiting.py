# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long an engine that starts is waited for: as long as it works. Pure.

An engine that loads 400 GB or compiles 247 kernels takes what it takes; one that does nothing will not come up. What it
does is seen by the CPU time and the bytes read of its processes, and by its log. Lines are those of vLLM 0.32, SGLang
0.5, llama.cpp b11549 and Ollama 0.24.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Optional, Sequence

# Share of one processor, and bytes a second, above which an engine works: an idle server polls with less than 2 %.
BUSY_CPU = 0.05
BUSY_BYTES_PER_S = 1_000_000
# Work without an end is none (processes that wait for each other spin): no start takes longer than this.
LEAST_LIMIT_S = 7200
LIMIT_FACTOR = 4


class Sighting(NamedTuple):
    """Of an engine at one moment: `now` in s of a monotonic clock; `cpu_s` and `read_bytes` of all its processes since
    they began, and the last line of its log; None each where it is not known."""

    now: float
    cpu_s: Optional[float] = None
    read_bytes: Optional[int] = None
    line: Optional[str] = None


def limit(idle_s: float) -> int:
    """Seconds after which a start has failed, however busy the engine is.

    :param idle_s: seconds without any work after which it counts as hung.
    """
    return int(max(LEAST_LIMIT_S, LIMIT_FACTOR * idle_s))


class Patience:
    """Sees an engine again and again, and knows when to give up."""

    def __init__(self, idle_s: float, started: float) -> None:
        """`started`: when the wait began, of the clock of the sightings."""
        self.idle_s, self.limit_s = idle_s, limit(idle_s)
        self.started = self.worked = started
        self.last: Optional[Sighting] = None

    def see(self, sighting: Sighting) -> Optional[str]:
        """Why to give up, in a few words; None to go on."""
        if self.last is None or self._works(self.last, sighting):
            # The first sighting is no sign of work: the time counts from the start of the wait.
            self.worked = self.started if self.last is None else sighting.now
            self.last = sighting
        elif sighting.now - self.last.now >= 10:
            # A rate is measured over the last while, not over all of an idle time.
            self.last = sighting
        if sighting.now - self.started >= self.limit_s:
            return "not ready after %.0f s, however busy it is" % (sighting.now - self.started)
        idle = sighting.now - self.worked
        if idle >= self.idle_s:
            return "it has done nothing for %.0f s" % idle
        return None

    @staticmethod
    def _works(last: Sighting, now: Sighting) -> bool:
        passed = now.now - last.now
        if now.line is not None and now.line != last.line:
            return True
        for before, after, least in (
            (last.cpu_s, now.cpu_s, BUSY_CPU),
            (last.read_bytes, now.read_bytes, BUSY_BYTES_PER_S),
        ):
            # Less than before: another process, which was started anew; that is the service manager's to tell.
            if before is not None and after is not None and passed > 0 and after - before >= least * passed:
                return True
        return False


# What a line of a log says of how far it is; the first that matches.
_STEPS = (
    (r"(?:Loading|loading).*?(?:shards?|weights|checkpoint|tensors).*?(\d+)\s?%", "loading %s %%"),
    (r"model load progress (0\.\d+|1\.0+)", "loading"),
    (r"Captur\w+ .*?(\d+)/(\d+)", "capturing graphs %s/%s"),
    (r"^\s*\[(\d+)/(\d+)\]\s", "compiling %s/%s"),
    # FlashInfer: what stands in its place in a first start, for one to two minutes a module.
    (r"Building JIT module (\w+)", "compiling kernels (%s)"),
    # When it is through, SGLang compiles kernels of its own and logs nothing.
    (r"DeepGEMM.*?\b(?:(\d+)/\1)\b", "compiling kernels, after DeepGEMM's %s"),
    (r"DeepGEMM.*?(\d+)/(\d+)", "compiling %s/%s (DeepGEMM)"),
    (r"(?i)warm(?:ing|-)?\s?up.*?(\d+)/(\d+)", "warming up %s/%s"),
    (r"(?i)captur\w+ .*graph", "capturing graphs"),
    (r"(?i)(?:torch\.compile|compiling|dynamo bytecode|compile range)", "compiling"),
    (r"(?i)(?:load_tensors|loading model|load_model|llm server loading model|loading weights)", "loading"),
)
_STAMP = re.compile(
    r"^(?:\S+ \S+ \S+: )?(?:\([^)]*\) )?(?:\[[^\]]*\] )?(?:time=\S+ )?(?:(?:level=)?(?:INFO|WARNING|ERROR|DEBUG)\S* )?"
    r"(?:[\d:., -]+(?:(?:INFO|WARNING|ERROR|DEBUG) - \S+:\d+ - )?)?(?:\[\S+:\d+\] )?"
)
# Said every minute by a process that waits for another; what the other does was said before.
_WAITS = re.compile(r"No available shared memory broadcast block found")


def doing(lines: Sequence[str], width: int = 60) -> str:
    """What an engine does, by the last line of its log that says something; empty where there is none."""
    line = next((line for line in reversed(lines) if line.strip() and not _WAITS.search(line)), "")
    for pattern, said in _STEPS:
        found = re.search(pattern, _STAMP.sub("", line, count=1)) or re.search(pattern, line)
        if found and said.count("%s") == len(found.groups()):
            return (said % found.groups()).replace("%%", "%")
        if found:
            share = "%.0f %%" % (100 * float(found.group(1))) if found.groups() else ""
            return (said + " " + share).strip()
    text = " ".join(_STAMP.sub("", line, count=1).split())
    return text if len(text) <= width else text[: width - 1] + "…"
