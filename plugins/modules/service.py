# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# An action plugin of the same name keeps what the definition holds out of logs and results.
"""A service as it is wanted, under systemd or supervisor: one call for all that belongs to it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service
short_description: A service as it is wanted, under systemd or supervisor
version_added: 1.0.0
description:
  - Makes what belongs to a service and brings it into a state, in one call. Its user, its directories, its environment
    and API key in files that root alone reads, its unit or its program of supervisor, its deployment record.
  - What is there is compared with what is wanted, and only what differs is changed. A running service is restarted once
    when what it was started with differs, which it notes itself at every start.
  - An engine on the GPUs stops the others that hold them (O(stop_others)), with a warning that names them.
  - A unit, a program, a user, a directory or a supervisord that is not dsdeploy's is refused by name.
  - V(state=absent) takes away what was made, and nothing else. RV(left) says what stays, and why.
  - Starting does not wait until the service answers; M(dsdeploy.llm.chat_probe) does.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Of files with secrets the path is shown, not the content.
  idempotent:
    support: full
options:
  state:
    description:
      - V(started) also starts it with the host (supervisor has no part in the host's start).
      - V(stopped) also keeps it stopped at the next start of the host.
      - V(restored) starts it as it was when it last answered (O(keep_before)).
      - V(absent) removes it. With its last program supervisor goes, too.
    type: str
    choices: [started, stopped, restored, absent]
    default: started
  definition:
    description:
      - What the service is. V(stopped), V(restored) and V(absent) need no more than its name.
        The rest is read from its record.
      - Values of its environment are kept out of results and logs.
    type: dict
    required: true
    suboptions:
      name:
        description: Name of the systemd unit or supervisor program.
        type: str
        required: true
      user:
        description:
          - System user that it runs as, with a group of the same name, made when it is missing. Its name by default.
          - Root, an account that people log in with, or the one that the run came by are refused.
        type: str
      description:
        description: One line for people.
        type: str
      exec:
        description: The command, one word an element, the first an absolute path. Nothing in it is expanded.
        type: list
        elements: str
        default: []
      environment:
        description: Environment variables. E(HOME) is its own directory.
        type: dict
        default: {}
      environment_file:
        description: File for its environment and the API key, for root alone. In C(/etc/dsdeploy) by default.
        type: path
      api_key_variable:
        description: Environment variable by which it takes the API key.
        type: str
      health_url:
        description:
          - URL that answers once it is ready. With it, systemd's C(started) means ready.
          - The record's endpoint and health path by default.
        type: str
      start_timeout:
        description: Seconds after which a start counts as hung and begins anew.
        type: int
        default: 120
      stop_timeout:
        description: Seconds after which a stop becomes a kill.
        type: int
        default: 30
      kill_mode:
        description:
          - Who is asked to end at a stop, all its processes or, V(mixed), the first one alone, which ends the others.
        type: str
        choices: [control-group, mixed]
        default: control-group
      restart_delay:
        description: Seconds before the first restart after a crash.
        type: int
        default: 2
      restart_max_delay:
        description: >-
          Seconds before further restarts at most (systemd from 254). Supervisor adds a second each time, without end.
        type: int
        default: 60
      success_exit_status:
        description: Exit codes and signals besides the usual that count as a clean end.
        type: list
        elements: str
        default: []
      nofile:
        description: Open files at most.
        type: int
        default: 65536
      memlock:
        description: Locked memory at most, in bytes, or V(infinity).
        type: str
        default: infinity
      hardening:
        description: Whether systemd confines it. Containers that forbid mount namespaces need V(false).
        type: bool
        default: true
      needs:
        description:
          - What it needs beside its own files, from which its confinement is excepted.
          - V(gpu) are NVIDIA's devices, also told by O(definition.record). V(jit) is code that it makes while it runs.
            V(network) are connections to or from other hosts.
        type: list
        elements: str
        choices: [gpu, jit, network]
        default: []
      read_only_paths:
        description: Paths that it reads, such as its model. Home directories are hidden otherwise.
        type: list
        elements: path
        default: []
      write_paths:
        description:
          - Directories that it writes to, besides its own. They become its user's, with all in them.
          - One that belongs to another user is refused.
        type: list
        elements: path
        default: []
      revision:
        description: What else must restart it when it changes, such as the engine's version.
        type: str
        default: ""
      record:
        description:
          - The deployment record's engine, version, model, endpoint, api, device, health_path and dirs.
          - Without it there is no record.
        type: dict
        default: {}
  api_key:
    description: API key. Kept in files that root alone can read.
    type: str
  manager:
    description: What runs it. V(auto) is systemd where that runs, else supervisor.
    type: str
    choices: [auto, systemd, supervisor]
    default: auto
  stop_others:
    description:
      - Which other deployments are stopped first. V(gpu), where it computes on the GPUs, those that do so too.
    type: str
    choices: [gpu, all, none]
    default: gpu
  data_dir:
    description: Its own directory is made in this one, by its name.
    type: path
    default: /var/lib/dsdeploy
  install_dir:
    description: Directory for the programs that start it, and for supervisor where this host has none of ours yet.
    type: path
    default: /opt/dsdeploy
  log_dir:
    description: Directory of its log, under supervisor.
    type: path
    default: /var/log/dsdeploy
  supervisor_version:
    description: Version of supervisor that is wanted where it runs the service; any by default.
    type: str
    default: "*"
  log_max_mib:
    description: Size at which a log under supervisor is rotated, in MiB.
    type: int
    default: 50
  log_backups:
    description: Rotated logs to keep under supervisor.
    type: int
    default: 3
  keep_before:
    description: Whether what it is now is kept where it answers, for V(state=restored).
    type: bool
    default: false
  made_directories:
    description:
      - Directories that this run has made for programs and models. They are dsdeploy's. Empty, they go with the
        last service.
    type: list
    elements: str
    default: []
  models_that_go:
    description: Names of models that are removed after this, and so are not among RV(left).
    type: list
    elements: str
    default: []
  answer_max_tokens:
    description: Longest answer that the deployment is verified with, in tokens, for its record.
    type: int
    default: 2048
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: Run a server
  dsdeploy.llm.service:
    definition:
      name: hello
      exec: [/usr/bin/python3, -m, http.server, "8000", --bind, 127.0.0.1]
      health_url: http://127.0.0.1:8000/

- name: Remove it
  dsdeploy.llm.service:
    state: absent
    definition:
      name: hello
"""

