# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Supervisord, asked over its own socket (http://supervisord.org/api.html)."""

from __future__ import annotations

import configparser
import http.client
import socket
import xmlrpc.client
from typing import Any, Dict, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

TIMEOUT = 15.0  # s
# Fault codes: supervisor/xmlrpc.py, class Faults.
BAD_NAME, ABNORMAL_TERMINATION, SPAWN_ERROR, ALREADY_STARTED, NOT_RUNNING = 10, 40, 50, 60, 70


class NotRunning(Failure):
    """No supervisord listens on the socket."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__()
        self.path, self.timeout = path, timeout

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return _Connection(self.path, self.timeout)


def socket_of(config: str) -> str:
    """The socket that a supervisord.conf names; the usual one where it cannot be read."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(" ;",), strict=False)
    try:
        parser.read(config, encoding="utf-8")
        return parser.get("unix_http_server", "file")
    except (configparser.Error, OSError, UnicodeDecodeError):
        return places.SUPERVISOR_SOCKET


class Daemon:
    """A supervisord that runs, or does not."""

    def __init__(self, config: str = "") -> None:
        self.config = config or places.SUPERVISOR_CONFIG
        self.socket = socket_of(self.config)

    def call(self, method: str, *arguments: Any, timeout: float = TIMEOUT) -> Any:
        """The answer of supervisor.<method>.

        :raises xmlrpc.client.Fault: it refuses.
        :raises NotRunning: it does not run.
        :raises Failure: it cannot be asked.
        """
        proxy = xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=_Transport(self.socket, timeout))
        try:
            with proxy:
                return getattr(proxy.supervisor, method)(*arguments)
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunning("supervisord does not run: nothing listens on " + self.socket, error_kind="") from None
        except socket.timeout:
            raise Failure("supervisord did not answer within %.0f s" % timeout, error_kind="") from None
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError, xmlrpc.client.ResponseError) as error:
            reason = getattr(error, "strerror", None) or getattr(error, "errmsg", None) or type(error).__name__
            raise Failure("supervisord cannot be asked over %s: %s" % (self.socket, reason), error_kind="") from None

    def pid(self) -> Optional[int]:
        """Its process, or None where none runs."""
        try:
            return int(self.call("getPID"))
        except NotRunning:
            return None

    def require_ours(self) -> None:
        """Failure where what listens on the socket runs another configuration than ours."""
        pid = self.pid()
        if pid is None:
            return
        try:
            with open("/proc/%d/cmdline" % pid, "rb") as handle:
                words = handle.read().decode("utf-8", "replace").split("\0")
        except OSError:
            return  # it has ended
        if self.config not in words and "--configuration=" + self.config not in words:
            raise Failure(
                "the supervisord that listens on %s (pid %d) runs another configuration than %s: %s"
                % (self.socket, pid, self.config, " ".join(words).strip()),
                hint="It is not dsdeploy's: stop it, or let it listen on another socket.",
            )

    def info(self, name: str) -> Optional[Dict[str, Any]]:
        """What it says of a program, or None where it has none of that name."""
        try:
            return self.call("getProcessInfo", name)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == BAD_NAME:
                return None
            raise Failure("supervisord: %s: %s" % (name, fault.faultString), error_kind="") from None

    def ask(self, method: str, *arguments: Any, but: tuple = (), timeout: float = TIMEOUT) -> Any:
        """As `call`; a refusal with one of the codes `but` is None, any other a Failure."""
        try:
            return self.call(method, *arguments, timeout=timeout)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode in but:
                return None
            raise Failure(
                "supervisord: %s %s: %s" % (method, " ".join(map(str, arguments[:1])), fault.faultString), error_kind=""
            ) from None

    def reread(self) -> Dict[str, List[str]]:
        """Names of programs whose files are new, changed or gone."""
        ((added, changed, removed),) = self.ask("reloadConfig")
        return {"added": added, "changed": changed, "removed": removed}
