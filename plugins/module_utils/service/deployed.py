# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is deployed on a host, for the modules that tell it."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Optional, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import owned
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.deployments import UNREADABLE_HINT, read_records
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.readiness import look
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.through_gateway import with_gateway


def deployed(
    module: Any, health: bool = True, health_timeout: int = 3, via: str = "auto"
) -> Tuple[Dict[str, Any], List[Any]]:
    """(`{deployments, unreadable, ansible_facts}`, files that are no records), by the module's parameters `path`,
    `engine` and `supervisor_config`. Ends the module where the gateway that is asked for is not there.

    :param health: whether each endpoint is asked, which may take `health_timeout` seconds to answer.
    :param via: how `ask` leads to an engine, see M(dsdeploy.llm.deployment_facts).
    """
    params = module.params
    deployments = []
    records, problems = read_records(params["path"])
    gateway = next((record for record in records if record["engine"] == "gateway"), {})
    for record in records:
        if params["engine"] and record["engine"] != params["engine"]:
            continue
        try:
            record = with_gateway(record, gateway, via)
        except Failure as failure:
            module.fail_json(**failure.fields())
        found = look(record, health, health_timeout, params["supervisor_config"])
        problem = found.pop("problem")
        if problem:
            module.warn(f"{record['engine']}: the state of service {record['service']['name']} is not known: {problem}")
        deployments.append(dict(record, **found))
    explain_gateway(deployments)
    result = {
        "deployments": deployments,
        "unreadable": [problem._asdict() for problem in problems],
        "ansible_facts": {"dsdeploy_deployments": deployments},
    }
    return result, problems


def explain_gateway(deployments: List[Dict[str, Any]]) -> None:
    """A gateway behind which all engines were stopped on purpose says itself no more than that it is busy."""
    engines = [found for found in deployments if found["api"] != "gateway"]
    for found in deployments:
        if found["api"] == "gateway" and found["ready"] is False and engines:
            if all(engine["stopped_on_purpose"] for engine in engines):
                names = ", ".join(engine["engine"] for engine in engines)
                found["ready_detail"] = "no engine runs behind it: %s, stopped on purpose" % names


def begun_deployments(deployments: List[Dict[str, Any]], engine: Optional[str] = None) -> List[Dict[str, Any]]:
    """What runs have begun without coming to a record, of one engine or all, in the shape of deployments.

    :raises Failure: the notes of what is ours cannot be read.
    """
    recorded = {deployment["service"]["name"] for deployment in deployments}
    return [
        {
            "engine": note["engine"],
            "user": note["user"],
            "service": {"name": name, "manager": note["manager"], "log": None},
            "releases": note.get("releases"),
            "install_dirs": note["install_dirs"],
        }
        for name, note in sorted(owned.load()["begun"].items())
        if name not in recorded and engine in (None, note["engine"])
    ]


def refuse_unreadable(module: Any, problems: List[Any], result: Dict[str, Any], strict: bool = True) -> None:
    """Ends the module, with `strict`, where a record cannot be read that may be of an engine which is asked for: nobody
    is to be told that there is none. Of the others it warns."""
    engine = module.params["engine"]
    own = [problem for problem in problems if engine in (None, os.path.basename(problem.file)[: -len(".json")])]
    if own and strict:
        message = "; ".join(str(problem) for problem in own)
        module.fail_json(msg=message, hint=UNREADABLE_HINT, error_kind="preflight", **result)
    for problem in problems:
        module.warn(f"{problem}; skipped")
