# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of a gang meet before anything is started: each listens, and goes to each of the others.

What is said is a word and a name: no engine and no guard takes it for something else.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from typing import Dict, List, Set

WORD = "dsdeploy-gang"
CONNECT = 3.0  # s of one try
PAUSE = 0.2  # s between two tries: the other may not listen yet
MOST = 300  # bytes of a line


def reason(error: OSError) -> str:
    if isinstance(error, socket.timeout):
        return "no answer (a firewall?)"
    return {
        errno.ECONNREFUSED: "refused (a firewall, or its part of this run came too late?)",
        errno.EHOSTUNREACH: "no route (a firewall?)",
        errno.ENETUNREACH: "no route",
        # Of a route that throws away.
        errno.EINVAL: "no route",
    }.get(error.errno or 0, error.strerror or str(error))


def read_line(channel: socket.socket) -> str:
    said = b""
    while not said.endswith(b"\n") and len(said) < MOST:
        part = channel.recv(MOST)
        if not part:
            break
        said += part
    return said.decode("utf-8", "replace").strip()


class Meeting:
    """One host's part.

    :ivar reached: by peer "" once it was reached, before that why not. `came`: peers that came here.
    """

    def __init__(self, here: str, addresses: Dict[str, str], port: int, mark: str) -> None:
        """:param mark: of this run: what another run has left does not count."""
        self.here, self.addresses, self.port, self.mark = here, addresses, port, mark
        self.peers = [host for host in addresses if host != here]
        self.reached: Dict[str, str] = {peer: "it was not tried" for peer in self.peers}
        self.came: Set[str] = set()
        self.over = threading.Event()

    def hold(self, timeout: float) -> Dict[str, str]:
        """By peer, "" or why it was not reached. OSError where the port cannot be taken."""
        deadline = time.monotonic() + timeout
        own = self.addresses[self.here]
        family = socket.AF_INET6 if ":" in own else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((own, self.port))
            server.listen(64)
            server.settimeout(PAUSE)
            threads: List[threading.Thread] = [threading.Thread(target=self._listen, args=(server,), daemon=True)]
            threads += [threading.Thread(target=self._go, args=(peer, deadline), daemon=True) for peer in self.peers]
            for thread in threads:
                thread.start()
            while time.monotonic() < deadline and not self._done():
                time.sleep(0.05)
            self.over.set()
            for thread in threads:
                thread.join(CONNECT + 1)
        return dict(self.reached)

    def _done(self) -> bool:
        """Others may still be on their way here when this host has been everywhere."""
        return not any(self.reached.values()) and self.came >= set(self.peers)

    def _listen(self, server: socket.socket) -> None:
        while not self.over.is_set():
            try:
                channel, _address = server.accept()
            except OSError:
                continue
            with channel:
                try:
                    channel.settimeout(CONNECT)
                    words = read_line(channel).split(" ")
                    if len(words) == 3 and words[:2] == [WORD, self.mark] and words[2] in self.peers:
                        channel.sendall(("%s %s %s\n" % (WORD, self.mark, self.here)).encode("utf-8"))
                        self.came.add(words[2])
                except OSError:
                    continue

    def _go(self, peer: str, deadline: float) -> None:
        address = self.addresses[peer]
        while not self.over.is_set() and time.monotonic() < deadline:
            where = "%s port %d: " % (address, self.port)
            try:
                with socket.create_connection((address, self.port), CONNECT, (self.addresses[self.here], 0)) as channel:
                    channel.sendall(("%s %s %s\n" % (WORD, self.mark, self.here)).encode("utf-8"))
                    if read_line(channel) == "%s %s %s" % (WORD, self.mark, peer):
                        self.reached[peer] = ""
                        return
                self.reached[peer] = where + "another program, or another host, answers there"
            except OSError as error:
                self.reached[peer] = where + reason(error)
            self.over.wait(PAUSE)
