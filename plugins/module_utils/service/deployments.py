# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployment records: what role `service` writes for every engine, as CONTRIBUTING.md describes them."""

from __future__ import annotations

import glob
import json
import os
import re
from typing import Any, Dict, List, NamedTuple, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.chat import HEALTH_PATHS, Endpoint
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import write_durably
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.begun import is_removable
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.state import check_name

UNREADABLE_HINT = (
    "`dsdeploy up` of that engine writes it anew. If the engine is not wanted any more, stop its service and remove it."
)
_PATHS = ("dirs", "left", "write_paths")
MOST_BYTES = 1024 * 1024  # of a record
MANAGERS = ("systemd", "supervisor")
DEVICES = ("gpu", "cpu")
# What a record is of: what an engine speaks, or the gateway before the engines.
APIS = (*HEALTH_PATHS, "gateway")


class Unreadable(NamedTuple):
    """A file among the records that is none, and why."""

    file: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file} is not a deployment record: {self.reason}"


def read_records(directory: str = "") -> Tuple[List[Dict[str, Any]], List[Unreadable]]:
    """The records of a host, sorted by engine, each with its `file`; and what lies there and cannot be read.

    A directory that is not there holds none: the host is bare.
    """
    records, problems = [], []
    for path in sorted(glob.glob(os.path.join(glob.escape(directory or places.RECORDS), "*.json"))):
        try:
            records.append(dict(parse_record(foreign.read_text(path, MOST_BYTES)), file=path))
        except OSError as exc:
            problems.append(Unreadable(path, exc.strerror or "not readable"))
        except ValueError as exc:
            problems.append(Unreadable(path, str(exc)))
    return sorted(records, key=lambda record: record["engine"]), problems


def dump(record: Dict[str, Any]) -> str:
    """The text of a record's file."""
    return json.dumps(record, indent=4, sort_keys=True, ensure_ascii=False) + "\n"


def rank_of(record: Dict[str, Any]) -> int:
    """Which rank of a gang the deployment is on this host; 0, which has an API, of one that is alone."""
    return int((record.get("gang") or {}).get("rank") or 0)


def _check_gang(value: Any) -> None:
    """ValueError for what is not a gang's place: ``{hosts: [name by rank], rank, ...}``."""
    if value is None:
        return
    good = isinstance(value, dict) and isinstance(value.get("hosts"), list)
    good = good and all(isinstance(host, str) for host in value["hosts"]) and foreign.is_whole(value.get("rank"))
    if not good or not 0 <= value["rank"] < len(value["hosts"]):
        raise ValueError("'gang' does not say which rank of which hosts this is")


_MEASURED = ("weights", "kv", "kv_tokens")
# A start takes as long as the one before, more or less.
_ALIKE = 0.2


def _check_measured(value: Any) -> None:
    """ValueError for what is not what `engine/figures.py` makes."""
    if value is None:
        return
    good = isinstance(value, dict) and isinstance(value.get("source"), str)
    if good:
        numbers = [value[key] for key in (*_MEASURED, "ready_s") if key in value]
        good = all(foreign.is_whole(number) and number >= 0 for number in numbers)
        good = good and isinstance(value.get("since"), (str, type(None)))
    if not good:
        raise ValueError("'measured' is not what an engine was seen to take")


def typed(record: Dict[str, Any]) -> Dict[str, Any]:
    """A record of a role with numbers as numbers and texts as texts, whatever Jinja has made of them.

    Before ansible-core 2.19 a template of a number is a text, and with jinja2_native a text of digits a number.
    """
    found: Dict[str, Any] = {key: str(record[key]) for key in ("version", "model") if foreign.is_whole(record.get(key))}
    streams = record.get("streams")
    if isinstance(streams, str) and streams.isdigit():
        found["streams"] = int(streams)
    if record.get("self_signed") in ("True", "False"):
        found["self_signed"] = record["self_signed"] == "True"
    return dict(record, **found)


def kept_measured(before: Dict[str, Any], record: Dict[str, Any]) -> Dict[str, Any]:
    """What a new record takes over of what the engine was seen to take: all of it, where it serves the same still."""
    alike = all(before.get(key) == record.get(key) for key in ("engine", "version", "model", "model_path"))
    return {"measured": before["measured"]} if alike and before.get("measured") else {}


