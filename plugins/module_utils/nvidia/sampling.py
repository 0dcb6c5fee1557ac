# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nvidia-smi that goes on printing: what GPUs do, once an interval, for the price of one program."""

from __future__ import annotations

import io
import re
import subprocess
import threading
import time
from typing import Any, Callable, Dict, Optional

FIELDS = (
    "index",
    "power.draw",
    "clocks.sm",
    "temperature.gpu",
    "utilization.gpu",
    "memory.used",
    "memory.total",
    "power.limit",
    "name",
)
NAMES = (
    "index",
    "power_w",
    "sm_mhz",
    "temperature_c",
    "utilization",
    "memory_mib",
    "memory_total_mib",
    "power_limit_w",
    "name",
)
# Its name before driver 535.
REASONS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")
THROTTLES = {
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}

Sample = Dict[str, Any]


def number(text: str) -> Optional[float]:
    """A number of nvidia-smi, which is never negative; None of "[N/A]" and its like, NaN among them."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < 1e9 else None


def parse_line(line: str) -> Optional[Sample]:
    """One line of ``nvidia-smi --query-gpu=FIELDS,REASONS --format=csv,noheader,nounits``; None of any other."""
    parts = [part.strip() for part in line.split(",")]
    if len(parts) != len(FIELDS) + 1 or not (parts[0].isascii() and parts[0].isdigit()):
        return None
    found: Sample = {name: number(part) for name, part in zip(NAMES, parts)}
    found["index"], found["name"] = int(parts[0]), parts[NAMES.index("name")]
    mask = int(parts[-1], 16) if re.fullmatch(r"0x[0-9a-fA-F]{1,16}", parts[-1]) else None
    found["throttled"] = None if mask is None else [name for bit, name in THROTTLES.items() if mask & bit]
    return found


class Sampler:
    """Calls `told` with each sample, ``at`` (time.monotonic(), s) among it, in a thread, from `start` to `stop`.

    What cannot be read is left out. The program ends with this process, however that ends: it then prints to nobody.
    """

    def __init__(self, nvidia_smi: str, told: Callable[[Sample], None], interval_s: float = 1.0) -> None:
        self._nvidia_smi, self._told, self._interval_s = nvidia_smi, told, interval_s
        self._process: Optional["subprocess.Popen[str]"] = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._process is not None:
            self._process.kill()
        self._thread.join(5)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come: it could not be started, or does not know what it is asked."""
        return not self._thread.is_alive()

    def _work(self) -> None:
        for reasons in REASONS:
            query = "--query-gpu=" + ",".join((*FIELDS, reasons))
            loop = "--loop-ms=%d" % round(self._interval_s * 1000)
            command = [self._nvidia_smi, query, "--format=csv,noheader,nounits", loop]
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    errors="replace",
                )
            except OSError:
                return
            self._process = process
            seen = False
            with process.stdout or io.StringIO() as lines:
                for line in lines:
                    if self._ended.is_set():
                        break
                    sample = parse_line(line)
                    if sample:
                        seen = True
                        self._told(dict(sample, at=time.monotonic()))
            process.kill()
            process.wait()
            if seen or self._ended.is_set():
                return
