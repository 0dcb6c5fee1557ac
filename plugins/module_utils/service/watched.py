# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The service of an engine that is waited for or asked: whether it lives, works, and is the one that listens."""

from __future__ import annotations

import pwd
import time
from typing import Any, Callable, Dict, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.causes import Cause, cause
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.chat import Endpoint, EngineFailure, wait_healthy
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.waiting import Patience, Sighting, doing
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import processes, sockets
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.state import (
    Watch,
    has_process,
    service_log,
    service_state,
)

LOG_LINES = 40
# A traceback of each of eight ranks stands between the cause and the end.
CAUSE_LINES = 600
# s between two looks at the log and the processes: a journal's costs a program.
LOOK_S = 2.0
# s until supervisor tells the process of a service that has just been started (its startsecs is 5).
PID_S = 10.0


class WatchedService:
    """One service during one wait. `service` is `{name, manager, log}`; `warn` takes a line for the user."""

    def __init__(
        self,
        service: Dict[str, Any],
        supervisor_config: str = "",
        warn: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.service, self.warn = service, warn
        self._supervisor_config = supervisor_config
        self._watch = Watch()
        self._answers = True  # False once the manager could not be asked; the wait then goes on without it
        self._patience: Optional[Patience] = None
        self._looked = 0.0
        self._explained = 0  # deaths whose cause was looked for
        self.doing = ""  # what the engine does, by its log

    @property
    def state(self) -> Optional[Dict[str, Any]]:
        """The last state that was seen, as `service_state` gives it."""
        return self._watch.last

    def check(self) -> None:
        """EngineFailure when the service is down; `retry` is set while it may come back by itself."""
        if not self._answers:
            return
        name = self.service["name"]
        try:
            state = service_state(name, self.service["manager"], self._supervisor_config)
        except Failure as exc:
            self._answers = False
            self.warn(f"The state of service {name} is not known: {exc}")
            return
        hopeless = self._watch.see(state, time.monotonic())
        if hopeless and state["active"] == "absent":
            raise EngineFailure(f"{name}: {hopeless}", "Deploy it first, or correct service.name and service.manager.")
        if hopeless:
            found = self._cause()
            hint = "The engine's log says why. If the port answers all the same, another program has taken it."
            raise EngineFailure(f"{name}: {hopeless}" + (found.line and f": {found.line}"), found.hint or hint)
        if self._watch.deaths > self._explained:
            # Another start that ends the same way would take the minutes of this one.
            self._explained = self._watch.deaths
            found = self._cause()
            if found.final:
                raise EngineFailure(f"{name}: the engine ended: {found.line}", found.hint)
        if not has_process(state):
            raise EngineFailure(f"{name}: the service is {state['detail']}", retry=True)

    def give_up(self, idle_s: float) -> Optional[str]:
        """Why waiting for it is pointless, in a few words; None while it works, or has not yet been idle for `idle_s`.

        To be called again and again, after `check`.
        """
        now = time.monotonic()
        if self._patience is None:
            self._patience = Patience(idle_s, now)
        elif now - self._looked < min(LOOK_S, idle_s / 4):
            return None
        self._looked = now
        pid = (self.state or {}).get("pid")
        work = processes.work_of(pid) if pid else None
        try:
            lines = service_log(self.service["name"], self.service["manager"], self.service.get("log"), 5)
        except Failure:
            lines = []
        self.doing = doing(lines)
        return self._patience.see(
            Sighting(now, work and work.cpu_s, work and work.read_bytes, lines[-1] if lines else None)
        )

    def trust(self, address: str, port: int) -> None:
        """EngineFailure where another user than the service's gets a connection to this address: no secret is sent."""
        uid, name = self._uid(), self.service["name"]
        tables = sockets.read()
        if uid is None:
            raise EngineFailure(f"{name} has no process: the API key was not sent to port {port}", "Its log says more.")
        if not sockets.answering(tables, address, port):
            raise EngineFailure(
                f"nothing listens on port {port} any more: the API key was not sent", "Its log says more."
            )
        others = sockets.strangers(tables, address, port, uid)
        if others:
            raise EngineFailure(
                f"port {port} is held by user {', '.join(map(_user, sorted(others)))}, {name} runs as {_user(uid)}: "
                "the API key was not sent",
                "Another program has taken the engine's port: end it, then start the engine again.",
            )

    def _uid(self) -> Optional[int]:
        """The user of the service's main process."""
        deadline = time.monotonic() + PID_S
        while True:
            pid = (self.state or {}).get("pid")
            uid = processes.uid_of(pid) if pid else None
            if uid is not None or time.monotonic() >= deadline or not self._answers:
                return uid
            time.sleep(0.25 if self.state else 0)
            self.check()

    def _cause(self) -> Cause:
        """Why it ended, by its log; an empty one where that does not tell."""
        service = self.service
        try:
            lines = service_log(service["name"], service["manager"], service.get("log"), CAUSE_LINES)
        except Failure:
            lines = []
        return cause(lines) or Cause("")

    def log_tail(self, count: int = LOG_LINES) -> List[str]:
        return log_tail(self.service, count)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def wait_for(
    endpoint: Endpoint,
    path: str,
    timeout: float,
    service: Optional[Dict[str, Any]],
    supervisor_config: str = "",
    on_wait: Optional[Callable[[float, float, str], None]] = None,
) -> None:
    """Wait until `path` answers.

    :param timeout: s; with a service s in which it does nothing.
    :param service: `{name, manager, log}`; None: not watched.
    Raises Failure with the cause and the end of the log.
    """
    watched = WatchedService(service, supervisor_config) if service else None
    give_up = (lambda: watched.give_up(timeout)) if watched else None
    try:
        wait_healthy(endpoint, path, timeout, watched.check if watched else None, on_wait, give_up)
    except EngineFailure as error:
        raise Failure(str(error), error.hint, "verify", log_tail(service)) from error


def log_tail(service: Optional[Dict[str, Any]], count: int = LOG_LINES) -> List[str]:
    """The last lines of a service's log; none without a service."""
    if not service:
        return []
    try:
        return service_log(service["name"], service["manager"], service.get("log"), count)
    except Failure as error:
        return ["(no log: %s)" % error]
