# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for supervisord: its XML-RPC interface on a Unix socket, over programs that exist in name only.

`programs` maps a name to what getProcessInfo says of it; `calls` lists what was asked, in order.
"""

from __future__ import annotations

import configparser
import glob
import os
import socketserver
import threading
import time
from pathlib import Path
from xmlrpc.client import Fault
from xmlrpc.server import SimpleXMLRPCDispatcher, SimpleXMLRPCRequestHandler

STATES = {"STOPPED": 0, "STARTING": 10, "RUNNING": 20, "BACKOFF": 30, "STOPPING": 40, "EXITED": 100, "FATAL": 200}


class _Handler(SimpleXMLRPCRequestHandler):
    rpc_paths = ("/RPC2",)
    disable_nagle_algorithm = False

    def address_string(self) -> str:
        return "here"

    def log_message(self, *args: object) -> None:
        pass

    def report_404(self) -> None:
        # Read first: who closes what was not read cuts the one that still writes.
        self.rfile.read(int(self.headers.get("content-length", 0)))
        super().report_404()


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer, SimpleXMLRPCDispatcher):
    daemon_threads = True

    def __init__(self, path: str) -> None:
        SimpleXMLRPCDispatcher.__init__(self, allow_none=False)
        self.logRequests = False
        socketserver.UnixStreamServer.__init__(self, path, _Handler)

    def _dispatch(self, method, params):  # noqa: ANN001
        return SimpleXMLRPCDispatcher._dispatch(self, method, params)


class StandinSupervisor:
    """`with StandinSupervisor(directory) as supervisor:`; its configuration is `supervisor.config`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket, self.config = directory / "supervisor.sock", directory / "supervisord.conf"
        self.programs: dict[str, dict] = {}
        self.texts: dict[str, str] = {}
        self.calls: list[tuple] = []
        self.pid = os.getpid()
        (directory / "conf.d").mkdir(exist_ok=True)
        if not self.config.exists():
            self.config.write_text(f"[unix_http_server]\nfile={self.socket}\n")

    def says(self, name: str, state: str, description: str = "", **more: object) -> None:
        """What it says of a program from now on."""
        info = {"name": name, "group": name, "statename": state, "state": STATES.get(state, 1000), "pid": 0, "start": 0}
        self.programs[name] = dict(info, description=description, spawnerr="", **more)

    def running(self, name: str, pid: int = 7) -> None:
        self.says(name, "RUNNING", f"pid {pid}, uptime 0:00:09", pid=pid, start=int(time.time()) - 9)

    def __enter__(self) -> StandinSupervisor:
        self.server = _Server(str(self.socket))
        names = ("getPID", "getProcessInfo", "reloadConfig", "startProcess", "stopProcess", "addProcessGroup",
                 "removeProcessGroup", "shutdown")  # fmt: skip
        for name in names:
            self.server.register_function(self._told(name), "supervisor." + name)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.socket.unlink(missing_ok=True)

    def _told(self, name):  # noqa: ANN001
        def run(*arguments):  # noqa: ANN002
            if name not in ("getPID", "getProcessInfo", "reloadConfig"):
                self.calls.append((name, *arguments))
            return getattr(self, "_" + name)(*arguments)

        return run

    def _files(self) -> dict[str, str]:
        found = {}
        for path in glob.glob(f"{self.directory}/conf.d/*.conf"):
            parser = configparser.RawConfigParser(inline_comment_prefixes=(" ;",), strict=False)
            parser.read(path)
            found[parser.sections()[0].partition(":")[2]] = Path(path).read_text()
        return found

    def _known(self, name: str) -> dict:
        if name not in self.programs:
            raise Fault(10, "BAD_NAME: " + name)
        return self.programs[name]

    def _getPID(self) -> int:
        return self.pid

    def _getProcessInfo(self, name: str) -> dict:
        return self._known(name)

    def _reloadConfig(self) -> list:
        files = self._files()
        added = [name for name in files if name not in self.texts]
        changed = [name for name in files if name in self.texts and self.texts[name] != files[name]]
        return [[added, changed, [name for name in self.texts if name not in files]]]

    def _addProcessGroup(self, name: str) -> bool:
        self.texts[name] = self._files()[name]
        pid = self.programs.get(name, {}).get("pid", 6) + 1
        if "autostart=true" in self.texts[name]:
            self.running(name, pid)
        else:
            self.says(name, "STOPPED", "Not started")
        return True

    def _removeProcessGroup(self, name: str) -> bool:
        if self._known(name)["statename"] not in ("STOPPED", "EXITED", "FATAL"):
            raise Fault(91, "STILL_RUNNING: " + name)
        self.texts.pop(name, None)
        del self.programs[name]
        return True

    def _startProcess(self, name: str, wait: bool) -> bool:
        if self._known(name)["statename"] in ("RUNNING", "STARTING"):
            raise Fault(60, "ALREADY_STARTED: " + name)
        self.running(name, self.programs[name]["pid"] + 1)
        return True

    def _stopProcess(self, name: str, wait: bool) -> bool:
        if self._known(name)["statename"] not in ("RUNNING", "STARTING", "BACKOFF"):
            raise Fault(70, "NOT_RUNNING: " + name)
        self.says(name, "STOPPED", "Nov 24 06:00 AM")
        return True

    def _shutdown(self) -> bool:
        threading.Thread(target=self.__exit__, daemon=True).start()
        return True