RETURN = r"""
changes:
  description: What was changed, or would be in check mode, one line each.
  returned: success
  type: list
  elements: str
  sample: [change /etc/systemd/system/hello.service, restart hello]
actions:
  description: What the manager was told, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [restart]
left:
  description: What stays behind, and why, one line each.
  returned: success
  type: list
  elements: str
restored:
  description: Whether there was something to go back to.
  returned: success
  type: bool
needs_supervisor:
  description:
    - The C(path) and C(version) of a supervisor that has to be installed first, or V(null). Nothing was changed then,
      outside check mode.
  returned: success
  type: dict
state:
  description: State of the service afterwards, or before in check mode, as M(dsdeploy.llm.service_log) describes it.
  returned: success
  type: dict
manager:
  description: V(systemd) or V(supervisor).
  returned: success
  type: str
log:
  description: File that it logs to, or V(null) for the journal.
  returned: success
  type: str
hint:
  description: What to do next.
  returned: failure
  type: str
error_kind:
  description: V(usage) for a definition that is wrong, V(preflight) or V(service).
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.users import came_by
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.apply import Service
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.definition import SPEC
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.others import CHOICES


def arguments() -> dict:
    return {
        "state": {"type": "str", "choices": ["started", "stopped", "restored", "absent"], "default": "started"},
        # As one text, from the action plugin: its values are no secrets one by one, and are not to be told either.
        "definition": {"type": "dict", "required": True, "options": SPEC, "no_log": True},
        "api_key": {"type": "str", "no_log": True},
        "manager": {"type": "str", "choices": ["auto", "systemd", "supervisor"], "default": "auto"},
        "stop_others": {"type": "str", "choices": list(CHOICES), "default": "gpu"},
        "data_dir": {"type": "path", "default": "/var/lib/dsdeploy"},
        "install_dir": {"type": "path", "default": "/opt/dsdeploy"},
        "log_dir": {"type": "path", "default": "/var/log/dsdeploy"},
        "supervisor_version": {"type": "str", "default": "*"},
        "log_max_mib": {"type": "int", "default": 50},
        "log_backups": {"type": "int", "default": 3},
        "keep_before": {"type": "bool", "default": False},
        "made_directories": {"type": "list", "elements": "str", "default": []},
        "models_that_go": {"type": "list", "elements": "str", "default": []},
        "answer_max_tokens": {"type": "int", "default": 2048, "no_log": False},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=arguments(), supports_check_mode=True)
    shown = dict(module.params, definition={"name": module.params["definition"]["name"]}, api_key=None)
    invocation = {"module_args": shown}
    try:
        service = Service(module.params, module.check_mode, came_by())
        do = {"started": service.start, "stopped": service.stop, "restored": service.restore, "absent": service.remove}[
            module.params["state"]
        ]
        state = do()
    except Failure as failure:
        module.fail_json(invocation=invocation, **failure.fields())
    except OSError as error:
        # What is made and removed are files: the disk is full, or read only.
        reason = "%s: %s" % (error.filename or "a file", error.strerror)
        module.fail_json(msg="%s: %s" % (service.name, reason), error_kind="preflight", invocation=invocation)
    for warning in [*service.warnings, *("left on the host: " + what for what in service.left)]:
        module.warn(warning)
    module.exit_json(
        changed=bool(service.desired.changes),
        changes=service.desired.changes,
        diff=service.desired.diffs,
        actions=service.actions,
        left=service.left,
        restored=service.restored,
        needs_supervisor=service.needs_supervisor,
        state=state,
        manager=service.manager_name,
        log=service.log_file(),
        invocation=invocation,
    )


if __name__ == "__main__":
    main()
