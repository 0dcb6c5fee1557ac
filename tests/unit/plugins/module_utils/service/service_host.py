# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that exists in a directory only, for the tests of one service: places below it, stand-ins for systemctl,
supervisord and the user database."""

import getpass
import json
import os
import re
import stat
from pathlib import Path

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import accounts, owned, users
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import apply, definition

ME = getpass.getuser()
KEY = "sk-secret-of-the-tests"
# What `systemctl show` says of a unit whose file is there, by a state that the stand-in keeps in a file.
SYSTEMCTL = """#!/bin/sh
echo "$*" >> {root}/systemctl.log
case "$1" in
  --version) echo "systemd 257 (257.9)"; exit;;
  show) name=$(eval echo \\${{$#}});;
  --no-block) name=$3; echo active > {root}/$name.active;;
  stop) echo inactive > {root}/$2.active; [ ! -e {root}/at_stop ] || sh {root}/at_stop; exit;;
  enable) touch {root}/$3.enabled; exit;;
  disable) rm -f {root}/$3.enabled; exit;;
  *) exit;;
esac
[ "$1" = show ] || exit 0
unit={root}/units/$name.service
active=$(cat {root}/$name.active 2>/dev/null || echo inactive)
if [ -e $unit ]; then load=loaded; else load=not-found; fi
[ ! -e {root}/bad ] || load=bad-setting
echo "LoadState=$load
ActiveState=$active
SubState=running
Result=success
NRestarts=0
MainPID=7
NeedDaemonReload=no
FragmentPath=$(cat {root}/$name.fragment 2>/dev/null)
DropInPaths=$(cat {root}/$name.drop_ins 2>/dev/null)
UnitFileState=$([ -e {root}/$name.enabled ] && echo enabled || echo disabled)"
"""


class Host:
    """A bare host below `root`."""

    manager = {"started": "systemd", "stopped": "auto", "restored": "auto", "absent": "auto"}

    def __init__(self, root, monkeypatch):
        self.root = root
        self.monkeypatch = monkeypatch
        for name, value in list(vars(places).items()):
            if name.isupper():
                monkeypatch.setattr(places, name, str(root) + value)
        for name, path in {
            "UNITS": "units",
            "SUPERVISOR_CONFIG": "supervisor/supervisord.conf",
            "SUPERVISOR_PROGRAMS": "supervisor/conf.d",
            "SUPERVISOR_SOCKET": "supervisor/supervisor.sock",
        }.items():
            monkeypatch.setattr(places, name, str(root / path))
        (root / "units").mkdir()
        (root / "bin").mkdir()
        (root / "bin/systemctl").write_text(SYSTEMCTL.format(root=root))
        (root / "bin/systemctl").chmod(0o755)
        monkeypatch.setenv("PATH", f"{root}/bin:{os.environ['PATH']}")
        # pytest's directories are root's alone.
        monkeypatch.setattr(apply, "barrier", lambda *_arguments: None)
        self.accounts = {}
        monkeypatch.setattr(users, "account", self.accounts.get)
        monkeypatch.setattr(accounts, "make_user", self.make_user)
        monkeypatch.setattr(apply, "remove_user", self.remove_user)

    def make_user(self, name, home):
        owned.note("users", name, uid=os.getuid(), home=home)
        self.accounts[name] = users.Account(name, os.getuid(), os.getgid(), home, "/usr/sbin/nologin")

    def remove_user(self, name):
        owned.forget("users", name)
        del self.accounts[name]

    def options(self, state="started", engine="vllm", **given):
        name = "dsdeploy-" + engine
        record = {"engine": engine, "version": "1", "model": "m", "endpoint": "http://127.0.0.1:8000", "api": "openai",
                  "device": "gpu", "health_path": "/health", "dirs": []}  # fmt: skip
        new = {"name": name, "exec": ["/bin/sleep", "60"], "api_key_variable": "THE_KEY", "record": record}
        for key in list(given):
            if key in definition.SPEC:
                new[key] = given.pop(key)
            elif key in ("device", "endpoint", "dirs", "version", "model", "streams"):
                record[key] = given.pop(key)
        filled = {key: spec.get("default") for key, spec in definition.SPEC.items()}
        filled.update(new if state == "started" else {"name": name, "user": new.get("user")})
        result = {"state": state, "definition": filled, "api_key": None, "manager": self.manager[state],
                  "stop_others": "gpu", "data_dir": str(self.root / "data"), "install_dir": str(self.root / "opt"),
                  "log_dir": str(self.root / "log"), "supervisor_version": "4.3.0", "log_max_mib": 50,
                  "log_backups": 3, "made_directories": [], "answer_max_tokens": 99, "keep_before": False,
                  "models_that_go": []}  # fmt: skip
        return {**result, **given}

    def run(self, state="started", check=False, **given):
        service = apply.Service(self.options(state, **given), check, ["operator"])
        {"started": service.start, "stopped": service.stop, "restored": service.restore, "absent": service.remove}[
            state
        ]()
        return service

    def changes(self, *words, **given):
        return self.run(*words, **given).desired.changes

    def files(self):
        skipped = ("bin", "systemctl.log")
        return {
            str(path.relative_to(self.root)): stat.S_IMODE(path.lstat().st_mode)
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and path.relative_to(self.root).parts[0] not in skipped and path.suffix not in (
                ".active", ".enabled", ".sock")
        }  # fmt: skip

    def started_as_configured(self, name="dsdeploy-vllm"):
        """What a unit does at its start: it notes its revision."""
        unit = (self.root / f"units/{name}.service").read_text()
        self.note_revision(re.search(r"echo ([0-9a-f]{64}) >", unit).group(1), name)

    def note_revision(self, revision, name="dsdeploy-vllm"):
        run = Path(places.RUN)
        run.mkdir(parents=True, exist_ok=True)
        (run / f"{name}.revision").write_text(revision + "\n")

    def record(self, engine="vllm"):
        return json.loads((Path(places.RECORDS) / f"{engine}.json").read_text())
