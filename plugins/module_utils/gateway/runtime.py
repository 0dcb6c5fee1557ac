# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway while it runs: HAProxy's master is asked over its socket, and through it each worker.

A reload starts a new worker; the old ones end when their last stream has. What is changed at once is changed in all.
"""

from __future__ import annotations

import csv
import re
import socket
import time
from typing import Any, Dict, List, NamedTuple, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import bounded
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

TIMEOUT = 10.0  # s; of one answer
RELOAD = 30.0  # s; until a new worker has read its configuration
MOST = 16 * 1024 * 1024  # bytes of an answer
ADMIN = "admin.sock"
MASTER = "master.sock"
UNTRUSTED = "its certificate is not the one that is known for it"


class Worker(NamedTuple):
    """A worker process. `old`: it was replaced by a reload, and serves its last streams."""

    pid: int
    old: bool


def workers_of(text: str) -> List[Worker]:
    """The workers in the answer to `show proc`. Source: HAProxy management guide, "9.4. Master CLI"."""
    found, old = [], False
    for line in text.splitlines():
        if line.startswith("#"):
            old = "old workers" in line
            continue
        words = line.split()
        if len(words) >= 2 and words[0].isdigit() and words[1] == "worker":
            found.append(Worker(int(words[0]), old))
    return found


def version_of(text: str) -> str:
    """The version that the master runs, in the answer to `show proc`; "" where it is not told."""
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 5 and words[1] == "master":
            return words[-1]
    return ""


def map_of(text: str) -> Dict[str, str]:
    """What a map holds, by the answer to `show map FILE`."""
    found = {}
    for line in text.splitlines():
        match = re.match(r"0x[0-9a-f]+ (\S+) ?(.*)\Z", line)
        if match:
            found[match.group(1)] = match.group(2)
    return found


def map_commands(path: str, running: Dict[str, str], wanted: Dict[str, str]) -> List[str]:
    """What brings a map from what it holds to what it is to hold. What is to go goes first."""
    commands = ["del map %s %s" % (path, key) for key in sorted(set(running) - set(wanted))]
    for key, value in sorted(wanted.items()):
        if key not in running:
            commands.append("add map %s %s %s" % (path, key, value))
        elif running[key] != value:
            commands.append("set map %s %s %s" % (path, key, value))
    return commands


class Runtime:
    """The gateway that runs, by the path of its master's socket."""

    def __init__(self, directory: str) -> None:
        """:param directory: where its sockets are: its own directory."""
        self.path = directory + "/" + MASTER

    def ask(self, command: str) -> str:
        """The answer to one command. Failure where nobody answers."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
                left = bounded.within(TIMEOUT)
                channel.settimeout(left())
                channel.connect(self.path)
                channel.sendall((command + "\n").encode("utf-8"))
                channel.shutdown(socket.SHUT_WR)
                answer = b""
                while len(answer) < MOST:
                    channel.settimeout(left())
                    part = channel.recv(65536)
                    if not part:
                        break
                    answer += part
        except OSError as error:
            raise Failure(
                "the gateway does not answer at %s: %s" % (self.path, error.strerror or error), error_kind="service"
            ) from None
        return answer.decode("utf-8", "replace")

    def workers(self) -> Optional[List[Worker]]:
        """Its workers; None where it does not run."""
        try:
            return workers_of(self.ask("show proc"))
        except Failure:
            return None

    def version(self) -> str:
        return version_of(self.ask("show proc"))

    def sync(self, maps: Dict[str, Dict[str, str]], check: bool = False) -> int:
        """Bring the maps of all workers to what they are to hold; how many entries were changed, or would be.

        :param maps: by the path of each one's file.
        """
        count = 0
        for worker in self.workers() or []:
            for path, wanted in maps.items():
                running = self.ask("@!%d show map %s" % (worker.pid, path))
                if "Unknown map" in running:
                    continue  # an old worker, whose configuration had no such map
                commands = map_commands(path, map_of(running), wanted)
                count += len(commands)
                if check or not commands:
                    continue
                for command in commands:
                    self.ask("@!%d %s" % (worker.pid, command))
                if map_of(self.ask("@!%d show map %s" % (worker.pid, path))) != wanted and not worker.old:
                    raise Failure("the gateway did not take the change of %s" % path, error_kind="service")
        return count

    def reload(self) -> None:
        """Let it take up its files anew: a new worker takes new connections, the old one ends with its last stream."""
        before = {worker.pid for worker in self.workers() or []}
        try:
            self.ask("reload")
        except Failure:
            pass  # it begins anew, and its socket with it
        deadline = time.monotonic() + RELOAD
        while time.monotonic() < deadline:
            fresh = [worker for worker in self.workers() or [] if not worker.old and worker.pid not in before]
            if fresh:
                return
            time.sleep(0.1)
        raise Failure(
            "the gateway did not load its configuration within %.0f s" % RELOAD,
            hint="It still runs with the one before; `dsdeploy logs --engine gateway` says why.",
            error_kind="service",
        )

    def servers(self) -> List[Dict[str, Any]]:
        """The replicas as the newest worker sees them, see `servers_of`. Failure where it does not run."""
        fresh = [worker for worker in self.workers() or [] if not worker.old]
        if not fresh:
            raise Failure("the gateway does not answer at %s" % self.path, error_kind="service")
        return servers_of(self.ask("@!%d show stat" % fresh[-1].pid))


def servers_of(text: str) -> List[Dict[str, Any]]:
    """The replicas in the answer to `show stat` (CSV): ``{pool, name, state, streams, queued, check, said}``.

    ``check``: how its health check ended, such as L7OK or L6RSP; ``said``: what that says of it.
    Source: HAProxy management guide, "9.1. CSV format".
    """
    lines = [line for line in text.splitlines() if line]
    if not lines or not lines[0].startswith("# "):
        return []
    names = lines[0][2:].split(",")
    found = []
    for values in csv.reader(lines[1:]):
        row = dict(zip(names, values))
        if row.get("svname") in (None, "FRONTEND", "BACKEND"):
            continue
        found.append(
            {
                "pool": row["pxname"],
                "name": row["svname"],
                "state": row.get("status", ""),
                "streams": int(row.get("scur") or 0),
                "queued": int(row.get("qcur") or 0),
                "check": row.get("check_status", "").lstrip("* "),
                "said": row.get("last_chk") or row.get("check_desc") or "",
            }
        )
    return found


def others_of(servers: List[Dict[str, Any]]) -> List[str]:
    """The replicas on other addresses, by name. Pure."""
    # The engine of this host has the name of its pool; pools with a suffix are for other gateways.
    return sorted({one["name"] for one in servers if one["name"] != one["pool"] and "." not in one["pool"]})


def lacking(servers: List[Dict[str, Any]]) -> Dict[str, str]:
    """Why which replicas on other addresses get no requests, by their names. What is drained is so on purpose. Pure."""
    found, others = {}, others_of(servers)
    for server in servers:
        if server["name"] not in others or not server["state"].startswith("DOWN"):
            continue
        said = server["said"].strip() or server["state"]
        if server["check"].startswith("L6"):
            said = "%s (%s)" % (UNTRUSTED, said)
        elif server["check"].startswith("L7OK"):
            said = "it answers again (%s)" % said
        elif server["check"].startswith("L7"):
            said = "it answers, and has no engine that does (%s)" % said
        else:
            said = "it does not answer (%s)" % said
        found[server["name"]] = said
    return found
