# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the network: names, links, InfiniBand. Pure; sections `network`, `infiniband`, `listeners`."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Set, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.check import (
    Skip,
    Unknown,
    Verdict,
    check,
    fail,
    ok,
    warn,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.urls import is_loopback

FLAPS_MOST = 5  # times since the boot
MTU_LEAST = 4200  # bytes; RoCE then sends 4096 at a time, over an interface with 1500 it sends 1024

Facts = Dict[str, Any]


@check(
    "network_name",
    title="the host's own name means an address",
    why="torch.distributed and NCCL look up the own name: engines over several GPUs wait until a time-out.",
    fix='echo "127.0.1.1 $(hostname)" >> /etc/hosts',
    source="vllm#12670, sglang#3656; hosts(5)",
    when=("prepare", "up"),
)
def own_name(facts: Facts) -> Verdict:
    found = facts["network"]
    if found["addresses"]:
        return ok("%s is %s" % (found["name"], found["addresses"][0]), "an address")
    return warn("%s means none: %s" % (found["name"], found["problem"]), "an address")


@check(
    "network_links",
    title="the links of the network are up and stay up",
    why="A link that comes and goes ends transfers and, over several hosts, hangs NCCL.",
    fix="ethtool INTERFACE; dmesg | grep -i link; cable and port of the switch",
    source="docs.kernel.org/ABI/testing/sysfs-class-net (carrier_down_count); gpud",
    when=("prepare",),
)
def links(facts: Facts) -> Verdict:
    found = facts["network"]["links"]
    if not found:
        raise Skip("there is no interface but loopback")
    flaps = [
        "%s %d times" % (one["name"], one["downs"])
        for one in found
        if one["physical"] and (one["downs"] or 0) > FLAPS_MOST
    ]
    if flaps:
        return warn("went down: %s" % ", ".join(flaps), "at most %d times since the boot" % FLAPS_MOST)
    up = [one["name"] for one in found if one["state"] == "up" or (one["state"] == "unknown" and one["carrier"])]
    return ok("up: %s" % (", ".join(up) or "none but loopback"), "at most %d times down" % FLAPS_MOST)


@check(
    "network_infiniband",
    title="the ports of InfiniBand or RoCE are active, at one rate",
    why="NCCL goes over TCP when a port is down: a hundred times slower over several hosts.",
    fix="ibstat; cable, port of the switch, subnet manager",
    source="gpud, component infiniband; " + "github.com/Azure/azurehpc-health-checks",
    when=("prepare",),
)
def infiniband(facts: Facts) -> Verdict:
    ports = facts["infiniband"]
    if not ports:
        raise Skip("there is none")
    active = [one for one in ports if one["state"] == "ACTIVE"]
    # What ports of the same card run at: those for storage are of another.
    usual: Dict[str, str] = {}
    for one in active:
        usual[one["card"]] = max(one["rate"], usual.get(one["card"], ""), key=_gbit)
    down = [
        "%s port %s is %s" % (one["device"], one["port"], one["state"]) for one in ports if one["state"] != "ACTIVE"
    ]
    # Ports without a cable are usual; those that were active once are not.
    lost = [one for one in ports if one["state"] != "ACTIVE" and (one["downed"] or 0) > 0]
    slow = [
        "%s port %s runs at %s, others at %s" % (one["device"], one["port"], one["rate"], usual[one["card"]])
        for one in active
        if _gbit(one["rate"]) < _gbit(usual[one["card"]])
    ]
    if lost or not active:
        return fail("; ".join(down), "ACTIVE")
    flaps = [
        "%s went down %d times" % (one["device"], one["downed"]) for one in ports if (one["downed"] or 0) > FLAPS_MOST
    ]
    if slow or flaps:
        return warn("; ".join(slow + flaps), "ACTIVE, all at one rate")
    return ok("%d active at %s" % (len(active), ", ".join(sorted(set(usual.values())))), "ACTIVE, all at one rate")


def _gbit(rate: str) -> float:
    """400.0 of "400 Gb/sec (4X NDR)"."""
    found = re.match(r"([0-9.]+) Gb", rate)
    return float(found.group(1)) if found else 0.0


@check(
    "network_gpudirect",
    title="network cards may read GPU memory (GPUDirect RDMA)",
    why="Without it each message between hosts is copied through memory.",
    fix="modprobe nvidia-peermem; or NVIDIA's open kernel modules, which do it by dma-buf",
    source="docs.nvidia.com/cuda/gpudirect-rdma",
    when=("prepare",),
)
def gpudirect(facts: Facts) -> Verdict:
    if not facts["infiniband"] or not facts["driver"]["loaded_version"]:
        raise Skip("there is no InfiniBand, or no driver")
    if facts["driver"]["loaded_open"] or facts["driver"].get("peermem"):
        return ok("yes", "nvidia-peermem or open kernel modules")
    return warn("neither", "nvidia-peermem or open kernel modules")


def _roce(facts: Facts) -> List[Dict[str, Any]]:
    """The active RoCE ports. Skip where there is none."""
    found = [one for one in facts["infiniband"] if one["roce"] and one["state"] == "ACTIVE"]
    if not found:
        raise Skip("there is no RoCE")
    return found


