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
  - A file that is not a record fails it (O(strict)), as the engine that it was of may run.
  - No API key is read or sent without O(live).
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.reads
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
  strict:
    description:
      - Whether a file that is not a record is a failure, which returns the other records all the same.
      - It is skipped with a warning otherwise, and where O(engine) names another one than the file.
    type: bool
    default: true
  health:
    description: Whether to ask each endpoint for its health.
    type: bool
    default: true
  live:
    description:
      - Whether to look at the host, too. How busy its GPUs and its engines are, and the last error of each log.
      - Where an engine works on requests, it takes a second and a half to see how fast.
      - The API key of an engine whose metrics ask for it is sent to a server of the service's own user alone.
    type: bool
    default: false
  begun:
    description:
      - Whether to return RV(begun), too, which root alone can read.
    type: bool
    default: false
  health_timeout:
    description: How long an endpoint may take to answer, in seconds.
    type: int
    default: 3
  via:
    description:
      - How RV(deployments[].ask) leads to an engine. V(auto) is through the gateway where others reach it so.
      - V(gateway) fails where there is none before the engine.
    type: str
    choices: [auto, gateway, engine]
    default: auto
seealso:
  - module: dsdeploy.llm.chat_probe
  - module: dsdeploy.llm.deployment_report
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
      description: V(openai) or V(ollama); V(gateway) for the gateway before the engines.
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
    public_endpoint:
      description: Base URL for others than the host, through the gateway, or V(null).
      type: str
    fingerprint:
      description: SHA-256 of the gateway's certificate, where others reach it so, or V(null).
      type: str
    ask:
      description:
        - Where the host itself asks it (O(via)). C(endpoint), C(health_path), C(api_key_file), C(metrics_path) and
          C(service) of what answers there.
      type: dict
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
      description:
        - Why it is not ready, in one line, else V(null).
        - Of a gateway that is ready it may be which replicas get no requests, and why.
      type: str
begun:
  description:
    - Deployments that a run has begun without coming to their record, which are not among RV(deployments).
    - C(engine), C(user), C(releases), and of its service C(name), C(manager) and C(log).
  returned: with O(begun)
  type: list
  elements: dict
unreadable:
  description: Files that are no records.
  returned: always
  type: list
  elements: dict
  contains:
    file:
      description: Path of the file.
      type: str
    reason:
      description: What is wrong with it, in one line.
      type: str
look:
  description: What host and deployments do, in the shape of docs/status.schema.json.
  returned: with O(live)
  type: dict
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

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway.runtime import Runtime, lacking
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.deployed import (
    begun_deployments,
    deployed,
    refuse_unreadable,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.look import look_once


def name_lacking(module: AnsibleModule, deployments: list) -> None:
    """Say of a gateway that is ready which replicas on other hosts get nothing from it."""
    for found in deployments:
        if found["api"] != "gateway" or not found["ready"]:
            continue
        try:
            said = lacking(Runtime(str(found.get("state_dir"))).servers())
        except Failure as failure:
            module.warn(str(failure))
            continue
        told = "; ".join("%s gets nothing from here: %s" % one for one in sorted(said.items()))
        found["ready_detail"] = told or None


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            path=dict(type="path", default=places.RECORDS),
            engine=dict(type="str"),
            strict=dict(type="bool", default=True),
            health=dict(type="bool", default=True),
            live=dict(type="bool", default=False),
            begun=dict(type="bool", default=False),
            health_timeout=dict(type="int", default=3),
            via=dict(type="str", choices=["auto", "gateway", "engine"], default="auto"),
            supervisor_config=dict(type="path", default=places.SUPERVISOR_CONFIG),
        ),
        supports_check_mode=True,
    )
    params = module.params
    result, problems = deployed(module, params["health"], params["health_timeout"], params["via"])
    name_lacking(module, result["deployments"])
    if params["live"]:
        result["look"] = look_once(params["engine"], params["path"], params["supervisor_config"])
    if params["begun"]:
        try:
            result["begun"] = begun_deployments(result["deployments"], params["engine"])
        except Failure as failure:
            module.fail_json(**failure.fields())
    refuse_unreadable(module, problems, result, params["strict"])
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
