# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One look after the other at a host: its GPUs, and what its deployments do. Cheap enough for every two seconds.

What costs a program (the service's manager, a journal) is asked now and then, and at once when the engine's process is
gone; nvidia-smi goes on printing. The shape of a look is docs/status.schema.json; null is not known.
"""

from __future__ import annotations

import os
import re
import time
from datetime import datetime, timezone
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import api_key, gauges
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.causes import cause, second_hand
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.chat import Endpoint, EngineFailure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import one_line
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import memory, processes
from ansible_collections.dsdeploy.llm.plugins.module_utils.nvidia import gather, sampling
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.deployments import read_records
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.readiness import readiness
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.state import (
    has_process,
    service_log,
    starts_with_host,
    tail_file,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.watched import WatchedService

SCHEMA = 1
MANAGER_S = 10.0  # between two questions to the service's manager
JOURNAL_S = 30.0
LOG_LINES = 200
SAID = 160  # characters of an error
_STALE = 3  # intervals without a sample: what the GPU does is not known any more
_ERROR = re.compile(
    r"\b(?:ERROR|CRITICAL|FATAL|[A-Za-z_.]*(?:Error|Exception)(?=:)|[Ee]rror(?=:)|out of memory|Segmentation fault)\b"
)
_LEVEL = re.compile(r"\b(?:ERROR|CRITICAL|FATAL|WARNING|INFO|DEBUG)\b")


def last_words(lines: List[str]) -> Optional[str]:
    """What a service said last before it ended, in one line; not what its manager says of it, nor its start check."""
    said = [line for line in lines if line.strip() and not re.search(r" systemd\[1\]: |the engine died before", line)]
    return one_line(said[-1], SAID) if said else None


def _harmless(line: str) -> bool:
    """Whether a line itself says that it is a warning or less, as what vLLM writes of an error that it gets around."""
    level = _LEVEL.search(line)
    return level is not None and level.group() in ("WARNING", "INFO", "DEBUG")


def last_error(lines: List[str]) -> Optional[str]:
    """The last line of a log that tells of an error, in one line; None where none does. Of an engine that ended before
    it served, that is why, and not what its other processes say of it."""
    found = next((line for line in reversed(lines) if _ERROR.search(line) and not _harmless(line)), None)
    if found is not None and second_hand(found):
        why = cause(lines)
        found = why.line if why else found
    return None if found is None else one_line(found, SAID)


def uptime_s(since: Optional[str], now: float) -> Optional[int]:
    """s from `since` (UTC, ISO 8601) to `now` (time.time()); None where the host's clock was set back meanwhile."""
    if not since:
        return None
    try:
        began = datetime.strptime(since, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    passed = now - began.timestamp()
    return int(passed) if passed >= 0 else None


def key_of(record: Dict[str, Any]) -> Optional[str]:
    """The API key of a deployment; None where it has none, or this user may not read it."""
    try:
        return api_key.read(record["api_key_file"]) if record.get("api_key_file") else None
    except Failure:
        return None


class _Deployment:
    """What is remembered of one deployment between two looks."""

    def __init__(self, record: Dict[str, Any], supervisor_config: str) -> None:
        self.record = record
        self._supervisor_config = supervisor_config
        self._service = WatchedService(record["service"], supervisor_config)
        self._rates = gauges.Rates()
        self._asked = -MANAGER_S
        self._on_purpose = False
        self._log_seen: Optional[Tuple[int, int]] = None
        self._log_read = -JOURNAL_S
        self._error: Optional[str] = None
        self._died = False

    def look(self, timeout: float) -> Dict[str, Any]:
        record, now = self.record, time.monotonic()
        state = self._state(now)
        ready = detail = None
        if not self._on_purpose:
            ready, detail = readiness(record, state, timeout)
        up = state is not None and has_process(state)
        found = gauges.Gauges(None, None, None, None, None)
        if up and ready:
            found = self._gauges(timeout) or found
        rates = self._rates.see(found, time.monotonic())
        return {
            "engine": record["engine"],
            "version": record.get("version"),
            "model": record.get("model"),
            "endpoint": record["endpoint"],
            "device": record["device"],
            "active": state["active"] if state else None,
            "detail": state["detail"] if state else None,
            "stopped_on_purpose": self._on_purpose,
            "ready": ready,
            "ready_detail": detail,
            "uptime_s": uptime_s(state["since"], time.time()) if state and up else None,
            "running": found.running,
            "waiting": found.waiting,
            "kv_use": found.kv_use,
            "generated_s": rates["generated_s"],
            "prompted_s": rates["prompted_s"],
            "last_error": self._last_error(now, bool(state) and not up and not self._on_purpose),
        }

    def _state(self, now: float) -> Optional[Dict[str, Any]]:
        state = self._service.state
        alive = state is not None and has_process(state) and state["pid"] and processes.uid_of(state["pid"]) is not None
        if not alive or now - self._asked >= MANAGER_S:
            self._asked = now
            try:
                self._service.check()
            except EngineFailure:
                pass  # its state says so
            state = self._service.state
            self._on_purpose = False
            if state and state["active"] in ("stopped", "failed"):
                name, manager = self.record["service"]["name"], self.record["service"]["manager"]
                try:
                    self._on_purpose = not starts_with_host(name, manager, self._supervisor_config)
                except (Failure, OSError):
                    pass
        return state

    def _gauges(self, timeout: float) -> Optional[gauges.Gauges]:
        path = self.record.get("metrics_path")
        if not path:
            return None
        try:
            endpoint = Endpoint(self.record["endpoint"], key_of(self.record), validate_certs=False)
            endpoint.trust = self._service.trust
            status, _type, body = endpoint.get(path, timeout)
        except (EngineFailure, ValueError):
            return None
        return gauges.read(body.decode("utf-8", "replace")) if status == 200 else None

    def _last_error(self, now: float, died: bool) -> Optional[str]:
        service = self.record["service"]
        if died != self._died:
            self._died, self._log_seen, self._log_read = died, None, -JOURNAL_S

        def found(lines: List[str]) -> Optional[str]:
            return last_error(lines) or (last_words(lines) if died else None)

        try:
            if service.get("log"):
                seen = os.stat(service["log"])
                if (seen.st_size, seen.st_mtime_ns) != self._log_seen:
                    self._log_seen = (seen.st_size, seen.st_mtime_ns)
                    self._error = found(tail_file(service["log"], LOG_LINES, 64 * 1024))
            elif now - self._log_read >= JOURNAL_S:
                self._log_read = now
                self._error = found(service_log(service["name"], service["manager"], None, LOG_LINES))
        except (OSError, Failure):
            self._error = None
        return self._error


class Looker:
    """Looks at this host until `close`.

    :param interval_s: s between two looks; also the longest that an engine may take to answer, at least 1 s.
    :param engine: that engine's deployment alone.
    """

    def __init__(
        self, interval_s: float, engine: Optional[str] = None, path: str = "", supervisor_config: str = ""
    ) -> None:
        self._interval_s, self._engine = interval_s, engine
        self._path, self._supervisor_config = path, supervisor_config or places.SUPERVISOR_CONFIG
        self._deployments: Dict[str, _Deployment] = {}
        self._gpus: Dict[int, Dict[str, Any]] = {}
        self._began = time.monotonic()
        nvidia_smi = gather.find(None)
        self._sampler = None
        if nvidia_smi:
            self._sampler = sampling.Sampler(nvidia_smi, self._sampled, max(0.5, interval_s))
            self._sampler.start()

    def close(self) -> None:
        if self._sampler:
            self._sampler.stop()

    def _sampled(self, sample: Dict[str, Any]) -> None:
        self._gpus[sample["index"]] = sample

    def gpus_wait(self, timeout: float) -> None:
        """Return once there is a sample of the GPUs, where there are any, or `timeout` s are over."""
        deadline = time.monotonic() + timeout
        while self._sampler and not self._gpus and not self._sampler.ended and time.monotonic() < deadline:
            time.sleep(0.05)

    def take(self) -> Dict[str, Any]:
        """A look. Raises nothing: what cannot be had is null, or a line in ``problems``."""
        records, problems = read_records(self._path)
        timeout = max(1.0, min(3.0, self._interval_s))
        kept: Dict[str, _Deployment] = {}
        looks = []
        for record in records:
            if self._engine and record["engine"] != self._engine:
                continue
            known = self._deployments.get(record["engine"])
            if known is None or known.record != record:
                known = _Deployment(record, self._supervisor_config)
            kept[record["engine"]] = known
            looks.append(known.look(timeout))
        self._deployments = kept
        return {
            "schema": SCHEMA,
            "at": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "interval_s": self._interval_s,
            "load_1": round(os.getloadavg()[0], 2),
            "cpus": os.cpu_count(),
            "memory": _memory(),
            "gpus": self.gpus(),
            "deployments": looks,
            "problems": [one_line(str(problem), 200) for problem in problems],
        }

    def gpus(self) -> Optional[List[Dict[str, Any]]]:
        """What each GPU does; empty on a host without, None where nvidia-smi is there and says nothing."""
        if not self._sampler:
            return []
        oldest = time.monotonic() - max(5.0, _STALE * self._interval_s)
        fresh = [dict(sample) for _index, sample in sorted(self._gpus.items()) if sample["at"] >= oldest]
        for sample in fresh:
            del sample["at"]
        return fresh or None


ONCE_S = 1.5  # between the two readings that a rate needs: SGLang counts anew every 40 steps


def look_once(engine: Optional[str] = None, path: str = "", supervisor_config: str = "") -> Dict[str, Any]:
    """One look, with the rates of engines that work: one without a request is not waited for, it generates nothing."""
    looker = Looker(ONCE_S, engine, path, supervisor_config)
    try:
        look = looker.take()
        if any(found["running"] or found["waiting"] for found in look["deployments"]):
            time.sleep(ONCE_S)
            look = looker.take()
        looker.gpus_wait(ONCE_S)
        look["gpus"] = looker.gpus()
    finally:
        looker.close()
    for found in look["deployments"]:
        for rate in ("generated_s", "prompted_s"):
            if found["running"] == 0 and found[rate] is None:
                found[rate] = 0.0
    return look


def _memory() -> Dict[str, int]:
    total, left = memory.free()
    return {"total_bytes": total, "available_bytes": left}