@check(
    "network_gid",
    title="RoCE has a GID that NCCL can use over routers, under one index on all ports",
    why="With a GID of RoCE v1, or of a link-local address, NCCL over several hosts hangs or goes over TCP.",
    fix="give each RoCE interface an IPv4 address; take NCCL_IB_GID_INDEX out of the engine's environment",
    source="NCCL user guide, NCCL_IB_GID_INDEX; Linux, ABI/testing/sysfs-class-infiniband",
    when=("prepare",),
)
def gid(facts: Facts) -> Verdict:
    ports = _roce(facts)
    expected = "RoCE v2 with an IPv4 address"
    without = ["%s (%s)" % (one["device"], one["interface"] or "no interface") for one in ports if not one["gids"]]
    if without:
        return warn("none on %s" % ", ".join(without), expected)
    common = set(ports[0]["gids"]).intersection(*(one["gids"] for one in ports))
    for one in facts["deployments"]["records"]:
        asked = (one["environ"] or {}).get("NCCL_IB_GID_INDEX", "")
        if one["running"] and asked.isdigit() and int(asked) not in common:
            fix = "set NCCL_IB_GID_INDEX to %d" % min(common) if common else "take NCCL_IB_GID_INDEX out"
            said = "%s has NCCL_IB_GID_INDEX=%s" % (one["engine"], asked)
            return warn(said, expected, "%s in the engine's environment; dsdeploy up" % fix)
    indexes = ", ".join("%s %s" % (one["device"], "/".join(map(str, one["gids"]))) for one in ports)
    if not common:
        return warn("no index is the same on all: %s" % indexes, "one index on all ports")
    return ok("NCCL_IB_GID_INDEX=%d would do for all (%s)" % (min(common), indexes), expected)


@check(
    "network_mtu",
    title="the interfaces that carry RoCE send large packets, all of one size",
    why="Over an MTU of 1500 RoCE sends 1024 bytes at a time; with two sizes, messages between the two are lost.",
    fix="ip link set INTERFACE mtu 9000, in the network's configuration, too; the ports of the switch first",
    source="Linux, include/rdma/ib_addr.h (iboe_get_mtu)",
    when=("prepare",),
)
def mtu(facts: Facts) -> Verdict:
    sizes = {one["name"]: one["mtu"] for one in facts["network"]["links"]}
    found = {one["interface"]: sizes.get(one["interface"]) for one in _roce(facts) if one["interface"]}
    unread = sorted(name for name, size in found.items() if size is None)
    if unread or not found:
        raise Unknown("the MTU of %s cannot be read" % (", ".join(unread) or "its interfaces"))
    said = ", ".join("%s %d" % pair for pair in sorted(found.items()))
    bad = len(set(found.values())) > 1 or min(found.values()) < MTU_LEAST
    return (warn if bad else ok)(said, "one size, at least %d" % MTU_LEAST)


# Programs that serve models or run what they are sent, and ask nobody who they are, by the names of their processes.
# With how each kind of them is kept on this host.
_OPEN = (
    (r"ollama", "let it listen on 127.0.0.1 (OLLAMA_HOST=127.0.0.1)"),
    (
        r"vllm|sglang|VLLM::",
        "start it with --host 127.0.0.1, and for the sockets of its workers VLLM_HOST_IP or SGLANG_HOST_IP=127.0.0.1, "
        "GLOO_SOCKET_IFNAME=lo, NCCL_SOCKET_IFNAME=lo",
    ),
    (r"ray::|raylet|gcs_server", "ray start --node-ip-address 127.0.0.1 --dashboard-host 127.0.0.1"),
    (r"llama-server|jupyter|text-generation|lmdeploy|xinference", "let it listen on 127.0.0.1 (its --host or --ip)"),
)
_PORTS_NAMED = 3


def _fixes(programs: str) -> List[str]:
    return [fix for pattern, fix in _OPEN if re.search(pattern, programs)]


def _ports(ports: Set[int]) -> str:
    named, more = sorted(ports)[:_PORTS_NAMED], len(ports) - _PORTS_NAMED
    words = ", ".join(map(str, named)) + (" and %d more" % more if more > 0 else "")
    return "%s %s" % ("port" if len(ports) == 1 else "ports", words)


@check(
    "network_exposed",
    title="no model server of others listens beyond this host",
    why="Tens of thousands of open Ollama servers are found by scanners; Ray's ports run programs for anyone.",
    fix="let it listen on 127.0.0.1, or stand behind a proxy with a key",
    source="CVE-2023-48022 (Ray); Censys and SentinelLABS on Ollama (175,108 hosts)",
    when=("prepare", "up"),
)
def exposed(facts: Facts) -> Verdict:
    records = facts["deployments"]["records"]
    ours, users = {record["port"] for record in records}, {record["user"] for record in records}
    theirs = [one for one in facts["listeners"] if one["user"] not in users]
    hidden = [one for one in theirs if not is_loopback(one["address"]) and one["program"] is None]
    found: Dict[Tuple[str, str], Set[int]] = {}
    for one in theirs:
        if not is_loopback(one["address"]) and one["port"] not in ours and _fixes(one["program"] or ""):
            found.setdefault((one["program"], one["address"]), set()).add(one["port"])
    if found:
        said = ["%s on %s %s" % (*where, _ports(ports)) for where, ports in sorted(found.items())]
        fixes = _fixes(" ".join(program for program, _address in found))
        return fail("; ".join(said), "none", "; ".join([*fixes, "or let it stand behind a proxy with a key"]))
    usual = {11434: "Ollama's", 8265: "Ray's"}
    guessed = sorted(
        {
            "%s port %d is open" % (usual[one["port"]], one["port"])
            for one in hidden
            if one["port"] in usual and one["port"] not in ours
        }
    )
    return warn("; ".join(guessed), "none") if guessed else ok("none", "none")
