# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host of a gang tells, and how the hosts meet."""

import socket
import sys
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.gang import look, meet

sys.path.append(str(Path(__file__).resolve().parents[4] / "standins"))
from loopback import free_port  # noqa: E402


def hold(parts, timeout=5.0):
    """What each of several hosts found, all on loopback."""
    found = {}
    threads = [
        threading.Thread(target=lambda part=part: found.update({part.here: part.hold(timeout)})) for part in parts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def two(*runs, exchange=None):
    """The parts of two hosts; `exchange` takes the place of the second's."""
    port, addresses = free_port(), {"gpu1": "127.0.0.1", "gpu2": "127.0.0.2"}
    parts = [meet.Meeting(host, addresses, port, run) for host, run in zip(addresses, runs, strict=True)]
    if exchange:
        parts[1]._exchange = exchange
    return parts


def hold_until(said, *runs, **more):
    """Two that do not come together; with more time where this machine is busy, until each is told what it should be.

    Returns both parts and what they found.
    """
    for timeout in (1.0, 5.0, 30.0):
        parts = two(*runs, **more)
        found = hold(parts, timeout)
        if all(words in found[host][peer] for (host, peer), words in said.items()):
            break
    return (*parts, found)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(meet, "PAUSE", 0.02)


def test_hosts_that_reach_each_other_meet_at_once():
    port, addresses = free_port(), {"gpu1": "127.0.0.1", "gpu2": "127.0.0.2", "gpu3": "127.0.0.3"}
    began = time.monotonic()
    found = hold([meet.Meeting(host, addresses, port, "7") for host in addresses], timeout=60.0)
    assert found == {host: {peer: "" for peer in addresses if peer != host} for host in addresses}
    assert time.monotonic() - began < 20


def test_a_host_that_does_not_come_is_named_with_the_reason():
    port, addresses = free_port(), {"gpu1": "127.0.0.1", "gpu2": "127.0.0.2"}
    found = hold([meet.Meeting("gpu1", addresses, port, "7")], timeout=1.0)
    assert found["gpu1"]["gpu2"].startswith(f"127.0.0.2 port {port}: refused")


def test_what_another_run_has_left_does_not_count():
    said = {("gpu1", "gpu2"): "another program", ("gpu2", "gpu1"): "another program"}
    _first, _second, found = hold_until(said, "7", "8")
    for (host, peer), words in said.items():
        assert words in found[host][peer]


def test_a_firewall_that_opens_one_port_alone_is_seen():
    """The port that the system chose, as it chooses NCCL's, is not served by the second host."""
    said = "one of those that NCCL chooses by itself, is not"
    first, second, found = hold_until({("gpu1", "gpu2"): said}, "7", "7", exchange=lambda channel, peer, port: None)
    assert said in found["gpu1"]["gpu2"]
    assert (first.wrong["gpu2"], second.wrong["gpu1"], found["gpu2"]["gpu1"]) == (meet.ANY_PORT, "", "")


def test_a_way_that_drops_packets_of_full_size_is_seen(monkeypatch):
    monkeypatch.setattr(meet, "BULK_TIME", 0.1)

    def small_alone(channel, peer, port):
        channel.sendall(b"\n")
        time.sleep(0.3)

    said = "127.0.0.2: small packets arrive, those of full size do not"
    first, _second, found = hold_until({("gpu1", "gpu2"): said}, "7", "7", exchange=small_alone)
    assert found["gpu1"]["gpu2"].startswith(said)
    assert (first.wrong["gpu2"], found["gpu2"]["gpu1"]) == (meet.LARGE, "")


def test_what_came_further_is_what_is_told(monkeypatch):
    """The other host has gone meanwhile: that its port is closed then says nothing."""
    one = meet.Meeting("gpu1", {"gpu1": "127.0.0.1", "gpu2": "127.0.0.2"}, free_port(), "7")
    tries = [(meet.PORT, "refused"), (meet.LARGE, "small alone"), (meet.ANY_PORT, "closed"), (meet.PORT, "refused")]

    def attempt(peer):
        found = tries.pop(0)
        if not tries:
            one.over.set()
        return found

    monkeypatch.setattr(one, "_try", attempt)
    one._go("gpu2", time.monotonic() + 5)
    assert (one.wrong["gpu2"], one.reached["gpu2"]) == (meet.LARGE, "small alone")


def test_who_connects_and_says_nothing_holds_up_nobody(monkeypatch):
    monkeypatch.setattr(meet, "CONNECT", 60.0)
    parts, silent = two("7", "7"), []

    def connect():
        while not silent:
            try:
                silent.append(socket.create_connection(("127.0.0.1", parts[0].port)))
            except OSError:
                time.sleep(0.01)

    threading.Thread(target=connect, daemon=True).start()
    began = time.monotonic()
    assert hold(parts, timeout=120.0)["gpu2"] == {"gpu1": ""}
    assert time.monotonic() - began < meet.CONNECT
    for one in silent:
        one.close()


def test_a_port_that_is_taken_is_an_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="in use"):
            meet.Meeting("gpu1", {"gpu1": "127.0.0.1"}, taken.getsockname()[1], "7").hold(0.1)