def note_measured(engine: str, value: Dict[str, Any]) -> bool:
    """Keeps in the record of an engine what it was seen to take; whether that changed it.

    Nothing is written where there is no record, or one that cannot be read.
    """
    path = os.path.join(places.RECORDS, "%s.json" % engine)
    try:
        with open(path, encoding="utf-8") as handle:
            text = handle.read()
        parse_record(text)
        record = foreign.loads(text)
    except (OSError, ValueError):
        return False
    before = record.get("measured") or {}
    ready, new = before.get("ready_s"), value.get("ready_s")
    alike = new is None or (ready is not None and abs(new - ready) <= _ALIKE * ready)
    if alike and all(before.get(key) == value.get(key) for key in _MEASURED):
        return False
    write_durably(path, dump(dict(record, measured=value)), 0o644)
    return True


def parse_record(text: str) -> Dict[str, Any]:
    """The record in a JSON text. Filled in where missing: `health_path`, `dirs`, `device`, `user`, `service.log`.

    Raises ValueError, one line, for what is not a record. Keys that are not known are kept.
    """
    try:
        record = foreign.loads(text)
    except ValueError as exc:
        raise ValueError(f"not JSON: {exc}") from None
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    for key in ("engine", "endpoint", "api"):
        if not isinstance(record.get(key), str) or not record[key]:
            raise ValueError(f"'{key}' is missing or not a text")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", record["engine"]):
        raise ValueError("'engine' is not the name of an engine")
    service = record.get("service")
    if not isinstance(service, dict) or not isinstance(service.get("name"), str):
        raise ValueError("'service' is missing or has no name")
    if record["api"] not in APIS:
        raise ValueError(f"'api' is '{record['api']}', not one of {', '.join(APIS)}")
    if service.get("manager") not in MANAGERS:
        raise ValueError(f"'service.manager' is '{service.get('manager')}', not one of {', '.join(MANAGERS)}")
    health_path = record.get("health_path") or HEALTH_PATHS.get(record["api"], "/health")
    if not isinstance(health_path, str) or not health_path.startswith("/"):
        raise ValueError(f"'health_path' is '{health_path}', not a path that starts with /")
    for key in _PATHS:
        paths = record.get(key) or []
        # What is to be removed one day: neither the root nor a way out of what it names.
        if not isinstance(paths, list) or not all(is_removable(path) for path in paths):
            raise ValueError(f"'{key}' is not a list of absolute paths")
    for key in ("state_dir", "environment_file", "api_key_file", "releases"):
        if record.get(key) is not None and not is_removable(record[key]):
            raise ValueError(f"'{key}' is not an absolute path")
    for key in ("user", "version", "model"):
        if record.get(key) is not None and not isinstance(record[key], str):
            raise ValueError(f"'{key}' is not a text")
    if record.get("streams") is not None and not (foreign.is_whole(record["streams"]) and record["streams"] > 0):
        raise ValueError("'streams' is not a number of requests")
    most = record.get("answer_max_tokens")
    if most is not None and (not foreign.is_whole(most) or most < 1):
        raise ValueError("'answer_max_tokens' is not a number of tokens")
    if service.get("log") is not None and not is_removable(service["log"]):
        raise ValueError("'service.log' is not an absolute path")
    _check_measured(record.get("measured"))
    _check_gang(record.get("gang"))
    store = record.get("store", {"directory": "/-", "state_file": "/-"})
    if not isinstance(store, dict) or not all(is_removable(store.get(key)) for key in ("directory", "state_file")):
        raise ValueError("'store' does not name a directory and a state_file, absolute paths")
    dirs = record.get("dirs") or []
    try:
        check_name(service["name"])
        Endpoint(record["endpoint"])
    except (Failure, ValueError) as exc:
        raise ValueError(str(exc)) from None
    device = record.get("device") or "gpu"
    if device not in DEVICES:
        raise ValueError(f"'device' is '{device}', not one of {', '.join(DEVICES)}")
    more = dict(health_path=health_path, dirs=dirs, device=device, user=record.get("user") or service["name"])
    return dict(record, service=dict({"log": None}, **service), **more)
