# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who listens on this host, from the tables of /proc/net (proc(5)). All but `read` and `unbindable` is pure.

`tables` maps tcp, tcp6, udp, udp6 to the text of /proc/net/<that name>.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from typing import Dict, List, Mapping, NamedTuple, Set

TABLES = ("tcp", "tcp6", "udp", "udp6")
LISTEN = "0A"  # TCP_LISTEN, include/net/tcp_states.h
UNCONNECTED = "07"  # TCP_CLOSE: of UDP a socket that takes packets from anybody


class Listener(NamedTuple):
    """A socket that takes what others send: `uid` is the user that made it, `inode` what a process' fd names."""

    protocol: str
    address: str
    port: int
    uid: int
    inode: str


def _address(text: str) -> str:
    """`0100007F` as 127.0.0.1: 32-bit words, each in the byte order of the machine (net/ipv4/tcp_ipv4.c)."""
    words = [int(text[start : start + 8], 16).to_bytes(4, sys.byteorder) for start in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(words))
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def listeners(tables: Mapping[str, str]) -> List[Listener]:
    """Every socket that listens. Lines that are not the kernel's are passed over."""
    found = []
    for protocol, text in tables.items():
        state = LISTEN if protocol.startswith("tcp") else UNCONNECTED
        for line in text.splitlines()[1:]:
            columns = line.split()
            if len(columns) > 9 and columns[3] == state:
                address, _colon, port = columns[1].rpartition(":")
                found.append(Listener(protocol, _address(address), int(port, 16), int(columns[7]), columns[9]))
    return found


def answering(tables: Mapping[str, str], address: str, port: int) -> List[Listener]:
    """The TCP listeners that get a connection to `address`: those of that very address, else those of every address.

    Source: inet_lookup_listener, net/ipv4/inet_hashtables.c.
    """
    here = [found for found in listeners(tables) if found.protocol.startswith("tcp") and found.port == port]
    exact = [found for found in here if found.address == address]
    everywhere = ("::",) if ":" in address else ("0.0.0.0", "::")
    return exact or [found for found in here if found.address in everywhere]


def strangers(tables: Mapping[str, str], address: str, port: int, uid: int) -> Set[int]:
    """The users other than `uid` that get a connection to `address`; empty also where nobody listens."""
    return {found.uid for found in answering(tables, address, port)} - {uid}


def read(directory: str = "/proc/net") -> Dict[str, str]:
    """The tables of this host; one that it does not have (no IPv6) is empty."""
    tables = {}
    for name in TABLES:
        try:
            with open(os.path.join(directory, name), encoding="ascii") as handle:
                tables[name] = handle.read()
        except OSError:
            tables[name] = ""
    return tables


def addresses(host: str, port: int) -> List[str]:
    """The addresses that a name means here. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def unbindable(host: str) -> str:
    """Why nothing on this host can listen on an address or name, in the system's words; "" where something can."""
    said = "it has no address"
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        return getattr(error, "strerror", None) or str(error)
    for family, kind, protocol, _name, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(address)
            return ""
        except OSError as error:
            said = error.strerror or str(error)
    return said
