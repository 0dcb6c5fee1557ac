# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployment records: what role `service` writes for every engine, as CONTRIBUTING.md describes them."""

from __future__ import annotations

import glob
import json
import os
from typing import Any, Dict, List, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.chat import HEALTH_PATHS, Endpoint
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.state import ServiceError, check_name

DIRECTORY = places.RECORDS
MANAGERS = ("systemd", "supervisor")
DEVICES = ("gpu", "cpu")


def parse_record(text: str) -> Dict[str, Any]:
    """The record in a JSON text. Filled in where missing: `health_path`, `dirs`, `device`, `user`, `service.log`.

    Raises ValueError, one line, for what is not a record. Keys that are not known are kept.
    """
    try:
        record = json.loads(text)
    except ValueError as exc:
        raise ValueError(f"not JSON: {exc}") from None
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    for key in ("engine", "endpoint", "api"):
        if not isinstance(record.get(key), str) or not record[key]:
            raise ValueError(f"'{key}' is missing or not a text")
    service = record.get("service")
    if not isinstance(service, dict) or not isinstance(service.get("name"), str):
        raise ValueError("'service' is missing or has no name")
    if record["api"] not in HEALTH_PATHS:
        raise ValueError(f"'api' is '{record['api']}', not one of {', '.join(HEALTH_PATHS)}")
    if service.get("manager") not in MANAGERS:
        raise ValueError(f"'service.manager' is '{service.get('manager')}', not one of {', '.join(MANAGERS)}")
    health_path = record.get("health_path") or HEALTH_PATHS[record["api"]]
    if not isinstance(health_path, str) or not health_path.startswith("/"):
        raise ValueError(f"'health_path' is '{health_path}', not a path that starts with /")
    dirs = record.get("dirs") or []
    if not isinstance(dirs, list) or not all(isinstance(path, str) and path.startswith("/") for path in dirs):
        raise ValueError("'dirs' is not a list of absolute paths")
    try:
        check_name(service["name"])
        Endpoint(record["endpoint"])
    except (ServiceError, ValueError) as exc:
        raise ValueError(str(exc)) from None
    device = record.get("device") or "gpu"
    if device not in DEVICES:
        raise ValueError(f"'device' is '{device}', not one of {', '.join(DEVICES)}")
    more = dict(health_path=health_path, dirs=dirs, device=device, user=record.get("user") or service["name"])
    return dict(record, service=dict({"log": None}, **service), **more)


def read_records(directory: str = DIRECTORY) -> Tuple[List[Dict[str, Any]], List[str]]:
    """The records below a directory by the engine's name, each with its `file`, and what cannot be read, a line each.

    A directory that is not there holds none: the host is bare.
    """
    records, problems = [], []
    for path in sorted(glob.glob(os.path.join(glob.escape(directory), "*.json"))):
        try:
            if not os.path.isfile(path):
                raise ValueError("not a file")
            with open(path, encoding="utf-8") as handle:
                records.append(dict(parse_record(handle.read()), file=path))
        except OSError as exc:
            problems.append(f"{path}: {exc.strerror}; skipped")
        except ValueError as exc:  # UnicodeDecodeError is one
            problems.append(f"{path} is not a deployment record: {exc}; skipped")
    return sorted(records, key=lambda record: record["engine"]), problems
