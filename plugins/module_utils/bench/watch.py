# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the host does while the load runs: GPUs by nvidia-smi, running and waiting requests by the engine's metrics."""

from __future__ import annotations

import io
import subprocess
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Sequence

FIELDS = ("index", "power.draw", "clocks.sm", "temperature.gpu", "utilization.gpu", "memory.used", "power.limit")
# Its name before driver 535.
REASONS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")
THROTTLES = {
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
# Running and waiting requests, by the names of vLLM, SGLang and llama.cpp, without their prefixes.
RUNNING = ("num_requests_running", "num_running_reqs", "requests_processing")
WAITING = ("num_requests_waiting", "num_queue_reqs", "requests_deferred")
INTERVAL_S = 1.0


def number(text: str) -> Optional[float]:
    """A number of nvidia-smi; None of "[N/A]" and its like."""
    try:
        return float(text)
    except ValueError:
        return None


def parse_gpu_line(line: str) -> Optional[Dict[str, Any]]:
    """One line of ``nvidia-smi --query-gpu=FIELDS,REASONS --format=csv,noheader,nounits``; None of any other."""
    parts = [part.strip() for part in line.split(",")]
    if len(parts) != len(FIELDS) + 1 or not parts[0].isdigit():
        return None
    names = ("index", "power_w", "sm_mhz", "temperature_c", "utilization", "memory_mib", "power_limit_w")
    found: Dict[str, Any] = dict(zip(names, (number(part) for part in parts)))
    try:
        mask: Optional[int] = int(parts[-1], 16)
    except ValueError:
        mask = None
    found["index"] = int(parts[0])
    found["throttled"] = None if mask is None else [name for bit, name in THROTTLES.items() if mask & bit]
    return found


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


def first_of(metrics: Dict[str, float], names: Sequence[str]) -> Optional[float]:
    return next((metrics[name] for name in names if name in metrics), None)


class Watch:
    """Samples once a second from `start` to `stop`, in threads of its own; what cannot be read is left out.

    :param nvidia_smi: the program, or None on a host without.
    :param read_metrics: gives the engine's metrics by name (`engine.metrics.parse`), or None where there are none.
    """

    def __init__(
        self, nvidia_smi: Optional[str], read_metrics: Optional[Callable[[], Optional[Dict[str, float]]]]
    ) -> None:
        self.gpus: List[Dict[str, Any]] = []
        self.queue: List[Dict[str, Any]] = []
        self._nvidia_smi, self._read_metrics = nvidia_smi, read_metrics
        self._process: Optional["subprocess.Popen[str]"] = None
        self._ended = threading.Event()
        self._threads: List[threading.Thread] = []

    def __enter__(self) -> "Watch":
        works = [self._gpus] if self._nvidia_smi else []
        works += [self._queue] if self._read_metrics else []
        self._threads = [threading.Thread(target=work, daemon=True) for work in works]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._ended.set()
        process = self._process
        if process is not None:
            process.kill()
        for thread in self._threads:
            thread.join(5)

    def _gpus(self) -> None:
        for reasons in REASONS:
            query = "--query-gpu=" + ",".join((*FIELDS, reasons))
            command = [str(self._nvidia_smi), query, "--format=csv,noheader,nounits", "--loop-ms=1000"]
            try:
                process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            except OSError:
                return
            self._process = process
            with process.stdout or io.StringIO() as lines:
                for line in lines:
                    sample = parse_gpu_line(line)
                    if sample:
                        self.gpus.append(dict(sample, at=time.monotonic()))
                    if self._ended.is_set():
                        break
            process.kill()
            process.wait()
            if self.gpus or self._ended.is_set():
                return

    def _queue(self) -> None:
        while self._read_metrics and not self._ended.wait(INTERVAL_S):
            found = self._read_metrics()
            if found is None:
                continue
            running, waiting = first_of(found, RUNNING), first_of(found, WAITING)
            if running is not None or waiting is not None:
                self.queue.append({"at": time.monotonic(), "running": running, "waiting": waiting})
