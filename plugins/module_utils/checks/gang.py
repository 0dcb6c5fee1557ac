# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks between hosts that serve one model together. Pure; section `gang`.

The section is `{here, hosts, looks, met, away, problem}`: this host and all of the gang by rank, what each told
(look_gang.py, with its clock), what each found of each other when they met (gang/meet.py), and why those that told
nothing are not there. It is empty for a host that is in no gang. Each host of a gang gets the same results.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.check import (
    Skip,
    Unknown,
    Verdict,
    check,
    fail,
    ok,
    warn,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.gang import compare, meet

Facts = Dict[str, Any]
PAGE = "docs/several-hosts.md"


def gang(facts: Facts) -> Dict[str, Any]:
    """Skip where the host is in no gang; Unknown where nobody has asked the others."""
    found: Dict[str, Any] = facts["gang"]
    if not found:
        raise Skip("it serves no model together with other hosts")
    if found.get("looks") is None:
        raise Unknown("its other hosts were not asked: dsdeploy doctor, with all of %s" % ", ".join(found["hosts"]))
    return found


def there(facts: Facts) -> Tuple[List[str], Dict[str, Dict[str, Any]]]:
    """The hosts that told something, by rank, and what. Unknown where there are no two."""
    found = gang(facts)
    looks: Dict[str, Dict[str, Any]] = found["looks"]
    hosts = [host for host in found["hosts"] if host in looks]
    if len(hosts) < 2:
        raise Unknown("no other of its hosts was looked at: %s" % listed(found["away"]))
    return hosts, looks


def listed(away: Dict[str, str]) -> str:
    return "; ".join("%s %s" % pair for pair in sorted(away.items()))


def unless(lines: List[str], value: Any, expected: str, otherwise: Callable[[Any, str], Verdict] = fail) -> Verdict:
    """A pass with the value where no line says what is wrong."""
    return otherwise("; ".join(lines), expected) if lines else ok(value, expected)


def same(facts: Facts, what: str, key: str) -> Verdict:
    """Whether all have the same value, and one at all."""
    hosts, looks = there(facts)
    values = {host: looks[host].get(key) for host in hosts}
    if not any(values.values()):
        raise Skip("none of them has one")
    lines = compare.different(what, hosts, values)
    return unless(lines, values[hosts[0]], "the same on all")


@check(
    "gang_hosts",
    title="all hosts of the gang are there",
    why="A gang starts as one, and stops as one: without one of its hosts nothing is served.",
    fix="dsdeploy doctor with all of its hosts (--limit HOST,HOST); what keeps one away is said beside its name",
    source=PAGE,
)
def hosts(facts: Facts) -> Verdict:
    found = gang(facts)
    expected = ", ".join(found["hosts"])
    if found.get("problem"):
        return fail(found["problem"], expected)
    dead = {host: why for host, why in found["away"].items() if why == UNREACHABLE}
    if dead:
        return fail(listed(dead), expected)
    if found["away"]:
        raise Unknown(listed(found["away"]))
    return ok(expected, expected)


UNREACHABLE = "cannot be reached"
OUTSIDE = "is not part of this run"


@check(
    "gang_driver",
    title="the hosts of the gang have one driver",
    why="CUDA and NCCL of two drivers do not agree on what they send each other: the engine hangs at its start.",
    fix="dsdeploy prepare on the host with the older one (nvidia_driver_version names one for all)",
    source=PAGE,
)
def driver(facts: Facts) -> Verdict:
    return same(facts, "driver", "driver")


@check(
    "gang_gpus",
    title="the hosts of the gang have the same GPUs",
    why="A model is cut into equal parts: the smallest GPU decides what fits, the slowest how fast it is.",
    fix="dsdeploy doctor --only gpu; nvidia-smi -L on both hosts",
    source=PAGE,
)
def gpus(facts: Facts) -> Verdict:
    return same(facts, "GPUs", "gpus")


@check(
    "gang_release",
    title="the hosts of the gang have one release of the engine",
    why="Two versions, or two locks of one version, pass each other messages that neither understands.",
    fix="dsdeploy up with all hosts of the gang",
    source=PAGE,
)
def release(facts: Facts) -> Verdict:
    return same(facts, "release", "release")


@check(
    "gang_model",
    title="the hosts of the gang have the same files of the model",
    why="With other weights on one host the answers are wrong, and nothing says so.",
    fix="dsdeploy model verify; dsdeploy up with all hosts of the gang",
    source=PAGE + " (sha256 of the manifest)",
)
def model(facts: Facts) -> Verdict:
    return same(facts, "model", "model")


@check(
    "gang_running",
    title="the engine runs on all hosts of the gang, or on none",
    why="A rank alone waits for the others, and holds its GPUs.",
    fix="dsdeploy up with all hosts of the gang; dsdeploy logs of the host where it does not run",
    source=PAGE,
)
def running(facts: Facts) -> Verdict:
    names, looks = there(facts)
    states = {host: looks[host].get("active") for host in names}
    if not all(looks[host].get("release") for host in names):
        raise Skip("it is not deployed on all of them")
    unread = [host for host in names if not states[host]]
    if unread:
        raise Unknown("the service's manager could not be asked on %s" % ", ".join(unread))
    said = ", ".join("%s %s" % pair for pair in states.items())
    up = [host for host, state in states.items() if state in ("running", "starting")]
    return fail(said, "running on all or on none") if up and len(up) < len(states) else ok(said, "on all or on none")


@check(
    "gang_clock",
    title="the clocks of the gang agree",
    why="Logs of the hosts cannot be read together, and certificates and tokens are not valid yet, or any more.",
    fix="systemctl enable --now chrony (or systemd-timesyncd) on each; chronyc tracking",
    source="gang/compare.py (30 s)",
)
def clock(facts: Facts) -> Verdict:
    names, looks = there(facts)
    return unless(compare.clocks(names, looks), "they agree", "at most 30 s apart")


@check(
    "gang_names",
    title="the address of each host means that host on all of them",
    why="The ranks look for the first one at its address: another host there, or none, is waited for without an end.",
    fix="set dsdeploy_gang_address of each host to an address in the gang's network; dsdeploy up",
    source=PAGE,
)
def names(facts: Facts) -> Verdict:
    found, looks = there(facts)
    lines = ["%s: %s" % (host, looks[host]["problem"]) for host in found if looks[host].get("problem")]
    lines += compare.names(found, looks)
    said = ", ".join("%s %s" % (host, looks[host].get("address")) for host in found)
    return unless(lines, said, "its own address on all")


def meeting(facts: Facts, *kinds: str) -> List[str]:
    """Who does not come to whom, of these kinds."""
    found = gang(facts)
    there(facts)
    if isinstance(found["met"], str):
        raise Unknown(found["met"])
    return [
        "%s does not come to %s: %s" % (host, peer, one["why"])
        for host in found["hosts"]
        for peer, one in sorted(found["met"].get(host, {}).items())
        if one["wrong"] in kinds
    ]


@check(
    "gang_ports",
    title="each host of the gang reaches each other on every port",
    why="NCCL and the engine's processes choose ports by themselves: behind a firewall they wait until a time-out.",
    fix="let the hosts of a gang reach each other on all TCP ports of their own network (ufw allow from ADDRESS)",
    source="NCCL user guide, NCCL_SOCKET_IFNAME; vLLM, docs/usage/security.md (inter-node communication)",
)
def ports(facts: Facts) -> Verdict:
    return unless(meeting(facts, meet.PORT, meet.ANY_PORT), "both ways", "both ways")


@check(
    "gang_mtu",
    title="packets of full size arrive, and the links of the gang have one MTU",
    why="A link or switch with a smaller MTU drops the large packets without a word: NCCL starts, and then hangs.",
    fix="ip link set INTERFACE mtu SIZE, one size on all hosts and switches; ping -M do -s SIZE-28 OTHER tries it",
    source="RFC 2923, 2.1 (black holes); gang/meet.py (256 KiB each way within 5 s)",
)
def mtu(facts: Facts) -> Verdict:
    found, looks = there(facts)
    sizes = ", ".join(sorted({str(looks[host].get("mtu") or "unknown") for host in found}))
    lines = compare.mtus(found, looks) + meeting(facts, meet.LARGE)
    if not lines and meeting(facts, meet.PORT, meet.ANY_PORT):
        raise Unknown("they do not reach each other: nothing could be sent")
    return unless(lines, sizes, "one size, all the way")


@check(
    "gang_rdma",
    title="the hosts of the gang have RDMA devices alike",
    why="With RDMA on one side alone NCCL goes over TCP, a tenth of the speed or less.",
    fix="ibstat and rdma link on both; dsdeploy doctor --only network",
    source="NCCL user guide, NCCL_IB_HCA, NCCL_IB_GID_INDEX",
)
def rdma(facts: Facts) -> Verdict:
    found, looks = there(facts)
    if not any(looks[host].get("hcas") for host in found):
        raise Skip("none of them has a port that works")
    counts = {host: "%d devices" % len(looks[host].get("hcas") or []) for host in found}
    indexes = {host: "GID index %s" % looks[host].get("gid_index") for host in found}
    lines = compare.different("RDMA", found, counts) + compare.different("RoCE", found, indexes)
    return unless(lines, counts[found[0]], "the same on all", warn)
