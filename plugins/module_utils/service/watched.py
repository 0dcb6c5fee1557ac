# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for a server while its service is watched: one that keeps dying is told of at once, with its log."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.chat import Endpoint, ProbeError, wait_healthy
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.state import (
    Watch,
    has_process,
    service_log,
    service_state,
)

LOG_LINES = 40


def wait_for(
    endpoint: Endpoint,
    path: str,
    timeout: float,
    service: Optional[Dict[str, Any]],
    supervisor_config: str,
    on_wait: Optional[Callable[[float, float, str], None]] = None,
) -> None:
    """Wait until `path` answers.

    :param timeout: s.
    :param service: `{name, manager, log}`; None: not watched.
    :param supervisor_config: of the supervisord that is asked.
    Raises Failure with the cause and the end of the log.
    """
    watch = Watch()

    def check() -> None:
        assert service is not None
        try:
            state = service_state(service["name"], service["manager"], supervisor_config)
        except Failure:
            return  # what is not known of the manager is told by the server itself
        hopeless = watch.see(state, time.monotonic())
        if hopeless:
            raise ProbeError("%s: %s" % (service["name"], hopeless), "The engine's log says why.")
        if not has_process(state):
            raise ProbeError("%s: the service is %s" % (service["name"], state["detail"]), retry=True)

    try:
        wait_healthy(endpoint, path, timeout, check if service else None, on_wait)
    except ProbeError as error:
        raise Failure(str(error), error.hint, "verify", log_tail(service)) from error


def log_tail(service: Optional[Dict[str, Any]]) -> List[str]:
    """The last lines of a service's log; none without a service."""
    if not service:
        return []
    try:
        return service_log(service["name"], service["manager"], service.get("log"), LOG_LINES)
    except Failure as error:
        return ["(no log: %s)" % error]
