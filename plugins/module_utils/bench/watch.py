# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the host does while the load runs: GPUs by nvidia-smi, running and waiting requests by the engine's metrics."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Dict, List, Optional, Sequence

from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import gauges
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia.sampling import Sampler

INTERVAL_S = 1.0


def summarise_gpus(samples: Sequence[Dict[str, Any]], begin: float, end: float) -> Dict[str, Any]:
    """Of the samples (each with ``at``, s) between `begin` and `end`: by GPU mean and most power (W), least SM clock
    (MHz), most temperature (°C), most memory (MiB), throttle reasons seen; energy of all (J). None where not known."""
    inside = [sample for sample in samples if begin <= sample["at"] <= end]
    gpus = []
    for index in sorted({sample["index"] for sample in inside}):
        own = [sample for sample in inside if sample["index"] == index]

        def values(name: str, own: Sequence[Dict[str, Any]] = own) -> List[float]:
            return [sample[name] for sample in own if sample[name] is not None]

        power, reasons = values("power_w"), [sample["throttled"] for sample in own if sample["throttled"] is not None]
        gpus.append(
            {
                "index": index,
                "power_mean_w": round(sum(power) / len(power), 1) if power else None,
                "power_max_w": max(power, default=None),
                "power_limit_w": max(values("power_limit_w"), default=None),
                "sm_min_mhz": min(values("sm_mhz"), default=None),
                "temperature_max_c": max(values("temperature_c"), default=None),
                "memory_max_mib": max(values("memory_mib"), default=None),
                "throttled": sorted({name for found in reasons for name in found}) if reasons else None,
            }
        )
    known = gpus and all(gpu["power_mean_w"] is not None for gpu in gpus)
    energy = sum(gpu["power_mean_w"] for gpu in gpus) * (end - begin) if known else None
    return {"gpus": gpus, "energy_j": None if energy is None else round(energy, 1)}


def strip_of(samples: Sequence[Dict[str, Any]], begin: float, end: float, most: int = 120) -> List[Dict[str, Any]]:
    """Power of all GPUs (W), mean SM clock (MHz), most temperature (°C) over time, at most `most` steps, for a plot."""
    by_time: Dict[int, Dict[int, Dict[str, Any]]] = {}
    width = max(INTERVAL_S, (end - begin) / most)
    for sample in samples:
        if begin <= sample["at"] <= end:
            by_time.setdefault(int((sample["at"] - begin) / width), {})[sample["index"]] = sample
    strip = []
    for step in sorted(by_time):
        found = by_time[step].values()
        power = [gpu["power_w"] for gpu in found if gpu["power_w"] is not None]
        clocks = [gpu["sm_mhz"] for gpu in found if gpu["sm_mhz"] is not None]
        heat = [gpu["temperature_c"] for gpu in found if gpu["temperature_c"] is not None]
        strip.append(
            {
                "at_s": round(step * width, 1),
                "power_w": round(sum(power), 1) if power else None,
                "sm_mhz": round(sum(clocks) / len(clocks)) if clocks else None,
                "temperature_c": max(heat, default=None),
            }
        )
    return strip


class Watch:
    """Samples once a second while it is entered, in threads of its own; what cannot be read is left out.

    :param nvidia_smi: the program, or None on a host without.
    :param read_metrics: gives the engine's metrics as text, or None where there are none.
    """

    def __init__(self, nvidia_smi: Optional[str], read_metrics: Optional[Callable[[], Optional[str]]]) -> None:
        self.gpus: List[Dict[str, Any]] = []
        self.queue: List[Dict[str, Any]] = []
        self._read_metrics = read_metrics
        self._sampler = Sampler(nvidia_smi, self.gpus.append, INTERVAL_S) if nvidia_smi else None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._queue, daemon=True) if read_metrics else None

    def __enter__(self) -> "Watch":
        if self._sampler:
            self._sampler.start()
        if self._thread:
            self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._ended.set()
        if self._sampler:
            self._sampler.stop()
        if self._thread:
            self._thread.join(5)

    def cached(self) -> Optional[gauges.Cached]:
        """What the engine says now of its cache of equal beginnings; None where it does not."""
        text = self._read_metrics() if self._read_metrics else None
        return gauges.cached(text) if text else None

    def cached_since(self, before: Optional[gauges.Cached]) -> Optional[float]:
        """The share of the prompts since a reading that was found in that cache, 0 to 1; None: not known."""
        now = self.cached() if before else None
        return now.share_since(before) if before and now else None

    def _queue(self) -> None:
        while self._read_metrics and not self._ended.wait(INTERVAL_S):
            text = self._read_metrics()
            if text is None:
                continue
            found = gauges.read(text)
            if found.running is not None or found.waiting is not None:
                self.queue.append({"at": time.monotonic(), "running": found.running, "waiting": found.waiting})
