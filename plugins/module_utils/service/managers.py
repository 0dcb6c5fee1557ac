# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start, restart, stop and forget a service: systemd and supervisor behind the same names."""

from __future__ import annotations

import glob
import os
import pwd
import re
import time
from typing import Any, Dict, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.process import run
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import launcher
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.state import (
    AUTOSTART,
    PROPERTIES,
    parse_systemctl,
    program_file,
    service_state,
    starts_with_host,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.supervisor import (
    ABNORMAL_TERMINATION,
    ALREADY_STARTED,
    BAD_NAME,
    NOT_RUNNING,
    SPAWN_ERROR,
    Daemon,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.texts import MARK

MOST_BYTES = 1024 * 1024  # of the file of a unit or a program
# s; a stop may take as long as the unit allows.
TIMEOUT, STOP_TIMEOUT = 60.0, 900.0
DAEMON_START = 15.0  # s; until a new supervisord listens, or an old one is gone
LEFT_WAIT = 10.0  # s; that workers may outlive the main process of a service that was stopped


def default_manager() -> str:
    """systemd where it runs (sd_booted(3)), else supervisor."""
    return "systemd" if os.path.isdir("/run/systemd/system") else "supervisor"


def plan(wanted: str, active: str, same: bool, enabled: bool, reload: bool) -> List[str]:
    """The actions that bring a service from a state to the wanted one, in order. Pure.

    :param wanted: started, stopped or absent.
    :param active: as `service_state` names it.
    :param same: whether what runs was started with what is wanted.
    :param enabled: whether it starts with the host.
    :param reload: whether the manager has not read the newest files.
    """
    actions = ["reload"] if reload else []
    alive = active in ("running", "starting")
    if wanted == "started":
        if not enabled:
            actions.append("enable")
        if not alive:
            actions.append("start")
        elif not same:
            actions.append("restart")
        return actions
    if alive:
        actions.append("stop")
    if enabled:
        actions.append("disable")
    return actions


def is_marked(path: str) -> bool:
    """Whether a file is one that makes a service ours."""
    try:
        return MARK.encode() in foreign.read_bytes(path, MOST_BYTES)
    except (OSError, ValueError):
        return False


def _require_ours(path: str, what: str) -> None:
    if "unit" in what and os.path.realpath(path) == os.devnull:
        raise Failure(
            "%s is masked: somebody wants it not to be started" % what,
            hint="systemctl unmask %s (with --runtime, where it was masked so), where that is not wanted any more."
            % what.split()[-1],
        )
    if os.path.lexists(path) and not is_marked(path):
        raise Failure(
            "%s is in the way: %s exists, and is not dsdeploy's" % (what, path),
            hint="Rename or remove it, if nobody needs it.",
        )


class Systemd:
    """One service under systemd."""

    def __init__(self, name: str) -> None:
        self.name, self.file = name, "%s/%s.service" % (places.UNITS, name)

    def systemctl(self, *arguments: str, timeout: float = TIMEOUT) -> str:
        done = run(["systemctl", *arguments], timeout, TZ="UTC")
        if done.rc == 0:
            return done.stdout
        said = " ".join((done.stderr or done.stdout).split()) or ("no answer within %.0f s" % timeout)
        raise Failure("systemctl %s: %s" % (" ".join(arguments), said[:400]), error_kind="service")

    def look(self) -> Dict[str, Any]:
        """`{state, enabled, reload, load, drop_ins}` now; `drop_ins`: files of others that change this unit, as
        `systemctl edit` and `set-property` write them. Failure for a unit of that name that is not ours."""
        _require_ours(self.file, "systemd's unit %s" % self.name)
        asked = PROPERTIES + ",NeedDaemonReload,UnitFileState,FragmentPath,DropInPaths"
        text = self.systemctl("show", "-p", asked, self.name)
        values = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
        fragment = values.get("FragmentPath", "")
        if fragment and os.path.realpath(fragment) != os.path.realpath(self.file):
            _require_ours(fragment, "systemd's unit %s" % self.name)
        return {
            "state": parse_systemctl(text),
            "enabled": values.get("UnitFileState") == "enabled",
            "reload": values.get("NeedDaemonReload") == "yes",
            "load": values.get("LoadState", ""),
            # Not those for all services, which a distribution may bring.
            "drop_ins": [
                path for path in values.get("DropInPaths", "").split() if "/%s.service.d/" % self.name in path
            ],
        }

    def version(self) -> int:
        """systemd's version; 0 where it does not say."""
        found = re.search(r"[0-9]+", self.systemctl("--version"))
        return int(found.group()) if found else 0

    def accept(self) -> None:
        """Let it read the unit that was written. Failure where it does not take it."""
        self.systemctl("daemon-reload")
        load = self.systemctl("show", "-p", "LoadState,LoadError", self.name)
        if "LoadState=loaded" not in load.split():
            checked = run(["systemd-analyze", "verify", self.file], TIMEOUT)
            said = " ".join((checked.stderr or load).split())[:400]
            raise Failure("systemd does not take the unit %s: %s" % (self.file, said), error_kind="service")

    def do(self, action: str) -> None:
        if action == "reload":
            self.systemctl("daemon-reload")
        elif action in ("enable", "disable"):
            self.systemctl(action, "--quiet", self.name)
        elif action == "stop":
            self.systemctl("stop", self.name, timeout=STOP_TIMEOUT)
            # One that was stopped while it started counts as failed for systemd, and is stopped as it was wanted.
            run(["systemctl", "reset-failed", self.name], TIMEOUT)
        else:
            # A unit is "started" once it answers, which takes minutes for a large model: not waited for here.
            self.systemctl("--no-block", action, self.name)

    def forget(self) -> None:
        """Its files are gone."""
        self.systemctl("daemon-reload")
        run(["systemctl", "reset-failed", self.name], TIMEOUT)


class Supervisor:
    """One service under supervisor; supervisord is started when it does not run."""

    def __init__(self, name: str, directory: str = "", user: str = "") -> None:
        """:param directory: of supervisor's own environment, needed to start it. `user`: that the service runs as."""
        self.name, self.directory, self.user = name, directory, user
        self.daemon = Daemon()
        self.file = program_file(name)

    def look(self) -> Dict[str, Any]:
        """`{state, enabled, reload}` now. Failure for a program or a daemon that is not ours."""
        _require_ours(self.file, "supervisor's program %s" % self.name)
        self.daemon.require_ours()
        state = service_state(self.name, "supervisor")
        there = os.path.exists(self.file)
        return {
            "state": state,
            "enabled": there and starts_with_host(self.name, "supervisor"),
            "reload": False,
            "drop_ins": [],
        }

    def accept(self) -> None:
        """Let it read the program that was written; a daemon that does not run reads it when it starts."""
        if self.daemon.pid() is not None:
            self.daemon.reread()

    def start_daemon(self) -> None:
        # Not with the environment of whoever ran this: what it starts would have it, too.
        clean = ["%s=%s" % pair for pair in sorted(launcher.inherited(os.environ).items())]
        daemon = [os.path.join(self.directory, "bin/supervisord"), "-c", self.daemon.config]
        started = run(["/usr/bin/env", "-i", *clean, *daemon], TIMEOUT)
        deadline = time.monotonic() + DAEMON_START
        while self.daemon.pid() is None:
            if started.rc or time.monotonic() > deadline:
                said = " ".join((started.stderr or started.stdout).split())[:400]
                raise Failure("supervisord does not start: %s" % (said or "it says nothing"), error_kind="service")
            time.sleep(0.1)

    def do(self, action: str) -> None:
        if action in ("enable", "reload"):
            return  # the program's file is written anew, with autostart on; `update` reads it
        if action == "disable":
            self.disable()
            return
        if self.daemon.pid() is None:
            if action == "stop":
                return
            self.start_daemon()
        if action == "stop":
            self.stop()
            return
        before = service_state(self.name, "supervisor")["pid"]
        self.update()
        now = service_state(self.name, "supervisor")
        if now["active"] in ("running", "starting") and (action == "start" or now["pid"] != before):
            return
        if action == "restart":
            self.stop()
        # It may not come up at once, or not at all: that is for the one who waits for an answer to find.
        passes = (ABNORMAL_TERMINATION, SPAWN_ERROR, ALREADY_STARTED)
        self.daemon.ask("startProcess", self.name, False, but=passes)

    def update(self) -> None:
        """Take what changed in its file: what is new is started, what changed started anew, what is gone forgotten."""
        news = self.daemon.reread()
        if self.name in news["changed"] + news["removed"]:
            self.stop()
            self.daemon.ask("removeProcessGroup", self.name, but=(BAD_NAME,))
        if self.name in news["changed"] + news["added"]:
            self.daemon.ask("addProcessGroup", self.name)

    def stop(self) -> None:
        """Stop it with all that it has started: supervisord waits for the main process alone."""
        self.daemon.ask("stopProcess", self.name, True, but=(NOT_RUNNING, BAD_NAME), timeout=STOP_TIMEOUT)
        end_group(launcher.read_note(launcher.note_path(places.RUN, self.name, "group")), self.user or self.name)

    def disable(self) -> None:
        with open(self.file, encoding="utf-8") as handle:
            text = handle.read()
        temporary = self.file + ".new"
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
            handle.write(text.replace(AUTOSTART, "autostart=false"))
        os.replace(temporary, self.file)

    def is_last(self) -> bool:
        """Whether supervisord has no other program than this one."""
        programs = glob.glob(os.path.join(glob.escape(os.path.dirname(self.file)), "*.conf"))
        return set(programs) <= {self.file}

    def shut_down(self) -> None:
        if self.daemon.pid() is None:
            return
        self.daemon.ask("shutdown")
        deadline = time.monotonic() + DAEMON_START
        while self.daemon.pid() is not None:
            if time.monotonic() > deadline:
                raise Failure("supervisord does not stop", error_kind="service")
            time.sleep(0.1)

    def forget(self) -> None:
        """Its files are gone."""
        if self.daemon.pid() is not None:
            self.update()


def end_group(group: str, user: str, wait: Optional[float] = None) -> None:
    """Wait until nothing of a service's process group is left; after `wait` s kill what is.

    :param group: as the launcher notes it. What another user runs is never touched.
    """
    try:
        uid = pwd.getpwnam(user).pw_uid
    except KeyError:
        return  # it can have no process
    wait = LEFT_WAIT if wait is None else wait
    deadline = time.monotonic() + wait
    while group and launcher.members(group, uid):
        if time.monotonic() >= deadline + LEFT_WAIT:
            return
        if time.monotonic() >= deadline:
            launcher.kill(group, uid)
        time.sleep(0.1)