def rdma_device(root, name, layer, state, gids):
    port = root / "sys/class/infiniband" / name / "ports/1"
    for folder in ("gids", "gid_attrs/types"):
        (port / folder).mkdir(parents=True)
    (port / "state").write_text(state + "\n")
    (port / "link_layer").write_text(layer + "\n")
    for index, (kind, gid) in enumerate(gids):
        (port / "gids" / str(index)).write_text(gid + "\n")
        (port / "gid_attrs/types" / str(index)).write_text(kind + "\n")


LINK_LOCAL, IPV4 = "fe80:0000:0000:0000:0e42:a1ff:fe00:0001", "0000:0000:0000:0000:0000:ffff:0a00:0001"


def test_the_gid_is_that_of_roce_v2_with_an_ipv4_address(tmp_path):
    gids = [("IB/RoCE v1", LINK_LOCAL), ("RoCE v2", LINK_LOCAL), ("IB/RoCE v1", IPV4), ("RoCE v2", IPV4)]
    rdma_device(tmp_path, "mlx5_0", "Ethernet", "4: ACTIVE", gids)
    rdma_device(tmp_path, "mlx5_1", "Ethernet", "1: DOWN", gids)
    rdma_device(tmp_path, "mlx5_2", "InfiniBand", "4: ACTIVE", [("IB/RoCE v1", LINK_LOCAL)])
    assert look.rdma(f"{tmp_path}/") == [
        {"name": "mlx5_0", "ethernet": True, "gid_index": 3},
        {"name": "mlx5_2", "ethernet": False, "gid_index": None},
    ]


def test_a_host_knows_its_own_address_and_link():
    found = look.look({"gpu1": "127.0.0.1"}, "gpu1")
    assert found["interface"] == "lo"
    assert found["mtu"] > 0
    assert found["resolved"] == {"gpu1": ["127.0.0.1"]}
    assert found["problem"].startswith("127.0.0.1 is a loopback address here")


@pytest.mark.parametrize(
    ("names", "interface", "problem"),
    [
        ({"gpu1": "192.0.2.7"}, "", "192.0.2.7 is not an address of this host's own (NAT?): set dsdeploy_gang_address"),
        ({"gpu1": "no.such.name.invalid"}, "", "its own address no.such.name.invalid cannot be resolved here: set "),
        # At these a guard would listen on all addresses, or for nobody.
        ({"gpu1": "0.0.0.0"}, "lo", "0.0.0.0 is not the address of one host: set dsdeploy_gang_address"),
        ({"gpu1": "::"}, "lo", ":: is not the address of one host: set dsdeploy_gang_address"),
        ({"gpu1": "224.0.0.1"}, "lo", "224.0.0.1 is not the address of one host: set dsdeploy_gang_address"),
        (
            {"gpu1": "255.255.255.255"},
            "lo",
            "255.255.255.255 is not the address of one host: set dsdeploy_gang_address",
        ),
    ],
)
def test_what_keeps_a_host_from_taking_part_is_said(names, interface, problem):
    assert look.look(names, "gpu1", interface)["problem"].startswith(problem)


@pytest.mark.parametrize(
    ("means", "taken"),
    [
        # As an installer of Debian, and a name server besides, have it.
        (["127.0.1.1", "192.168.0.5"], "192.168.0.5"),
        (["2001:db8::5", "203.0.113.5"], "203.0.113.5"),
        (["::1", "fd00::5"], "fd00::5"),
    ],
)
def test_of_several_addresses_the_one_that_others_reach_is_taken(monkeypatch, means, taken):
    monkeypatch.setattr(look, "resolve", lambda _name: means)
    monkeypatch.setattr(look, "is_own", lambda _address: True)
    found = look.look({"gpu1": "gpu1"}, "gpu1", "lo")
    assert (found["address"], found["problem"]) == (taken, "")
