# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether engines compute: each that is ready is asked for one token. Section `answers` of look.py.

A health path answers also while the engine's workers hang in NCCL.
"""

from __future__ import annotations

import time
from typing import Any, Dict, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.reading import Place
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import api_key, gauges, metrics, ollama
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.chat import CHAT_PATHS, Endpoint, EngineFailure, ask
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.ollama_api import Api
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import one_line
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.deployments import rank_of, read_records
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.readiness import look
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.watched import WatchedService

TOKEN_TIMEOUT = 30.0  # s
HTTP_TIMEOUT = 5.0  # s
_PREEMPTED = ("num_preemptions_total", "num_preemptions", "num_retracted_requests_total")
_FINISHED = ("request_success_total", "request_success", "num_requests_total")
_FOR_EVER = 10 * 365 * 86400  # s; Ollama tells a model that it keeps for ever to end in centuries


def answers(place: Place) -> List[Dict[str, Any]]:
    """Of each engine that is ready `{engine, seconds, problem, unread, idle, waiting, preempted, finished}`.

    `seconds` until its token; None with why in `problem` (it did not answer), `unread` (it could not be asked) or
    `idle` (no model is loaded: the question would load it). `waiting`, `preempted`, `finished`: requests, by its
    metrics; None is not known.
    """
    found = []
    config = place.supervisor_config or places.SUPERVISOR_CONFIG
    for record in read_records(place.records or places.RECORDS)[0]:
        if (place.engine and record["engine"] != place.engine) or not place.health:
            continue
        if record["api"] not in CHAT_PATHS or rank_of(record):  # the gateway; a gang's further ranks have no API
            continue
        if look(record, True, HTTP_TIMEOUT, config)["ready"]:
            found.append(_asked(record, config))
    return found


def _asked(record: Dict[str, Any], config: str) -> Dict[str, Any]:
    told: Dict[str, Any] = dict.fromkeys(("seconds", "waiting", "preempted", "finished"))
    told.update(engine=record["engine"], problem="", unread="", idle="")
    try:
        key = api_key.read(record["api_key_file"]) if record.get("api_key_file") else None
    except Failure as error:
        return dict(told, unread=str(error))
    try:
        endpoint = Endpoint(record["endpoint"], key, validate_certs=False)
        endpoint.trust = WatchedService(record["service"], config).trust
        told.update(_figures(endpoint, record.get("metrics_path")))
        model: Optional[str] = None
        keep = None
        if record["api"] == "ollama":
            loaded = Api(record["endpoint"], HTTP_TIMEOUT).ps()
            if not loaded:
                return dict(told, idle="no model is loaded")
            model, keep = str(loaded[0]["name"]), left_s(loaded[0].get("expires_at"), time.time())
        started = time.monotonic()
        ask(endpoint, record["api"], "1", TOKEN_TIMEOUT, model, max_tokens=1, keep_alive_s=keep)
        return dict(told, seconds=time.monotonic() - started)
    except (Failure, ValueError, OSError) as error:
        return dict(told, problem=one_line(error, 160))


def left_s(expires: Any, now: float) -> Optional[int]:
    """s until Ollama unloads a model, so that a question does not change it; -1 for never, None for not told."""
    left = ollama.seconds_left({"expires_at": expires}, now)
    if left is None:
        return None
    return -1 if left > _FOR_EVER else max(1, int(left))


def _figures(endpoint: Endpoint, path: Any) -> Dict[str, Optional[float]]:
    if not isinstance(path, str) or not path:
        return {}
    try:
        status, _type, body = endpoint.get(path, HTTP_TIMEOUT)
    except EngineFailure:
        return {}
    if status != 200:
        return {}
    text = body.decode("utf-8", "replace")
    every = metrics.parse(text)
    return {
        "waiting": gauges.read(text).waiting,
        "preempted": next((every[name] for name in _PREEMPTED if name in every), None),
        "finished": next((every[name] for name in _FINISHED if name in every), None),
    }
