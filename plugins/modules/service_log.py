#!/usr/bin/python
# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: service_log
short_description: State and last log lines of a service under systemd or supervisor
version_added: 1.0.0
author:
  - The dsdeploy developers (@dsdeploy)
description:
  - Returns the state of a service in the same words for systemd and supervisor, and the last lines that it logged.
  - Lines are returned without terminal colours, and of a progress bar only its last state.
  - What the service prints is returned as it is. An engine that prints its own secrets shows them here too.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
  - dsdeploy.llm.attributes.reads
  - dsdeploy.llm.supervisor
options:
  name:
    description: Name of the systemd unit or of the supervisor program.
    type: str
    required: true
  manager:
    description: What runs the service.
    type: str
    choices: [systemd, supervisor]
    default: systemd
  log:
    description:
      - File that the service writes. Required with O(manager=supervisor).
      - With O(manager=systemd) the journal is read when no file is given.
    type: path
  lines:
    description: Number of lines to return. At most 1 MiB of a file is read, from its end.
    type: int
    default: 50
seealso:
  - module: dsdeploy.llm.chat_probe
  - module: dsdeploy.llm.deployment_facts
"""

EXAMPLES = r"""
- name: Why does the engine not start?
  dsdeploy.llm.service_log:
    name: dsdeploy-llama_cpp
    lines: 20
  register: llama_cpp_log

- name: The same on a host without systemd
  dsdeploy.llm.service_log:
    name: llama_cpp
    manager: supervisor
    log: /var/log/dsdeploy/llama_cpp.log
  register: llama_cpp_log
"""

RETURN = r"""
lines:
  description: The last lines of the log, oldest first. Empty for a service that has not logged or does not exist.
  returned: always
  type: list
  elements: str
  sample:
    - "2026-11-23T19:22:13+00:00 gpu1 llama-server[811]: srv  init: model loaded"
state:
  description: State of the service now.
  returned: always
  type: dict
  contains:
    active:
      description: V(running), V(starting), V(stopped), V(failed) or V(absent).
      type: str
    restarting:
      description: The process has died and the manager is about to start it again.
      type: bool
    restarts:
      description:
        - How often systemd restarted the service by itself since it was last started.
        - V(null) for supervisor, which does not count.
      type: int
    pid:
      description: Process id of the main process, or V(null).
      type: int
    since:
      description: When the service entered this state, UTC, ISO 8601, or V(null) where the manager does not say.
      type: str
    detail:
      description: The manager's own words.
      type: str
  sample:
    active: failed
    restarting: false
    restarts: 5
    pid: null
    since: "2026-11-23T19:22:13Z"
    detail: failed (failed), exit-code, exit status 3
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.state import (
    service_log,
    service_state,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            name=dict(type="str", required=True),
            manager=dict(type="str", choices=["systemd", "supervisor"], default="systemd"),
            log=dict(type="path"),
            lines=dict(type="int", default=50),
            supervisor_config=dict(type="path", default=places.SUPERVISOR_CONFIG),
        ),
        supports_check_mode=True,
    )
    params = module.params
    if params["lines"] < 0:
        module.fail_json(msg=f"lines: {params['lines']} is negative", error_kind="usage")
    try:
        state = service_state(params["name"], params["manager"], params["supervisor_config"])
        lines = []
        if state["active"] != "absent":
            lines = service_log(params["name"], params["manager"], params["log"], params["lines"])
    except Failure as exc:
        module.fail_json(msg=str(exc), hint="Run as root: the managers and their logs are root's.")
    module.exit_json(changed=False, state=state, lines=lines)


if __name__ == "__main__":
    main()
