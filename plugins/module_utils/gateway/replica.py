# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One replica behind the gateway that runs: drained before it is changed, taken back when it answers.

Source: HAProxy management guide, 9.3: `set server`, `show stat`. A reload forgets what was set so: the new worker
begins with what the health check sees.
"""

from __future__ import annotations

import time
from typing import Dict, List, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway.runtime import (
    UNTRUSTED,
    Runtime,
    lacking,
    servers_of,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

LOOK_EVERY = 0.2  # s
UNTRUSTED_WAIT = 5.0  # s; a certificate does not become the right one by waiting


class Replica:
    def __init__(self, runtime: Runtime, pool: str, name: str) -> None:
        self.runtime, self.pool, self.name = runtime, pool, name

    def _rows(self) -> List[Tuple[int, bool, Dict[str, object]]]:
        """(pid, whether it is an old worker, how it sees the replica) of every worker that knows it."""
        found = []
        for worker in self.runtime.workers() or []:
            for row in servers_of(self.runtime.ask("@!%d show stat" % worker.pid)):
                if row["pool"] == self.pool and row["name"] == self.name:
                    found.append((worker.pid, worker.old, row))
        return found

    def is_there(self) -> bool:
        return bool(self._rows())

    def is_drained(self) -> bool:
        return all(str(row["state"]).startswith(("DRAIN", "MAINT")) for _pid, old, row in self._rows() if not old)

    def _set(self, state: str) -> bool:
        """Whether a worker had to be told."""
        told = False
        for pid, _old, row in self._rows():
            drained = str(row["state"]).startswith(("DRAIN", "MAINT"))
            # What is down shows as such, drained or not: it is told again.
            if drained == (state == "drain") and not str(row["state"]).startswith("DOWN"):
                continue
            said = self.runtime.ask("@!%d set server %s/%s state %s" % (pid, self.pool, self.name, state)).strip()
            if said:
                raise Failure("the gateway does not take the state of %s: %s" % (self.name, said[:200]))
            told = True
        return told

    def drain(self, timeout: float) -> Tuple[bool, int]:
        """(whether it had to be told, requests that are still under way when the time is over)."""
        told = self._set("drain")
        deadline = time.monotonic() + timeout
        while True:
            rows = self._rows()
            left = sum(int(str(row["streams"])) for _pid, _old, row in rows)
            if not left or time.monotonic() >= deadline:
                return told, left
            time.sleep(LOOK_EVERY)

    def take_back(self, timeout: float) -> bool:
        """Whether it had to be told. Failure where the gateway itself does not see it answer in time."""
        told = self._set("ready")
        began = time.monotonic()
        while True:
            rows = [row for _pid, old, row in self._rows() if not old]
            states = [str(row["state"]) for row in rows]
            # "UP 1/3": it is about to be taken for down; "DOWN 1/2": about to be taken for up.
            if states and all(state == "UP" or state == "no check" for state in states):
                return told
            why = lacking(rows).get(self.name, "")
            untrusted = why.startswith(UNTRUSTED)
            if time.monotonic() - began >= (min(timeout, UNTRUSTED_WAIT) if untrusted else timeout):
                raise Failure(
                    "the gateway does not see %s answer: %s" % (self.name, why or ", ".join(states) or "not there"),
                    hint="A host that was installed anew has another certificate: "
                    "run `dsdeploy up` for all hosts of its replicas."
                    if untrusted
                    else "Can the gateway's host reach it? `dsdeploy status` says whether it answers on its own host.",
                    error_kind="verify",
                )
            time.sleep(LOOK_EVERY)
