# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of a gang meet before anything is started: each listens, and goes to each of the others.

What is said is a word and a name: no engine and no guard takes it for something else. Over a second connection, to a
port that the system chose as it chooses NCCL's, so much is sent both ways that full packets are under way.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from typing import Callable, Dict, Set, Tuple

WORD = "dsdeploy-gang"
CONNECT = 3.0  # s of one try
PAUSE = 0.2  # s between two tries: the other may not listen yet
MOST = 300  # bytes of a line
BULK = 256 * 1024  # bytes each way
BULK_TIME = 5.0  # s without any of them
# What may be wrong between two hosts: the port itself, any other port, packets of full size.
PORT, ANY_PORT, LARGE = "port", "any_port", "large"
FURTHER = (PORT, ANY_PORT, LARGE, "")  # the later, the further a try came


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
        part = channel.recv(1)  # what follows is not of the line
        if not part:
            break
        said += part
    return said.decode("utf-8", "replace").strip()


def listening(address: str, port: int) -> socket.socket:
    server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen(64)
        server.settimeout(PAUSE)
    except OSError:
        server.close()
        raise
    return server


def take(channel: socket.socket, count: int) -> None:
    """Read so many bytes; OSError where the other side ends before."""
    while count > 0:
        part = channel.recv(min(count, 65536))
        if not part:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        count -= len(part)


class Meeting:
    """One host's part.

    :ivar reached: by peer "" once it was reached, before that why not. `wrong`: by peer what of it (PORT, ANY_PORT,
        LARGE). `came`: peers that came here.
    """

    def __init__(self, here: str, addresses: Dict[str, str], port: int, mark: str) -> None:
        """:param mark: of this run: what another run has left does not count."""
        self.here, self.addresses, self.port, self.mark = here, addresses, port, mark
        self.peers = [host for host in addresses if host != here]
        self.reached: Dict[str, str] = {peer: "it was not tried" for peer in self.peers}
        self.wrong: Dict[str, str] = {peer: PORT for peer in self.peers}
        self.came: Set[str] = set()
        self.over = threading.Event()

    def hold(self, timeout: float) -> Dict[str, str]:
        """By peer, "" or why it was not reached. OSError where the port cannot be taken."""
        deadline = time.monotonic() + timeout
        own = self.addresses[self.here]
        with listening(own, self.port) as server, listening(own, 0) as other:
            listen = ((server, self._answer, other.getsockname()[1]), (other, self._exchange, 0))
            threads = [threading.Thread(target=self._listen, args=one, daemon=True) for one in listen]
            threads += [threading.Thread(target=self._go, args=(peer, deadline), daemon=True) for peer in self.peers]
            for thread in threads:
                thread.start()
            while time.monotonic() < deadline and not self._done():
                time.sleep(0.05)
            self.over.set()
            for thread in threads:
                thread.join(CONNECT + BULK_TIME)
        return dict(self.reached)

    def _done(self) -> bool:
        """Others may still be on their way here when this host has been everywhere."""
        return not any(self.reached.values()) and self.came >= set(self.peers)

    def _listen(self, server: socket.socket, serve: Callable[[socket.socket, str, int], None], port: int) -> None:
        while not self.over.is_set():
            try:
                channel, _address = server.accept()
            except OSError:
                continue
            # Aside: who sends nothing holds up nobody else.
            threading.Thread(target=self._serve, args=(channel, serve, port), daemon=True).start()

    def _serve(self, channel: socket.socket, serve: Callable[[socket.socket, str, int], None], port: int) -> None:
        with channel:
            try:
                channel.settimeout(CONNECT)
                words = read_line(channel).split(" ")
                if len(words) == 3 and words[:2] == [WORD, self.mark] and words[2] in self.peers:
                    serve(channel, words[2], port)
            except OSError:
                return

    def _answer(self, channel: socket.socket, _peer: str, port: int) -> None:
        channel.sendall(("%s %s %s %d\n" % (WORD, self.mark, self.here, port)).encode("utf-8"))

    def _exchange(self, channel: socket.socket, peer: str, _port: int) -> None:
        channel.settimeout(BULK_TIME)
        # The smallest first: it tells whether the port is open at all.
        channel.sendall(b"\n")
        take(channel, BULK)
        channel.sendall(bytes(BULK))
        take(channel, 1)
        self.came.add(peer)

    def _go(self, peer: str, deadline: float) -> None:
        while not self.over.is_set() and time.monotonic() < deadline:
            wrong, why = self._try(peer)
            # What came further tells more: in the end the other may have gone.
            if FURTHER.index(wrong) >= FURTHER.index(self.wrong[peer]):
                self.wrong[peer], self.reached[peer] = wrong, why
            if not why:
                return
            self.over.wait(PAUSE)

    def _try(self, peer: str) -> Tuple[str, str]:
        """What of it is wrong, and why; twice "" where nothing is."""
        address, hello = self.addresses[peer], ("%s %s %s\n" % (WORD, self.mark, self.here)).encode("utf-8")
        own = (self.addresses[self.here], 0)
        where = "%s port %d: " % (address, self.port)
        try:
            with socket.create_connection((address, self.port), CONNECT, own) as channel:
                channel.sendall(hello)
                words = read_line(channel).split(" ")
        except OSError as error:
            return PORT, where + reason(error)
        if words[:3] != [WORD, self.mark, peer] or len(words) != 4 or not words[3].isdigit():
            return PORT, where + "another program, or another host, answers there"
        any_port = int(words[3])
        try:
            with socket.create_connection((address, any_port), CONNECT, own) as channel:
                channel.settimeout(CONNECT)
                channel.sendall(hello)
                take(channel, 1)
                return self._bulk(channel, address)
        except OSError as error:
            said = "port %d is open, and port %d, one of those that NCCL chooses by itself, is not: %s"
            return ANY_PORT, "%s: %s" % (address, said % (self.port, any_port, reason(error)))

    @staticmethod
    def _bulk(channel: socket.socket, address: str) -> Tuple[str, str]:
        channel.settimeout(BULK_TIME)
        try:
            channel.sendall(bytes(BULK))
            take(channel, BULK)
            channel.sendall(b"\n")
        except OSError:
            return LARGE, "%s: small packets arrive, those of full size do not (MTU on the way?)" % address
        return "", ""
