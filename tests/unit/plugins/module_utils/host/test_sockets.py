"""Who listens, by the kernel's tables."""

from __future__ import annotations

import os
import socket

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import sockets

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
REST = "00000000:00000000 00:00000000 00000000"
# 127.0.0.1:8080 listening for uid 998, a connection of it (state 01), and every address on 8081 for uid 1000.
TCP = f"""{HEAD}\
   0: 0100007F:1F90 00000000:0000 0A {REST}   998        0 37014 1 0000000000000000 100
   1: 0100007F:1F90 0100007F:C3A2 01 {REST}   998        0 37015 1 0000000000000000 20
   2: 00000000:1F91 00000000:0000 0A {REST}  1000        0 37016 1 0000000000000000 100
"""
# [::1]:8080 for uid 997, [::]:8082 for uid 998, ::ffff:127.0.0.1 on 8083 for uid 998.
TCP6 = f"""{HEAD}\
   0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A {REST}   997        0 4 1
   1: 00000000000000000000000000000000:1F92 00000000000000000000000000000000:0000 0A {REST}   998        0 5 1
   2: 0000000000000000FFFF00000100007F:1F93 00000000000000000000000000000000:0000 0A {REST}   998        0 6 1
"""
UDP = f"{HEAD}   0: 0100007F:0035 00000000:0000 07 {REST}   101        0 8 2\n"
TABLES = {"tcp": TCP, "tcp6": TCP6, "udp": UDP, "udp6": ""}


def test_every_listener_is_found_and_no_connection():
    assert sockets.listeners(TABLES) == [
        sockets.Listener("tcp", "127.0.0.1", 8080, 998, "37014"),
        sockets.Listener("tcp", "0.0.0.0", 8081, 1000, "37016"),
        sockets.Listener("tcp6", "::1", 8080, 997, "4"),
        sockets.Listener("tcp6", "::", 8082, 998, "5"),
        sockets.Listener("tcp6", "127.0.0.1", 8083, 998, "6"),
        sockets.Listener("udp", "127.0.0.1", 53, 101, "8"),
    ]


@pytest.mark.parametrize(
    "address, port, uids",
    [
        ("127.0.0.1", 8080, [998]),  # not the one of [::1]
        ("::1", 8080, [997]),
        ("127.0.0.1", 8081, [1000]),  # every address is this one too
        ("::1", 8081, []),
        ("127.0.0.1", 8082, [998]),  # :: takes IPv4 as well
        ("::1", 8082, [998]),
        ("127.0.0.1", 8083, [998]),
        ("127.0.0.1", 53, []),  # of UDP
    ],
)
def test_who_gets_a_connection(address, port, uids):
    assert [found.uid for found in sockets.answering(TABLES, address, port)] == uids


def test_a_stranger_is_seen():
    assert sockets.strangers(TABLES, "127.0.0.1", 8080, 998) == set()
    assert sockets.strangers(TABLES, "127.0.0.1", 8081, 998) == {1000}
    assert sockets.strangers(TABLES, "127.0.0.1", 9, 998) == set()


def test_a_listener_for_one_address_comes_before_one_for_all():
    both = f"{TCP}   3: 0100007F:1F91 00000000:0000 0A {REST}   998        0 37017 1\n"
    assert sockets.strangers({"tcp": both}, "127.0.0.1", 8081, 998) == set()


@pytest.mark.parametrize("family, address", [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_what_the_kernel_says_of_a_socket_of_our_own(family, address):
    with socket.socket(family) as server:
        server.bind((address, 0))
        server.listen()
        port = server.getsockname()[1]
        (found,) = sockets.answering(sockets.read(), address, port)
        assert found.uid == os.geteuid()
        assert found.inode == str(os.fstat(server.fileno()).st_ino)
        assert address in sockets.addresses("localhost", port) or address == "::1"


def test_a_host_without_ipv6_has_no_table_of_it(tmp_path):
    (tmp_path / "tcp").write_text(TCP)
    assert sockets.read(str(tmp_path)) == {"tcp": TCP, "tcp6": "", "udp": "", "udp6": ""}
