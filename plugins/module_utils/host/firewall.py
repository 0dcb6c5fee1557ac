# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that let a network in to a TCP port, in the words of ufw and firewalld. Pure functions.

A rule is `{manager, network, port}`: `manager` is ufw or firewalld, `network` as `network_of` writes it.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Dict, List, NamedTuple, Set, Tuple

Rule = Dict[str, Any]
MANAGERS = ("ufw", "firewalld")
# What lists the rules that are there, those of the next start among them.
LISTING = {
    "ufw": ["ufw", "show", "added"],
    "firewalld": ["firewall-cmd", "--permanent", "--list-rich-rules"],
}
# What makes rules that were changed count now.
RELOAD = {"firewalld": ["firewall-cmd", "--reload"]}
_RICH = re.compile(r'source address="([^"]+)" port port="([0-9]+)" protocol="tcp" accept')


def network_of(text: str) -> str:
    """A network as both managers list it: `10.1.2.3/16` is 10.1.0.0/16. ValueError for what is none."""
    network = ipaddress.ip_network(text, strict=False)
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def command(rule: Rule, opens: bool) -> List[str]:
    """What opens a rule, or closes it."""
    network, port = rule["network"], str(rule["port"])
    if rule["manager"] == "ufw":
        allow = ["allow", "proto", "tcp", "from", network, "to", "any", "port", port]
        return ["ufw"] + ([] if opens else ["delete"]) + allow
    family = "ipv6" if ":" in network else "ipv4"
    rich = 'rule family="%s" source address="%s" port port="%s" protocol="tcp" accept' % (family, network, port)
    return ["firewall-cmd", "--permanent", "--%s-rich-rule=%s" % ("add" if opens else "remove", rich)]


def listed(manager: str, listing: str) -> Set[Tuple[str, int]]:
    """(network, port) of the rules in what LISTING prints."""
    found = []
    for line in listing.splitlines():
        words = line.split()
        if manager == "firewalld":
            found += _RICH.findall(line)
        elif words[:2] == ["ufw", "allow"]:
            named = dict(zip(words, words[1:]))
            if named.get("proto", "tcp") == "tcp" and "from" in named and "port" in named:
                found.append((named["from"], named["port"]))
    known = set()
    for network, port in found:
        try:
            known.add((network_of(network), int(port)))
        except ValueError:
            continue  # `any`, a range of ports: never one of ours
    return known


class Plan(NamedTuple):
    """What to open and what to close, and which rules are then ours."""

    opens: List[Rule]
    closes: List[Rule]
    ours: List[Rule]


def plan(before: List[Rule], wanted: List[Rule], there: Dict[str, Set[Tuple[str, int]]]) -> Plan:
    """From the rules that are ours to the wanted ones.

    :param before: rules that an earlier run has opened.
    :param there: by manager, what `listed` finds. A rule that is there and not ours is the user's own, and stays so.
    """

    def exists(rule: Rule) -> bool:
        return (rule["network"], rule["port"]) in there.get(rule["manager"], set())

    opens = [rule for rule in wanted if not exists(rule)]
    closes = [rule for rule in before if rule not in wanted and exists(rule)]
    return Plan(opens, closes, [rule for rule in wanted if rule in before or rule in opens])
