# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a service is to be: the one dict that module `service` takes, checked. Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from typing import Any, Dict

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import api_key as api_keys
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

NAME = r"[A-Za-z0-9_][A-Za-z0-9_.@-]*"
# useradd(8), as Debian and the RHEL family both take it.
USER = r"[a-z_][a-z0-9_-]{0,31}"
VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# Options of module `service`, as its argument spec: type and default.
SPEC: Dict[str, Dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "user": {"type": "str"},
    "description": {"type": "str"},
    "exec": {"type": "list", "elements": "str", "default": []},
    "environment": {"type": "dict", "default": {}},
    "environment_file": {"type": "path"},
    "api_key_variable": {"type": "str", "no_log": False},
    "health_url": {"type": "str"},
    "start_timeout": {"type": "int", "default": 120},
    "stop_timeout": {"type": "int", "default": 30},
    "kill_mode": {"type": "str", "choices": ["control-group", "mixed"], "default": "control-group"},
    "restart_delay": {"type": "int", "default": 2},
    "restart_max_delay": {"type": "int", "default": 60},
    "success_exit_status": {"type": "list", "elements": "str", "default": []},
    "nofile": {"type": "int", "default": 65536},
    "memlock": {"type": "str", "default": "infinity"},
    "hardening": {"type": "bool", "default": True},
    "needs": {"type": "list", "elements": "str", "choices": ["gpu", "jit", "network"], "default": []},
    "read_only_paths": {"type": "list", "elements": "path", "default": []},
    "write_paths": {"type": "list", "elements": "path", "default": []},
    "revision": {"type": "str", "default": ""},
    "record": {"type": "dict", "default": {}},
}
# What does not make another service of it: a change is written and needs no restart.
_NOT_RUNNING = (
    "name",
    "description",
    "record",
    "health_url",
    "start_timeout",
    "stop_timeout",
    "restart_delay",
    "restart_max_delay",
    "success_exit_status",
    "read_only_paths",
)


def _check(condition: Any, what: str, rule: str) -> None:
    if not condition:
        raise Failure("service: %s %s" % (what, rule), error_kind="usage")


def _path(value: str, what: str) -> None:
    _check(
        value.startswith("/") and not _CONTROL.search(value), what, "is not an absolute path on one line: %r" % value
    )


def check_name(name: str) -> str:
    """The name itself; Failure for one that the managers would take as an option, a path or a pattern."""
    if not re.fullmatch(NAME, name) or ".." in name:
        raise Failure("service: '%s' is not a service's name" % " ".join(name.split())[:80], error_kind="usage")
    return name


def checked(given: Dict[str, Any], data_dir: str, api_key: str = "") -> Dict[str, Any]:
    """The definition with what follows from it filled in: `user`, `description`, `state_dir`, `environment_file`,
    `health_url`. The secrets are in it under `secrets`.

    :raises Failure: one line; never with the value of a secret or of an environment variable.
    """
    new = dict(given)
    name = check_name(new["name"])
    new["user"] = new.get("user") or name
    _check(re.fullmatch(USER, new["user"]), "user", "is not a user's name: %r" % new["user"])
    new["state_dir"] = "%s/%s" % (data_dir.rstrip("/"), name)
    new["environment_file"] = new.get("environment_file") or "%s/%s.env" % (places.CONFIG, name)
    new["description"] = new.get("description") or name
    _check(not _CONTROL.search(new["description"]), "description", "has a line break or another control character")
    _check(new["exec"], "exec", "is empty")
    _check(new["exec"][0].startswith("/"), "exec", "does not begin with the absolute path of a program")
    for number, word in enumerate(new["exec"]):
        _check(not _CONTROL.search(word), "word %d of exec" % number, "has a line break or another control character")
    _path(new["state_dir"], "data_dir")
    _path(new["environment_file"], "environment_file")
    for key in ("read_only_paths", "write_paths"):
        for path in new[key]:
            _path(path, key)
    _check(re.fullmatch(r"infinity|[0-9]+", new["memlock"]), "memlock", "is neither a number of bytes nor infinity")
    for status in new["success_exit_status"]:
        _check(re.fullmatch(r"[A-Z0-9+_-]+", status), "success_exit_status", "has %r" % status)
    for key, least in (("start_timeout", 1), ("stop_timeout", 1), ("restart_delay", 0), ("nofile", 1)):
        _check(new[key] >= least, key, "is %d, less than %d" % (new[key], least))
    environment = {"HOME": new["state_dir"]}
    for variable, value in new["environment"].items():
        environment[variable] = str(value)
    new["secrets"] = {}
    if api_key:
        _check(new.get("api_key_variable"), "api_key", "needs api_key_variable")
        wrong = api_keys.problem(api_key)
        _check(not wrong, wrong, "")
        new["secrets"] = {new["api_key_variable"]: api_key}
    for variable, value in dict(environment, **new["secrets"]).items():
        _check(re.fullmatch(VARIABLE, variable), "environment", "has the name %r" % variable)
        what = "the API key" if variable in new["secrets"] else "environment variable %s" % variable
        _check(not _CONTROL.search(value), what, "has a line break or another control character")
    new["environment"] = environment
    record = new["record"]
    # Of a gang only the first rank has an API.
    if not new.get("health_url") and record and not (record.get("gang") or {}).get("rank"):
        new["health_url"] = "%s%s" % (record.get("endpoint", ""), record.get("health_path", ""))
    return new


def revision(definition: Dict[str, Any], more: str, salt: bytes) -> str:
    """What a service that was started with this definition notes: 64 hex digits.

    It stands in files that everybody reads and depends on the API key: without the salt, which root alone reads, the
    key cannot be looked for.

    :param more: what else it is started with: the settings of its unit.
    """
    running = {key: value for key, value in definition.items() if key not in _NOT_RUNNING}
    text = json.dumps([running, more], sort_keys=True)
    return hmac.new(salt, text.encode("utf-8"), hashlib.sha256).hexdigest()
