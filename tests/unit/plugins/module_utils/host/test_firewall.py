# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rules are opened and closed, in the words of ufw 0.36 and firewalld 1.3."""

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.host.firewall import command, listed, network_of, plan

UFW = """Added user rules (see 'ufw status' for running firewall):
ufw allow 22/tcp
ufw allow OpenSSH
ufw allow from 10.1.0.0/16 to any port 11434 proto tcp
ufw allow from 10.2.3.4 to any port 11434
ufw allow from 10.3.0.0/16 to any port 11434 proto udp
ufw deny from 10.4.0.0/16 to any port 11434 proto tcp
ufw allow from 10.5.0.0/16 to any port 1000:2000 proto tcp
ufw allow from fd00::/8 to any port 11434 proto tcp comment 'mine'
ufw allow in on eth0 from 10.6.0.0/16 to any port 80 proto tcp
"""
FIREWALLD = """rule family="ipv4" source address="10.1.0.0/16" port port="11434" protocol="tcp" accept
rule family="ipv6" source address="fd00::/8" port port="11434" protocol="tcp" accept
rule family="ipv4" source address="10.2.0.0/16" port port="11434" protocol="tcp" drop
rule family="ipv4" source address="10.3.0.0/16" service name="http" accept
"""


def test_what_ufw_lists():
    assert listed("ufw", UFW) == {
        ("10.1.0.0/16", 11434),
        ("10.2.3.4", 11434),
        ("fd00::/8", 11434),
        ("10.6.0.0/16", 80),
    }


def test_what_firewalld_lists():
    assert listed("firewalld", FIREWALLD) == {("10.1.0.0/16", 11434), ("fd00::/8", 11434)}


@pytest.mark.parametrize(
    ("text", "network"),
    [("10.1.2.3/16", "10.1.0.0/16"), ("10.1.2.3", "10.1.2.3"), ("10.1.2.3/32", "10.1.2.3"), ("FD00::1/8", "fd00::/8")],
)
def test_networks_are_written_as_they_are_listed(text, network):
    assert network_of(text) == network


@pytest.mark.parametrize("text", ["10.0.0.0/33", "everybody", "", "10.0.0.0/8; reboot"])
def test_what_is_no_network(text):
    with pytest.raises(ValueError):
        network_of(text)


def rule(network, manager="ufw", port=11434):
    return {"manager": manager, "network": network, "port": port}


def test_commands():
    ufw = command(rule("10.0.0.0/8"), opens=True)
    assert ufw == "ufw allow proto tcp from 10.0.0.0/8 to any port 11434".split()
    assert command(rule("10.0.0.0/8"), opens=False) == ["ufw", "delete", *ufw[1:]]
    rich = 'rule family="ipv6" source address="fd00::/8" port port="11434" protocol="tcp" accept'
    for opens, word in ((True, "add"), (False, "remove")):
        made = command(rule("fd00::/8", "firewalld"), opens)
        assert made == ["firewall-cmd", "--permanent", f"--{word}-rich-rule={rich}"]
    # What is opened is found again.
    assert listed("firewalld", rich) == {("fd00::/8", 11434)}


def test_only_its_own_rules_are_closed():
    there = {"ufw": {("10.1.0.0/16", 11434), ("10.9.0.0/16", 11434)}}
    ours, users, new = rule("10.1.0.0/16"), rule("10.9.0.0/16"), rule("10.2.0.0/16")
    # The user's own is taken as it is, and never becomes ours.
    assert plan([ours], [ours, users, new], there) == ([new], [], [ours, new])
    assert plan([ours], [], there) == ([], [ours], [])
    assert plan([], [users], there) == ([], [], [])
    # One that somebody else has closed is opened again, or forgotten.
    assert plan([new], [new], there) == ([new], [], [new])
    assert plan([new], [], there) == ([], [], [])
    # Another port, another manager.
    moved = rule("10.1.0.0/16", port=8080)
    assert plan([ours], [moved], there) == ([moved], [ours], [moved])
