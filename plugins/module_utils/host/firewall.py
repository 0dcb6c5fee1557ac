# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that let a network in to a TCP port, in the words of ufw and firewalld. All but `settle` and `read` is pure.

A rule is `{manager, network, port}`: `manager` is ufw or firewalld, `network` as `network_of` writes it.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shutil
from typing import Any, Dict, List, NamedTuple, Set, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils import places
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.files import make_directory, write_durably
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.process import run

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


class Settled(NamedTuple):
    """What was opened and closed, or would be; the rules that were ours and are; warnings for people."""

    opened: List[Rule]
    closed: List[Rule]
    before: List[Rule]
    after: List[Rule]
    warnings: List[str]


TIMEOUT = 60.0  # s; ufw waits for xtables' lock


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def parse_notes(text: str) -> List[Rule]:
    """The rules in the text of a note. ValueError, one line, for what is none."""
    try:
        rules = foreign.loads(text)
    except ValueError:
        raise ValueError("not JSON") from None
    if not isinstance(rules, list):
        raise ValueError("not a list of rules")
    for rule in rules:
        if not isinstance(rule, dict) or rule.get("manager") not in MANAGERS or not _is_number(rule.get("port")):
            raise ValueError("not a list of rules")
        if not isinstance(rule.get("network"), str) or not 0 < rule["port"] < 65536:
            raise ValueError("not a list of rules")
        network_of(rule["network"])
    return rules


def read(path: str) -> List[Rule]:
    """The rules that are noted in a file; none where there is no file. Failure for what is no such note."""
    try:
        return parse_notes(foreign.read_text(path))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise Failure(
            "%s, where dsdeploy notes what it has opened in the firewall, cannot be read: %s" % (path, reason),
            hint="See what is open (ufw status, firewall-cmd --list-rich-rules), close what is not wanted, remove it.",
        ) from None


def note(path: str, rules: List[Rule]) -> None:
    """Rules that are ours, or are about to be; no file where there are none."""
    if not rules:
        if os.path.lexists(path):
            os.unlink(path)
        return
    make_directory(os.path.dirname(path))
    write_durably(path, json.dumps(rules))


def lines(rules: List[Rule]) -> str:
    """Rules for people, sorted, one a line."""
    return "".join(sorted("%(manager)s: %(network)s to port %(port)s\n" % rule for rule in rules))


def _do(argv: List[str]) -> None:
    done = run(argv, TIMEOUT)
    if done.rc != 0:
        said = " ".join((done.stderr or done.stdout).split()) or "no answer"
        raise Failure("%s: %s" % (" ".join(argv), said[:300]), error_kind="")


def settle(name: str, wanted: List[Rule], check_mode: bool, directory: str = "") -> Settled:
    """Open the wanted rules of a service, and close those that were opened for it and are wanted no more.

    Which are ours is noted before the firewall is changed, so that a run that is cut leaves none behind.

    :raises Failure: the note cannot be read, or the firewall that is wanted cannot be asked or changed.
    """
    path = os.path.join(directory or places.FIREWALL, name + ".json")
    before = read(path)
    there: Dict[str, Set[Tuple[str, int]]] = {}
    out_of_reach: List[Rule] = []
    warnings: List[str] = []
    for manager in sorted({rule["manager"] for rule in before + wanted}):
        listing = LISTING[manager]
        problem = "%s is not on this host" % manager
        if shutil.which(listing[0]):
            done = run(listing, TIMEOUT)
            there[manager] = listed(manager, done.stdout)
            problem = "%s: %s" % (manager, " ".join((done.stderr or done.stdout).split())) if done.rc else ""
        if problem and manager in (rule["manager"] for rule in wanted):
            raise Failure(problem, hint="Install and start it, or choose another way.")
        if problem:
            mine = [rule for rule in before if rule["manager"] == manager]
            out_of_reach += mine
            warnings.append("%s; what was opened by it stays: %s" % (problem, lines(mine).replace("\n", " ").strip()))
    todo = plan(before, wanted, there)
    if not check_mode:
        note(path, before + [rule for rule in todo.ours if rule not in before])
        for rule in todo.closes:
            _do(command(rule, opens=False))
        for rule in todo.opens:
            _do(command(rule, opens=True))
        for manager in sorted({rule["manager"] for rule in todo.opens + todo.closes} & set(RELOAD)):
            _do(RELOAD[manager])
        note(path, todo.ours + out_of_reach)
    return Settled(todo.opens, todo.closes, before, todo.ours + out_of_reach, warnings)
