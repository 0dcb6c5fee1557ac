# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One service as it is wanted: what is there is looked at, and only what differs is changed. Module `service`."""

from __future__ import annotations

import glob
import json
import os
import re
import secrets
from typing import Any, Dict, List, Optional, Set

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign, locked, removing
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.desired import Desired
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import (
    begun,
    firewall,
    lock,
    owned,
    supervisor_place,
    users,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.access import barrier, hint_for, weak_hint, weak_ways
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.accounts import ensure_user, forget_user, remove_user
from ansible_collections.dsdeploy.llm.plugins.module_utils.model import parts
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import (
    confinement,
    deployments,
    launcher,
    others,
    previous,
    texts,
    wait_healthy,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.definition import check_name, checked, revision
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.managers import (
    MOST_BYTES,
    Supervisor,
    Systemd,
    default_manager,
    is_marked,
    plan,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.state import service_state

PROGRAMS = ("wait_healthy.py", "launcher.py")
# A word of a command line that names one of the programs that services are started with.
_NAME = r"/libexec/(?:wait_healthy|launcher)\.py"
_PROGRAM = re.compile(r"""\"(/[^"\n]*%s)"|'(/[^'\n]*%s)'|(?<![^\s=])(/[^\s"']*%s)""" % (_NAME, _NAME, _NAME))


def source_of(program: Any) -> str:
    """The text of a module of ours that is installed on the host as a program."""
    source = program.__spec__.loader.get_source(program.__name__)
    return source if isinstance(source, str) else source.decode("utf-8")  # Ansible's own loader gives bytes


class Service:
    """One run of module `service`.

    :ivar warnings: for people. `left`: what stays behind, and why, a line each. `actions`: what the manager was told.
    """

    def __init__(self, options: Dict[str, Any], check_mode: bool, connection: List[str]) -> None:
        """:param options: of the module. `connection`: names of the users that the run came by."""
        self.options, self.connection = options, connection
        self.lock = lock.seen()
        self.desired = Desired(check_mode, self.note_directory, self.require_lock)
        self.check_mode = check_mode
        self.warnings: List[str] = []
        self.left: List[str] = []
        self.actions: List[str] = []
        self.needs_supervisor: Optional[Dict[str, str]] = None
        self.restored = False
        self.name = check_name(options["definition"]["name"])
        self.record_before = self._record_before()
        self.begun = self._begun()
        manager = options["manager"]
        if manager == "auto":
            before = (self.record_before or {}).get("service", {}).get("manager") or self.begun.get("manager")
            manager = before if before and options["state"] != "started" else default_manager()
        self.manager_name = manager
        user = options["definition"].get("user") or (self.record_before or self.begun).get("user") or self.name
        self.user = user
        self.host = self._host()
        self.manager = (
            Systemd(self.name) if manager == "systemd" else Supervisor(self.name, self.host["supervisor"], user)
        )
        self.programs_before = programs_of(self.manager.file)

    def require_lock(self) -> None:
        """Failure where the host's lock is not what it was. Nobody tells this module that its run was killed: it would
        go on, after a stop that took minutes, and start what the next run has stopped meanwhile."""
        if lock.seen() != self.lock:
            raise Failure(
                "%s: this run no longer has the host's lock, and leaves the rest undone" % self.name,
                hint="It was ended, or another run has taken the host. Run it again.",
            )

    def note_directory(self, path: str) -> None:
        """A directory was made, and is ours: it goes when nothing is in it any more."""
        fixed = (places.CONFIG, places.RUN)
        if not any(path == own or path.startswith(own + "/") or own.startswith(path + "/") for own in fixed):
            owned.note("directories", path)

    # --- what is known

    def _record_before(self) -> Optional[Dict[str, Any]]:
        """The record of this service, as an earlier run has left it; None where there is none that can be read."""
        records, problems = deployments.read_records()
        self.unreadable = problems
        return next((record for record in records if record["service"]["name"] == self.name), None)

    def _begun(self) -> begun.Note:
        """What a run that did not come to the record was going to make of this service; empty where there was none."""
        try:
            return owned.load()["begun"].get(self.name, {})
        except Failure:
            return {}  # told of before anything is changed (require_files)

    def _host(self) -> Dict[str, str]:
        """Where supervisor is: where it was put first, whatever the variables say now; else where they say."""
        install_dir, log_dir = self.options["install_dir"], self.options["log_dir"]
        if self.options["state"] == "absent" and self.begun:
            install_dir, log_dir = self.begun["install_dirs"][0], self.begun["log_dir"]
        return supervisor_place.place(install_dir, log_dir)

    def log_file(self) -> Optional[str]:
        if self.manager_name == "systemd":
            return None
        return "%s/%s.log" % (self.options["log_dir"].rstrip("/"), self.name)

    def program_path(self, name: str) -> str:
        return "%s/libexec/%s" % (self.options["install_dir"].rstrip("/"), name)

    # --- started

    def start(self) -> Dict[str, Any]:
        """Make it, and let it run. The state afterwards, or before in check mode."""
        options = self.options
        definition = checked(dict(options["definition"], user=self.user), options["data_dir"], options["api_key"] or "")
        record = self.new_record(definition)
        self.require_files(definition, record)
        self.require_ways(definition)
        stopped = self.others_to_stop(record)
        look = self.manager.look()
        if look["drop_ins"]:
            self.warnings.append(
                "%s change the unit %s beside what dsdeploy writes (systemctl revert %s removes them)"
                % (", ".join(look["drop_ins"]), self.name, self.name)
            )
        if self.manager_name == "supervisor" and not self.supervisor_is_there():
            self.needs_supervisor = {"path": self.host["supervisor"], "version": options["supervisor_version"]}
            if not self.check_mode:
                return look["state"]
        self.desired.directory(places.CONFIG, 0o755)
        kept = previous.read(self.own_files(definition["environment_file"])) if options["keep_before"] else {}
        answered = bool(kept) and look["state"]["active"] == "running"
        try:
            account = self.ensure_user(definition)
            self.ensure_directories(definition, account)
            self.check_access(definition, account)
            changed = self.write_files(definition, account)
            if changed and not self.check_mode:
                self.manager.accept()
        except Exception:
            # What is to be gone back to is this, not what was kept by an earlier run.
            if answered and not self.check_mode:
                previous.keep_or_forget(self.desired, self.name, kept)
            raise
        if changed and not self.check_mode:
            self.remove_programs(self.programs_before - programs_of(self.manager.file))
        self.stop_others(stopped, record)
        look_reload = look["reload"] and not changed
        same = launcher.read_note(launcher.note_path(places.RUN, self.name, "revision")) == self.revision
        actions = plan("started", look["state"]["active"], same, look["enabled"], look_reload)
        # "Running" is said of one that has answered (systemd), or has stayed up (supervisor).
        if answered and "restart" in actions:
            previous.keep(self.desired, self.name, kept)
        if record:
            # Once the manager has taken what is to be served, and before anything runs that nobody knows of.
            self.desired.directory(places.RECORDS, 0o755)
            self.desired.file(
                self.record_file(record["engine"]), deployments.dump(record), 0o644, what="deployment record"
            )
            if not self.check_mode:
                owned.forget("begun", self.name)
        self.note_made()
        self.act(actions)
        return look["state"] if self.check_mode else self.state()

    def note_made(self) -> None:
        """Directories that this run has made before, for programs and models."""
        for path in self.options["made_directories"]:
            if os.path.isdir(path) and not self.check_mode:
                self.note_directory(path)

    def new_record(self, definition: Dict[str, Any]) -> Dict[str, Any]:
        """The deployment record, checked as whoever reads it will; empty where the service is no engine."""
        if not definition["record"]:
            return {}
        record = deployments.typed(definition["record"])
        record.update(
            service={"name": self.name, "manager": self.manager_name, "log": self.log_file()},
            user=definition["user"],
            state_dir=definition["state_dir"],
            environment_file=definition["environment_file"],
            write_paths=definition["write_paths"],
            api_key_file=self.key_file() if definition["secrets"] else None,
            answer_max_tokens=self.options["answer_max_tokens"],
        )
        before = self.record_before or {}
        record.update(deployments.kept_measured(before, record))
        old = [*before.get("left", []), *before.get("dirs", [])]
        old += filter(None, [before.get("state_dir"), before.get("service", {}).get("log")])
        # Of runs that did not come to a record.
        old += [*self.begun["dirs"], self.begun["state_dir"]] if self.begun else []
        ours = [*record.get("dirs", []), definition["state_dir"], self.log_file() or "/"]
        record["left"] = [
            path
            for path in dict.fromkeys(old)
            # Nothing that the deployment has a part of now.
            if os.path.lexists(path) and not any((own + "/").startswith(path.rstrip("/") + "/") for own in ours)
        ]
        if record["left"]:
            self.left += [
                "%s: of this deployment before it moved; `down --purge` removes it" % p for p in record["left"]
            ]
        try:
            deployments.parse_record(deployments.dump(record))
        except ValueError as error:
            raise Failure("the deployment record would not be readable: %s" % error, error_kind="usage") from None
        return record

    def require_files(self, definition: Dict[str, Any], record: Dict[str, Any]) -> None:
        """Failure where what is to be a file is something else, or notes cannot be read, before anything is changed."""
        owned.load()
        firewall.read("%s/%s.json" % (places.FIREWALL, self.name))
        files = [definition.get("environment_file"), self.key_file(), self.manager.file, places.SALT, places.HOST]
        if record:
            files.append(self.record_file(record["engine"]))
        for path in filter(None, files):
            if os.path.isdir(path) and not os.path.islink(path):
                raise Failure("%s is a directory, where a file should be" % path, hint="Move it away, and run again.")

    def require_ways(self, definition: Dict[str, Any]) -> None:
        """Failure where somebody else than root can change what root runs, writes or gives away, before it is made."""
        programs = [self.options["install_dir"], os.path.dirname(definition["environment_file"])]
        if self.manager_name == "supervisor":
            programs += [self.host["supervisor"], self.host["log_dir"], self.options["log_dir"]]
        data = list(map(os.path.dirname, [definition["state_dir"], *definition["write_paths"]]))
        for path, found in weak_ways(programs, data, self.connection):
            raise Failure("%s: on the way is %s" % (path, found), hint=weak_hint(found), error_kind="preflight")

    def record_file(self, engine: str) -> str:
        return "%s/%s.json" % (places.RECORDS, engine)

    def key_file(self) -> str:
        return "%s/%s" % (places.KEYS, self.name)

    def supervisor_is_there(self) -> bool:
        """Whether supervisor is installed, in the version that is wanted."""
        return supervisor_place.is_installed(self.host["supervisor"], self.options["supervisor_version"])

    def ensure_user(self, definition: Dict[str, Any]) -> Optional[users.Account]:
        """The user that it runs as, made where there is none; None in check mode where it would be made."""
        return ensure_user(self.desired, definition["user"], definition["state_dir"], self.connection)

    def ensure_directories(self, definition: Dict[str, Any], account: Optional[users.Account]) -> None:
        uid, gid = (account.uid, account.gid) if account else (0, 0)
        self.desired.directory(os.path.dirname(definition["environment_file"]), 0o755, keep_mode=True)
        for path, mode in [(definition["state_dir"], 0o750), *((path, 0o755) for path in definition["write_paths"])]:
            if os.path.isdir(path):
                self.take_over(path, uid, gid, definition["user"])
                if account:
                    self.desired.directory(path, mode, uid, gid)
            else:
                self.desired.directory(path, mode, uid, gid)

    def take_over(self, top: str, uid: int, gid: int, user: str) -> None:
        """A directory that is there, with all in it, becomes the service's user's. One of another user's is refused."""
        top = os.path.realpath(top)
        owner = os.stat(top).st_uid
        if owner == uid:
            return
        name = users.named(owner)
        if owner != 0 and name is not None:
            raise Failure(
                "%s belongs to the user %s, not to %s that is to write there" % (top, name, user),
                hint="Choose another directory, or give it away: chown -R %s %s" % (user, top),
            )
        count, linked = users.hand_over(top, uid, gid, give=False)
        self.left += ["%s: it has another name elsewhere (a hard link), and stays as it is" % path for path in linked]

        def hand_over() -> None:
            users.hand_over(top, uid, gid)

        if count > 1:
            self.desired.change("give %s with %d entries to %s" % (top, count - 1, user), hand_over)
        elif not self.check_mode:
            hand_over()

    def check_access(self, definition: Dict[str, Any], account: Optional[users.Account]) -> None:
        """Failure where the user cannot reach what it is to run or to read."""
        uid = account.uid if account else None
        gids = os.getgrouplist(account.name, account.gid) if account else []
        wants = [(definition["state_dir"], "pass"), (definition["exec"][0], "run")]
        wants += [(path, "pass") for path in definition["write_paths"]]
        for path in definition["read_only_paths"]:
            wants += [(one, "read") for one in dict.fromkeys([path, *parts.paths_of(path)])]
        for path, what in wants:
            stops = barrier(path, uid, gids, what)
            if stops:
                raise Failure(
                    "%s: the user %s %s" % (path, definition["user"], stops),
                    hint=hint_for(stops),
                )

    def write_files(self, definition: Dict[str, Any], account: Optional[users.Account]) -> bool:
        """Environment, key and what makes it a service; whether the manager has something new to read."""
        desired = self.desired
        salt = self.salt()
        real = [os.path.realpath(path) for path in definition["read_only_paths"] + definition["write_paths"]]
        real += [os.path.realpath(definition["state_dir"]), os.path.realpath(definition["exec"][0])]
        real.append(definition["exec"][0])
        try:
            version = self.manager.version() if isinstance(self.manager, Systemd) else 0
            confined = confinement.settings(definition, real, version)
            tmp = texts.own_tmp(definition, confined if self.manager_name == "systemd" else ())
            self.revision = revision(definition, "\n".join([*confined, *([tmp] if tmp else [])]), salt)
            desired.file(definition["environment_file"], texts.environment_text(definition), 0o600, secret=True)
            if definition["secrets"]:
                desired.directory(places.KEYS, 0o700)
                desired.file(self.key_file(), self.options["api_key"] + "\n", 0o600, secret=True)
            else:
                desired.absent(self.key_file())
            if self.manager_name == "systemd":
                return self.write_unit(definition, confined, version)
            return self.write_program(definition)
        except ValueError as error:
            raise Failure("service %s: %s" % (self.name, error), error_kind="usage") from None

    def salt(self) -> bytes:
        """What makes a revision unguessable; made once on a host."""
        try:
            text = foreign.read_text(places.SALT, 4096)
            found = bytes.fromhex(text.strip())
            if len(found) >= 16:
                # Somebody may have made it readable.
                self.desired.file(places.SALT, text, 0o600, secret=True, what="salt of the revisions")
                return found
        except (OSError, ValueError):
            pass  # none yet, or one that is none: a new one restarts the services once
        made = secrets.token_hex(32)
        self.desired.file(places.SALT, made + "\n", 0o600, secret=True, what="salt of the revisions")
        return bytes.fromhex(made)

    def write_unit(self, definition: Dict[str, Any], confined: List[str], version: int) -> bool:
        check = self.program_path("wait_healthy.py")
        if definition.get("health_url"):
            self.desired.directory(os.path.dirname(check), 0o755)
            self.desired.file(check, source_of(wait_healthy), 0o755, quiet=True)
        program = self.program_path("launcher.py")
        if "gpu" in confinement.needs_of(definition):
            self.desired.directory(os.path.dirname(program), 0o755)
            self.desired.file(program, source_of(launcher), 0o755, quiet=True)
        text = texts.unit_text(definition, confined, self.revision, check, program, version)
        return self.desired.file(self.manager.file, text, 0o644)

    def write_program(self, definition: Dict[str, Any]) -> bool:
        options, program = self.options, self.program_path("launcher.py")
        for directory in (os.path.dirname(program), self.host["log_dir"], os.path.dirname(self.log_file() or "/")):
            self.desired.directory(directory, 0o755, keep_mode=True)
        self.desired.directory(places.SUPERVISOR_PROGRAMS, 0o755)
        self.desired.file(program, source_of(launcher), 0o755, quiet=True)
        self.desired.file(places.HOST, json.dumps(self.host, sort_keys=True) + "\n", 0o644)
        log = (options["log_max_mib"], options["log_backups"])
        self.desired.file(places.SUPERVISOR_CONFIG, texts.supervisord_text(self.host["log_dir"], *log), 0o600)
        python = self.host["supervisor"] + "/bin/python"
        text = texts.program_text(definition, self.revision, python, program, self.log_file() or "", *log)
        return self.desired.file(self.manager.file, text, 0o600)

    # --- others

    def others_to_stop(self, record: Dict[str, Any]) -> List[Dict[str, Any]]:
        """Running deployments that make room for this one. Failure where a record that may be of one cannot be read."""
        if not record or self.options["stop_others"] == "none":
            return []
        records, problems = deployments.read_records()
        own = self.record_file(record["engine"])
        for problem in problems:
            if problem.file != own:
                raise Failure(str(problem), hint=deployments.UNREADABLE_HINT)
        room = others.making_room(records, record["engine"], record.get("device", "gpu"), self.options["stop_others"])
        for other in room:
            other["state"] = service_state(other["service"]["name"], other["service"]["manager"])
        return others.making_room(room, record["engine"], record.get("device", "gpu"), self.options["stop_others"])

    def stop_others(self, stopped: List[Dict[str, Any]], record: Dict[str, Any]) -> None:
        for other in stopped:
            self.warnings.append(others.reason(other, record["engine"], self.options["stop_others"]))
            service = other["service"]
            manager = (
                Systemd(service["name"])
                if service["manager"] == "systemd"
                else Supervisor(service["name"], self.host["supervisor"], other["user"])
            )
            manager.look()  # refuses what is not ours
            for action in ("stop", "disable"):
                verb = "stop %s" if action == "stop" else "keep %s from starting with the host"
                self.desired.change(verb % service["name"], lambda manager=manager, action=action: manager.do(action))

    # --- back

    def own_files(self, environment_file: str) -> List[str]:
        """What makes it the service that it is."""
        found = [self.manager.file, environment_file, self.key_file()]
        if self.record_before:
            found.append(self.record_file(self.record_before["engine"]))
        return found

    def restore(self) -> Dict[str, Any]:
        """Serve as it was served when it last answered. `restored` tells whether there was anything to go back to."""
        self.manager.look()  # refuses what is not ours
        record = self.record_before or {}
        environment_file = record.get("environment_file") or "%s/%s.env" % (places.CONFIG, self.name)
        self.restored = previous.put_back(self.desired, self.name, self.own_files(environment_file))
        if self.restored:
            if self.desired.changes and not self.check_mode:
                self.manager.accept()
            self.act(["restart"] if self.desired.changes else [])
        return self.state()

    # --- stopped and absent

    def stop(self) -> Dict[str, Any]:
        look = self.manager.look()
        self.act(plan("stopped", look["state"]["active"], True, look["enabled"], look["reload"]))
        return look["state"] if self.check_mode else self.state()

    def act(self, actions: List[str]) -> None:
        """Tell the manager."""
        self.actions += actions
        for action in actions:
            what = {"enable": "let %s start with the host", "disable": "keep %s from starting with the host"}
            what["reload"] = "let the manager read the file of %s"
            self.desired.change(
                what.get(action, action + " %s") % self.name, lambda action=action: self.manager.do(action)
            )

    def state(self) -> Dict[str, Any]:
        return service_state(self.name, self.manager_name)

    def remove(self) -> Dict[str, Any]:
        """Stop it, and take away what was made for it: last of it the record."""
        # What is ours must be known before the first of it goes.
        self.require_files({}, {})
        self.require_nobody_installs()
        removing.require_nothing_mounted(self.places_of_it())
        for path in self.manager.look()["drop_ins"]:
            self.left.append("%s: changes the unit, and would change a new one; somebody else wrote it" % path)
        state = self.stop()
        desired, record, begun_note = self.desired, self.record_before or {}, self.begun
        definition = self.options["definition"]
        data = self.options["data_dir"].rstrip("/")
        log = record.get("service", {}).get("log") or self.log_file()
        had_file = os.path.lexists(self.manager.file)
        last = isinstance(self.manager, Supervisor) and self.manager.is_last()
        desired.absent(self.manager.file)
        if not self.check_mode and had_file:
            self.manager.forget()
        environment_file = (
            record.get("environment_file")
            or definition.get("environment_file")
            or "%s/%s.env" % (places.CONFIG, self.name)
        )
        gone = [
            environment_file,
            self.key_file(),
            previous.path_of(self.name),
            record.get("state_dir") or "%s/%s" % (data, self.name),
        ]
        gone += [path + ".new" for path in [*self.own_files(environment_file), places.OWNED]]  # of a run that was cut
        gone += glob.glob(glob.escape(launcher.note_path(places.RUN, self.name, "")) + "*")
        if log:
            gone += glob.glob(glob.escape(log) + "*")
        gone = [*record.get("dirs", []), *record.get("left", []), *gone]
        if begun_note:
            gone += [*begun_note["dirs"], begun_note["state_dir"], begun_note["environment_file"]]
            programs = {"%s/libexec/%s" % (path, name) for path in begun_note["install_dirs"] for name in PROGRAMS}
            self.programs_before = self.programs_before | programs
        for path in gone:
            desired.absent(path)
        settled = firewall.settle(self.name, [], self.check_mode)
        self.warnings += settled.warnings
        for rule in settled.closed:
            desired.change("close " + firewall.lines([rule]).strip())
        if last:
            self.remove_supervisor(self.manager)
            for path in begun_note.get("install_dirs", []):
                desired.absent(path + "/supervisor")
        self.remove_programs(self.programs_before)
        write_paths = [*record.get("write_paths", []), *begun_note.get("write_paths", [])]
        for user in dict.fromkeys([self.user, begun_note.get("user") or self.user]):
            self.give_up_user(user, list(dict.fromkeys(write_paths)))
        going = self.options["models_that_go"]
        served = record.get("model_path") or ""
        # A model's directory has the name that it goes by; what it is served as may be another one.
        if os.path.lexists(served) and not set(going) & {record.get("model"), *served.split("/")}:
            self.left.append("%s: the model, unless it is named too (down --purge-model)" % record["model_path"])
        if record:
            desired.absent(self.record_file(record["engine"]))
        else:
            # Of one that cannot be read: what it named is not known, but the service is gone.
            for problem in self.unreadable:
                if os.path.basename(problem.file) == "%s.json" % definition.get("record", {}).get("engine"):
                    desired.absent(problem.file)
        if begun_note:
            self.leave_model(begun_note, record)
            if not self.check_mode:
                for path in filter(os.path.isdir, begun_note["made"]):
                    self.note_directory(path)
                owned.forget("begun", self.name)
        self.remove_what_all_share([*gone, *self.programs_before])
        return state

    def places_of_it(self) -> List[str]:
        """Directories and files that go with it, as far as the record and a note of a run that was cut name them."""
        record, note = self.record_before or {}, self.begun
        state_dir = record.get("state_dir") or "%s/%s" % (self.options["data_dir"].rstrip("/"), self.name)
        found = [*record.get("dirs", []), *record.get("left", []), state_dir]
        if note:
            found += [*note["dirs"], note["state_dir"], *(path + "/supervisor" for path in note["install_dirs"])]
        if isinstance(self.manager, Supervisor):
            found.append(self.host["supervisor"])
        return found

    def require_nobody_installs(self) -> None:
        """Failure where a job still makes what is to be removed: it belongs to the host, goes on when its run is ended,
        and would make anew what is gone."""
        record, note = self.record_before or {}, self.begun
        roots = [record.get("releases"), note.get("releases"), *record.get("dirs", []), *note.get("dirs", [])]
        for root in dict.fromkeys(filter(None, roots)):
            for path in [root + "/.making", *sorted(glob.glob(glob.escape(root) + "/*.lock"))]:
                pid = locked.holder(path)
                if pid is not None:
                    raise Failure(
                        "%s: a run that was ended still installs in %s%s"
                        % (self.name, root, " (process %d)" % pid if pid else ""),
                        hint="It goes on by itself. Wait until it is through, or end that process, and run this again.",
                    )

    def leave_model(self, note: begun.Note, record: Dict[str, Any]) -> None:
        """Name the model of a run that did not come to its record, as far as it was fetched."""
        path = note["model"]
        name = os.path.basename(path or "")
        if name in self.options["models_that_go"]:
            return
        if path and os.path.lexists(path) and not (record.get("model_path") or "").startswith(path + "/"):
            self.left.append("%s: the model, as far as it was fetched (down --purge-model %s)" % (path, name))

    def remove_supervisor(self, manager: Supervisor) -> None:
        """Supervisor has nothing left to run."""
        if manager.daemon.pid() is not None:
            self.actions.append("shutdown")
            self.desired.change("shut supervisord down", manager.shut_down)
        for path in (self.host["supervisor"], os.path.dirname(places.SUPERVISOR_CONFIG), places.HOST):
            self.desired.absent(path)
        for path in glob.glob(glob.escape(self.host["log_dir"]) + "/supervisord.log*"):
            self.desired.absent(path)

    def remove_programs(self, programs: Set[str]) -> None:
        """The start check and the launcher, where no service starts with them any more."""
        for path in services():
            if path != self.manager.file:
                programs = programs - programs_of(path)
        for path in sorted(programs):
            self.desired.absent(path)
            directory = os.path.dirname(path)
            if os.path.isdir(directory) and not self.check_mode and not os.listdir(directory):
                os.rmdir(directory)

    def give_up_user(self, user: str, write_paths: List[str]) -> None:
        """Remove a user where it is ours. What it leaves becomes root's: its number may be given to somebody else."""
        found, notes = users.account(user), owned.load()
        if found is None:
            self.left += filter(None, [forget_user(user) if not self.check_mode else ""])
            return
        if not users.is_ours(found, notes):
            self.left.append("user %s: it was there before" % user)
            return
        for record in deployments.read_records()[0]:
            if record["user"] == user and record["service"]["name"] != self.name:
                self.left.append("user %s: %s runs as it" % (user, record["engine"]))
                return
        for path in write_paths:
            if os.path.isdir(path) and os.listdir(path):
                self.left.append("%s: models and other data, root's now" % path)
                real = os.path.realpath(path)
                self.desired.change("give %s to root" % path, lambda real=real: users.hand_over(real, 0, 0))
        self.desired.change("remove user " + user, lambda: self.left.extend(filter(None, [remove_user(user)])))

    def remove_what_all_share(self, gone: List[str]) -> None:
        """Directories of ours go with what was in them, and with the last service what is kept for all of them."""
        others_left = [path for path in services() if path != self.manager.file]
        records, problems = deployments.read_records()
        last = not (others_left or problems or [rec for rec in records if rec["service"]["name"] != self.name])
        if last:
            for path in (places.SALT, places.RUN):
                self.desired.absent(path)
        if self.check_mode:
            return
        notes = owned.load()
        if last and notes["packages"]:
            names = ", ".join(sorted(notes["packages"]))
            self.left.append("packages %s: installed for dsdeploy; others may need them by now" % names)
            notes["packages"] = {}
        for path in sorted(notes["directories"], key=len, reverse=True):
            # One that is empty may be what another service runs in.
            if not last and not any((own + "/").startswith(path + "/") for own in gone):
                continue
            if os.path.isdir(path) and not os.path.islink(path):
                if os.listdir(path):
                    if last:
                        self.left.append("%s: there is something in it" % path)
                        del notes["directories"][path]
                    continue
                if removing.is_empty_mount(path):
                    self.left.append("%s: a disk is mounted there" % path)
                    del notes["directories"][path]
                    continue
                os.rmdir(path)
                self.desired.change("remove " + path)
            del notes["directories"][path]
        owned.save(notes)


def services() -> List[str]:
    """Files of the units and programs on this host that are ours, found by their mark."""
    found = glob.glob(glob.escape(places.UNITS) + "/*.service") + glob.glob(
        glob.escape(places.SUPERVISOR_PROGRAMS) + "/*.conf"
    )
    return [path for path in sorted(found) if is_marked(path)]


def programs_of(path: str) -> Set[str]:
    """The programs of ours that the file of a unit or a program starts with."""
    try:
        found = _PROGRAM.findall(foreign.read_bytes(path, MOST_BYTES).decode("utf-8", "replace"))
        # One of the three ways of writing a word, the others empty; a per cent sign is doubled in both kinds of files.
        return {"".join(words).replace("%%", "%") for words in found}
    except (OSError, ValueError):
        return set()
