# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a deployment runs and answers now, and whether it is the deployment that does."""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple
from urllib.parse import urlsplit

from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.chat import Endpoint, EngineFailure, health
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import sockets
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.users import account, named
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.deployments import rank_of
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.state import (
    has_process,
    service_state,
    starts_with_host,
)


def stranger(record: Dict[str, Any]) -> Optional[str]:
    """Who else than the service's user gets what is sent to the endpoint, in one line, or None."""
    parts = urlsplit(record["endpoint"])
    found = account(record["user"])
    tables = sockets.read()
    try:
        addresses = sockets.addresses(parts.hostname or "", parts.port or 0)
    except OSError:
        return None  # asking it will say so
    for address in addresses:
        for uid in sorted(sockets.strangers(tables, address, parts.port or 0, found.uid if found else -1)):
            who = named(uid) or "uid %d" % uid
            return "port %s belongs to user %s, not to the service's user %s" % (parts.port, who, record["user"])
    return None


def readiness(record: Dict[str, Any], state: Optional[Dict[str, Any]], timeout: float) -> Tuple[bool, Optional[str]]:
    """(ready, why not) of a deployment now. The further ranks of a gang have no API: they are as their service is."""
    if rank_of(record):
        runs = state is not None and has_process(state)
        return runs, None if runs else "the service is %s" % (state["active"] if state else "not known")
    taken = stranger(record)
    if taken:
        return False, taken
    # The host is asked for itself, mostly over loopback, where no certificate's name is right; no secret is sent.
    endpoint = Endpoint(record["endpoint"], validate_certs=False)
    try:
        health(endpoint, record["health_path"], timeout)
    except EngineFailure as exc:
        if state and state["restarting"]:
            return False, "the service dies, and is started again: %s" % state["detail"]
        if exc.status not in (401, 403):  # one that wants a key answers
            return False, str(exc)
    if state and not has_process(state):
        return (
            False,
            f"{record['endpoint']} answers, but the service is {state['active']}: another program has its port",
        )
    return True, None


def look(record: Dict[str, Any], ask: bool, timeout: float, supervisor_config: str) -> Dict[str, Any]:
    """`{state, stopped_on_purpose, ready, ready_detail, problem}` of a deployment now, as module `deployment_facts`
    describes them; `problem`: why its manager could not be asked, else None. `ask`: whether its endpoint is asked."""
    service = record["service"]
    found: Dict[str, Any] = {"state": None, "stopped_on_purpose": False, "ready": None, "ready_detail": None}
    problem = None
    try:
        found["state"] = service_state(service["name"], service["manager"], supervisor_config)
        if found["state"]["active"] in ("stopped", "failed"):
            starts = starts_with_host(service["name"], service["manager"], supervisor_config)
            found["stopped_on_purpose"] = not starts
    except Failure as exc:
        problem = str(exc)
    if ask and not found["stopped_on_purpose"]:
        found["ready"], found["ready_detail"] = readiness(record, found["state"], timeout)
    return dict(found, problem=problem)
