# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hosts of a gang must have in common and have not, one line each. Pure; for `up` before it starts one, and
for the checks of `doctor`.

`hosts`: of the gang, by rank. `looks`: by host what it told (look.py), with `clock: {offset, error}`, in seconds
against the controller's.
"""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

CLOCK_SKEW = 30.0  # s that the clocks of two hosts of a gang may differ

Looks = Dict[str, Dict[str, Any]]


def different(what: str, hosts: Sequence[str], values: Dict[str, Any]) -> List[str]:
    """Hosts that have another value than the first."""
    head = hosts[0]
    return [
        "%s: %s has %s, %s has %s" % (what, head, values[head] or "none", host, values[host] or "none")
        for host in hosts[1:]
        if values[host] != values[head]
    ]


def same(places: Dict[str, Any]) -> List[str]:
    """Hosts that are one and the same under several names.

    :param places: by host what it says of itself (`host/lock.place`).
    """
    lines = []
    for place in dict.fromkeys(places.values()):
        names = [host for host, own in places.items() if own == place]
        if place and len(names) > 1:
            lines.append("%s are one and the same host" % " and ".join(names))
    return lines


def clocks(hosts: Sequence[str], looks: Looks) -> List[str]:
    lines = []
    head = looks[hosts[0]]["clock"]
    for host in hosts[1:]:
        clock = looks[host]["clock"]
        apart = abs(clock["offset"] - head["offset"])
        # What the way of the question may have taken is no difference.
        if apart - clock["error"] - head["error"] > CLOCK_SKEW:
            lines.append(
                "the clocks of %s and %s are %.0f s apart (%.0f s are allowed): synchronise them (chrony)"
                % (hosts[0], host, apart, CLOCK_SKEW)
            )
    return lines


def names(hosts: Sequence[str], looks: Looks) -> List[str]:
    """An address that is a name must mean the same host to all of them."""
    lines = []
    for host in hosts:
        own = looks[host].get("address")
        for other in hosts:
            found = looks[other].get("resolved", {}).get(host, [])
            if own and own not in found:
                lines.append(
                    "%s takes the address of %s for %s, its own is %s: set dsdeploy_gang_address to an address"
                    % (other, host, ", ".join(found) or "unknown", own)
                )
    return lines


def mtus(hosts: Sequence[str], looks: Looks) -> List[str]:
    found = {host: looks[host].get("mtu") for host in hosts}
    if len({mtu for mtu in found.values() if mtu}) > 1:
        return ["the MTU of their links differs: %s" % ", ".join("%s %s" % pair for pair in found.items())]
    return []
