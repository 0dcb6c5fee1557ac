# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a long module tells how far it is, while it runs.

The module's half: where the environment variable DSDEPLOY_PROGRESS_FILE names a file, Progress keeps one JSON object
there, replaced as a whole at most twice a second:

    {"what": "merge", "done": 12300000000, "total": 404000000000, "unit": "B", "rate": 1.2e9, "eta_s": 326,
     "started": 1760000000.0, "updated": 1760000010.0, "pid": 4711}

`total` and `eta_s` are null where they are not known. `unit` is B for bytes, s for a wait, else any noun. `rate` is
units a second: of bytes over the last ten seconds or so, of anything else since the stage began, because such units
differ too much from each other (a step of a CUDA build takes from 0.1 to 60 s). Where the variable is not set, every
call returns at once.

The other half, which sets the variable, polls the file and shows it, is plugins/plugin_utils/progress_action.py; any
module becomes one with progress by a three-line action plugin of its name. The dsdeploy command reads the same numbers
from its output lines.
"""

from __future__ import annotations

import collections
import json
import os
import time
from typing import Callable, Deque, Dict, Optional, Tuple

ENVIRONMENT = "DSDEPLOY_PROGRESS_FILE"
INTERVAL_S = 0.5
WINDOW_S = 10.0

Report = Dict[str, object]


def progress_file() -> Optional[str]:
    """The file that the controller reads the progress from; None where nobody does."""
    path = os.environ.get(ENVIRONMENT)
    return os.path.expanduser(path) if path else None


class Progress:
    """One job's progress: ``with Progress("merge", total) as progress: progress.update(done)``.

    `report`, where given, receives each object too: the dsdeploy command shows its own local jobs that way.
    """

    def __init__(
        self,
        what: str,
        total: Optional[int] = None,
        unit: str = "B",
        report: Optional[Callable[[Report], None]] = None,
    ) -> None:
        self._path = progress_file()
        self._report = report
        self._wanted = bool(self._path or report)
        self.unit = unit
        self._samples: Deque[Tuple[float, int]] = collections.deque()
        self._due = 0.0
        self.begin(what, total)

    def begin(self, what: str, total: Optional[int] = None, done: int = 0) -> None:
        """Start a (new) stage named `what`, with `done` of `total` done before."""
        self.what, self.total = what, total
        self.started = time.time()
        self._samples.clear()
        self.update(done, force=True)

    def update(self, done: int, force: bool = False) -> None:
        """`done` units are done. Cheap: writes at most every half second unless forced."""
        if not self._wanted:
            return
        now = time.monotonic()
        if now < self._due and not force:
            return
        self._due = now + INTERVAL_S
        rate = self._rate(now, done)
        left = None if self.total is None else self.total - done
        self._publish(
            {
                "what": self.what,
                "done": done,
                "total": self.total,
                "unit": self.unit,
                "rate": rate,
                "eta_s": round(left / rate) if left is not None and rate else None,
                "started": self.started,
                "updated": time.time(),
                "pid": os.getpid(),
            }
        )

    def _rate(self, now: float, done: int) -> float:
        if self.unit == "s":
            return 0.0  # of a wait: seconds pass at one a second
        if self.unit != "B" and len(self._samples) > 1:
            self._samples.pop()
        self._samples.append((now, done))
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW_S:
            self._samples.popleft()
        then, before = self._samples[0]
        return max(0.0, (done - before) / (now - then)) if now > then else 0.0

    def _publish(self, report: Report) -> None:
        if self._report is not None:
            self._report(report)
        if self._path is None:
            return
        temporary = self._path + ".new"
        try:
            with open(temporary, "w") as file:
                json.dump(report, file)
            os.replace(temporary, self._path)
        except OSError:
            self._path = None  # a job never fails for want of its progress line

    def close(self) -> None:
        """Remove the file."""
        if self._path is None:
            return
        try:
            os.unlink(self._path)
        except OSError:
            pass

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()
