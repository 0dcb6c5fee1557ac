# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start, restart, stop or forget a service, the same under systemd and under supervisor."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_control
short_description: Start, restart, stop or forget a service, the same under systemd and supervisor
version_added: 1.0.0
description:
  - Brings a service into a state under the manager that the host has. Its files are written before.
  - Whether a running service has to be restarted is told by the service itself. At every start it notes the revision of
    the configuration that it starts with. So a run that was cut between writing the configuration and restarting is
    made good by the next one, and nothing is restarted without need.
  - Starting does not wait until the service answers; M(dsdeploy.llm.chat_probe) does.
extends_documentation_fragment:
  - dsdeploy.llm.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description: Name of the systemd unit (without C(.service)) or of the supervisor program.
    type: str
    required: true
  manager:
    description: The service manager.
    type: str
    choices: [systemd, supervisor]
    required: true
  state:
    description:
      - V(started) also starts it with the host (supervisor has no part in the host's start).
      - V(stopped) also keeps it stopped at the next start of the host.
      - V(absent) stops it and makes the manager forget it, once its files are gone. With its last program supervisord
        is shut down.
    type: str
    choices: [started, stopped, absent]
    required: true
  revision:
    description: Revision of the configuration. A running service of another revision is restarted.
    type: str
    default: ""
  revision_file:
    description: File in which the service notes its revision when it starts.
    type: path
  reason:
    description: Said as a warning where anything is done, or would be.
    type: str
    default: ""
  supervisor_config:
    description: Configuration file of supervisord.
    type: path
    default: /etc/dsdeploy/supervisor/supervisord.conf
  supervisorctl:
    description: The supervisorctl program. C(supervisord) lies beside it.
    type: path
    default: /opt/dsdeploy/supervisor/bin/supervisorctl
author:
  - The dsdeploy developers (@dsdeploy)
"""

EXAMPLES = r"""
- name: Start the engine
  dsdeploy.llm.service_control:
    name: dsdeploy-llama-cpp
    manager: systemd
    state: started
    revision: 3f2a
    revision_file: /var/lib/dsdeploy/dsdeploy-llama-cpp/.revision
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode.
  type: list
  elements: str
  returned: always
  sample: [restart]
last:
  description: Whether supervisord has no program left besides this one, for O(state=absent).
  type: bool
  returned: always
state:
  description: State of the service afterwards, or before in check mode.
  type: dict
  returned: always
"""

import glob
import os
import re
import signal
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.state import (
    AUTOSTART,
    ServiceError,
    program_file,
    service_state,
    starts_with_host,
)

# Seconds a new supervisord may take until it listens, or an old one until it is gone.
DAEMON_START = 15
# Seconds that workers may outlive the main process of a service that was stopped.
LEFT_WAIT = 10
# As role service writes them: the program's line, and the file in that directory that every start leaves.
DIRECTORY = "directory="
GROUP_FILE = ".group"


def plan(wanted: str, state: dict, started_with: str, revision: str, enabled: bool, reload: bool) -> list:
    """The actions that bring a service from `state` to `wanted`, in order. Pure.

    :param state: as `service_state` returns it.
    :param started_with: revision that the service last started with.
    :param enabled: whether it starts with the host.
    :param reload: whether the manager has not read the newest files.
    """
    actions = ["reload"] if reload else []
    alive = state["active"] in ("running", "starting")
    if wanted == "started":
        if not enabled:
            actions.append("enable")
        if not alive:
            actions.append("start")
        elif started_with != revision:
            actions.append("restart")
        return actions
    if alive:
        actions.append("stop")
    if enabled:
        actions.append("disable")
    return actions


class Systemd:
    """What a systemd host is asked for and told."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module, self.name = module, module.params["name"]

    def systemctl(self, *arguments: str) -> str:
        rc, out, err = self.module.run_command(["systemctl", *arguments])
        if rc:
            self.module.fail_json(
                msg="systemctl %s: %s" % (" ".join(arguments), (err or out).strip()), error_kind="service"
            )
        return out

    def needs_reload(self) -> bool:
        return self.systemctl("show", "-p", "NeedDaemonReload", "--value", self.name).strip() == "yes"

    def do(self, action: str) -> None:
        if action == "reload":
            self.systemctl("daemon-reload")
        elif action in ("enable", "disable"):
            self.systemctl(action, "--quiet", self.name)
        elif action == "stop":
            self.systemctl("stop", self.name)
        else:
            # A unit is "started" once it answers, which takes minutes for a large model: not waited for here.
            self.systemctl("--no-block", action, self.name)

    def is_last(self) -> bool:
        return False  # systemd has other work

    def forget(self) -> None:
        self.module.run_command(["systemctl", "reset-failed", self.name])


class Supervisor:
    """What supervisord is asked for and told; it is started when it does not run."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module, self.name = module, module.params["name"]
        self.ctl = [module.params["supervisorctl"], "-c", module.params["supervisor_config"]]
        self.program = program_file(self.name, self.ctl[2])

    def supervisorctl(self, *arguments: str) -> tuple[int, str]:
        rc, out, err = self.module.run_command(self.ctl + list(arguments))
        return rc, (out + err).strip()

    def state(self) -> dict:
        return service_state(self.name, "supervisor", self.ctl[2], self.ctl[0])

    def daemon_runs(self) -> bool:
        return os.path.exists(self.ctl[0]) and self.supervisorctl("pid")[0] == 0

    def is_last(self) -> bool:
        """Whether supervisord has no other program than this one."""
        programs = glob.glob(os.path.join(glob.escape(os.path.dirname(self.program)), "*.conf"))
        return set(programs) <= {self.program}

    def disable(self) -> None:
        with open(self.program, encoding="utf-8") as handle:
            text = handle.read()
        temporary = self.program + ".new"
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
            handle.write(text.replace(AUTOSTART, "autostart=false"))
        os.replace(temporary, self.program)

    def needs_reload(self) -> bool:
        return False  # told from the running process's revision; `update` below reads the files

    def start_daemon(self) -> None:
        daemon = os.path.join(os.path.dirname(self.ctl[0]), "supervisord")
        rc, out, err = self.module.run_command([daemon, "-c", self.ctl[2]])
        deadline = time.monotonic() + DAEMON_START
        while not self.daemon_runs():
            if rc or time.monotonic() > deadline:
                self.module.fail_json(msg="supervisord does not start: %s" % (err or out).strip(), error_kind="service")
            time.sleep(0.1)

    def do(self, action: str) -> None:
        if action == "enable":
            return  # role service writes the program's file anew, with autostart on
        if action == "disable":
            self.disable()
            return
        if action == "shutdown":
            self.shut_down()
            return
        if not self.daemon_runs():
            if action == "stop":
                return
            self.start_daemon()
        if action == "stop":
            self.stop()
            return
        if action in ("start", "restart"):
            # `update` restarts what changed and starts what is new; it leaves alone what runs or was stopped as it is.
            before = self.state()["pid"]
            self.supervisorctl("update", self.name)
            now = self.state()
            if now["active"] in ("running", "starting") and (action == "start" or now["pid"] != before):
                return
        rc, said = self.supervisorctl(action, self.name)
        # It may not come up at once, or not at all: that is for the one who waits for an answer to find.
        if rc and "ERROR (spawn error)" not in said and "ERROR (abnormal termination)" not in said:
            self.module.fail_json(msg="supervisorctl %s %s: %s" % (action, self.name, said), error_kind="service")

    def stop(self) -> None:
        """Stop it with all that it has started: supervisord waits for the main process alone."""
        rc, said = self.supervisorctl("stop", self.name)
        if rc:
            self.module.fail_json(msg="supervisorctl stop %s: %s" % (self.name, said), error_kind="service")
        end_group(self.group())

    def group(self) -> str:
        """What it noted at its start, its process group and session; empty where it noted nothing."""
        try:
            with open(self.program, encoding="utf-8") as handle:
                directory = next((line[len(DIRECTORY) :] for line in handle if line.startswith(DIRECTORY)), "")
            with open(os.path.join(directory.strip(), GROUP_FILE), encoding="utf-8") as handle:
                return handle.read().strip()
        except OSError:
            return ""

    def shut_down(self) -> None:
        self.supervisorctl("shutdown")
        deadline = time.monotonic() + DAEMON_START
        while self.daemon_runs():
            if time.monotonic() > deadline:
                self.module.fail_json(msg="supervisord does not end", error_kind="service")
            time.sleep(0.1)

    def forget(self) -> None:
        if self.daemon_runs():
            self.supervisorctl("update", self.name)


def group_members(group: str) -> list:
    """Process ids of a process group; ``group`` is its number and that of its session, "71 12"."""
    found = []
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, encoding="utf-8", errors="replace") as handle:
                pid, _name, rest = re.match(r"(\d+) \((.*)\) (.*)", handle.read(), re.S).groups()
        except (OSError, AttributeError):
            continue  # it has ended
        state, _parent, number, session = rest.split()[:4]
        if state != "Z" and "%s %s" % (number, session) == group:
            found.append(int(pid))
    return found


def end_group(group: str, wait: float = LEFT_WAIT) -> None:
    """Wait until nothing of a process group is left; after ``wait`` seconds kill what is."""
    deadline = time.monotonic() + wait
    while group and time.monotonic() < deadline + LEFT_WAIT:
        members = group_members(group)
        if not members:
            return
        if time.monotonic() >= deadline:
            for pid in members:
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass  # it has ended
        time.sleep(0.1)


def started_revision(path: str | None) -> str:
    try:
        with open(path or "", encoding="utf-8") as handle:
            return handle.read().strip()
    except OSError:
        return ""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "manager": {"type": "str", "choices": ["systemd", "supervisor"], "required": True},
            "state": {"type": "str", "choices": ["started", "stopped", "absent"], "required": True},
            "revision": {"type": "str", "default": ""},
            "revision_file": {"type": "path"},
            "reason": {"type": "str", "default": ""},
            "supervisor_config": {"type": "path", "default": places.SUPERVISOR_CONFIG},
            "supervisorctl": {"type": "path", "default": "/opt/dsdeploy/supervisor/bin/supervisorctl"},
        },
        supports_check_mode=True,
    )
    p = module.params
    manager = Systemd(module) if p["manager"] == "systemd" else Supervisor(module)

    def state() -> dict:
        return service_state(p["name"], p["manager"], p["supervisor_config"], p["supervisorctl"])

    try:
        before = state()
        there = before["active"] != "absent"
        actions = plan(
            p["state"],
            before,
            started_revision(p["revision_file"]),
            p["revision"],
            there and starts_with_host(p["name"], p["manager"], p["supervisor_config"]),
            p["manager"] == "systemd" and there and manager.needs_reload(),
        )
        last = p["state"] == "absent" and manager.is_last()
        if last and manager.daemon_runs():
            actions.append("shutdown")
        if module.check_mode:
            after = before
        else:
            for action in actions:
                manager.do(action)
            if p["state"] == "absent":
                manager.forget()
            after = state()
    except ServiceError as error:
        module.fail_json(msg=str(error), error_kind="service")
    if actions and p["reason"]:
        module.warn(p["reason"])
    wanted = "started" if p["state"] == "started" else "stopped"
    module.exit_json(
        changed=bool(actions),
        actions=actions,
        last=last,
        state=after,
        diff={"before": before["active"] + "\n", "after": (wanted if actions else before["active"]) + "\n"},
    )


if __name__ == "__main__":
    main()
