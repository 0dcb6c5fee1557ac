#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: deployment_facts
short_description: What dsdeploy has deployed on a host, and whether it runs and answers
version_added: 1.0.0
author:
  - The dsdeploy developers (@dsdeploy)
description:
  - Reads the deployment records of a host and adds the live state of each service, and whether its endpoint answers.
  - A file that is not a record is skipped with a warning.
  - No API key is read or sent.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.facts
  - dsdeploy.llm.supervisor
options:
  path:
    description: Directory of the records.
    type: path
    default: /etc/dsdeploy/deployments
  engine:
    description: Return the records of this engine alone.
    type: str
  health:
    description: Whether to ask each endpoint for its health.
    type: bool
    default: true
  health_timeout:
    description: How long an endpoint may take to answer, in seconds.
    type: int
    default: 3
seealso:
  - module: dsdeploy.llm.chat_probe
  - module: dsdeploy.llm.service_log
"""

EXAMPLES = r"""
- name: What is deployed here?
  dsdeploy.llm.deployment_facts:

- name: Does llama.cpp run?
  dsdeploy.llm.deployment_facts:
    engine: llama_cpp
    health: false
  register: found
  failed_when: found.deployments | selectattr('state.active', 'eq', 'running') | length == 0
"""

RETURN = r"""
deployments:
  description: One entry for each record, sorted by engine.
  returned: always
  type: list
  elements: dict
  contains:
    engine:
      description: Name of the engine.
      type: str
    version:
      description: Version of the engine.
      type: str
    model:
      description: Name of the served model.
      type: str
    endpoint:
      description: Base URL.
      type: str
    api:
      description: V(openai) or V(ollama).
      type: str
    api_key_file:
      description: File on the host with the API key, or V(null).
      type: str
    answer_max_tokens:
      description: Longest answer that it was verified with, in tokens.
      type: int
    health_path:
      description: Path that answers 2xx once the model is served.
      type: str
    device:
      description: Whether it computes on the GPUs, V(gpu) or V(cpu).
      type: str
    user:
      description: System user that it runs as.
      type: str
    service:
      description: C(name), C(manager) and C(log) of the service.
      type: dict
    dirs:
      description: Directories and files that belong to the deployment and go with it.
      type: list
      elements: str
    file:
      description: The record's file.
      type: str
    state:
      description:
        - State of the service, in the shape that M(dsdeploy.llm.service_log) describes.
        - V(null) where its manager could not be asked; a warning says why.
      type: dict
    stopped_on_purpose:
      description: Whether the service does not run and is not to start with the host either, as after C(dsdeploy down).
      type: bool
    ready:
      description:
        - Whether the service runs, or is starting, and its health path answers now.
        - V(null) where it was not asked, such as one that was stopped on purpose.
      type: bool
    ready_detail:
      description: Why it is not ready, in one line, else V(null).
      type: str
ansible_facts:
  description: The same list as a fact.
  returned: always
  type: dict
  contains:
    dsdeploy_deployments:
      description: As RV(deployments).
      type: list
      elements: dict
"""

from typing import Any, Dict, Optional, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.chat import Endpoint, ProbeError, health
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.deployments import DIRECTORY, read_records
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.state import (
    SUPERVISOR_CONFIG,
    SUPERVISORCTL,
    ServiceError,
    has_process,
    service_state,
    starts_with_host,
)


def readiness(record: Dict[str, Any], state: Optional[Dict[str, Any]], timeout: float) -> Tuple[bool, Optional[str]]:
    """(ready, why not) of a deployment now."""
    # The host is asked for itself, mostly over loopback, where no certificate's name is right; no secret is sent.
    endpoint = Endpoint(record["endpoint"], validate_certs=False)
    try:
        health(endpoint, record["health_path"], timeout)
    except ProbeError as exc:
        if exc.status not in (401, 403):  # one that wants a key answers
            return False, str(exc)
    if state and not has_process(state):
        return (
            False,
            f"{record['endpoint']} answers, but the service is {state['active']}: another program has its port",
        )
    return True, None


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            path=dict(type="path", default=DIRECTORY),
            engine=dict(type="str"),
            health=dict(type="bool", default=True),
            health_timeout=dict(type="int", default=3),
            supervisor_config=dict(type="path", default=SUPERVISOR_CONFIG),
            supervisorctl=dict(type="path", default=SUPERVISORCTL),
        ),
        supports_check_mode=True,
    )
    params = module.params
    deployments = []
    records, problems = read_records(params["path"])
    for problem in problems:
        module.warn(problem)
    for record in records:
        if params["engine"] and record["engine"] != params["engine"]:
            continue
        service = record["service"]
        state = ready = detail = None
        on_purpose = False
        try:
            state = service_state(
                service["name"], service["manager"], params["supervisor_config"], params["supervisorctl"]
            )
            if state["active"] in ("stopped", "failed"):
                on_purpose = not starts_with_host(service["name"], service["manager"], params["supervisor_config"])
        except ServiceError as exc:
            module.warn(f"{record['engine']}: the state of service {service['name']} is not known: {exc}")
        if params["health"] and not on_purpose:
            ready, detail = readiness(record, state, params["health_timeout"])
        found = {"state": state, "stopped_on_purpose": on_purpose, "ready": ready, "ready_detail": detail}
        deployments.append(dict(record, **found))
    module.exit_json(changed=False, deployments=deployments, ansible_facts={"dsdeploy_deployments": deployments})


if __name__ == "__main__":
    main()
