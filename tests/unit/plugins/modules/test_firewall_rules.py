# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules are opened once, closed again, and those of the user are left alone: over a stand-in for ufw's command."""

import os

import pytest
from run_module import run

# Stand-in for ufw: its rules are the lines of a file.
UFW = """#!/bin/sh
cd "$STANDIN" || exit 1
[ ! -e broken ] || { echo 'ERROR: problem running' >&2; exit 1; }
case $1 in
show) echo "Added user rules:"; cat rules ;;
allow) echo "ufw allow from $5 to any port $9 proto tcp" >> rules; [ ! -e cut ] || kill -9 $PPID ;;
delete) grep -v "from $6 to any port ${10} " rules > rest; mv rest rules ;;
esac
"""


@pytest.fixture
def firewall(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ufw").write_text(UFW)
    (tmp_path / "bin" / "ufw").chmod(0o755)
    (tmp_path / "rules").write_text("ufw allow from 10.9.0.0/16 to any port 11434 proto tcp\n")
    return tmp_path


def rules(firewall, *networks, check=False, **more):
    arguments = {"name": "x", "directory": str(firewall / "noted"), "networks": list(networks), **more}
    if networks:
        arguments = {"manager": "ufw", "port": 11434, **arguments}
    environment = {"PATH": f"{firewall}/bin:{os.environ['PATH']}", "STANDIN": str(firewall)}
    return run("firewall_rules", arguments, check, environment)


def opened(firewall):
    return sorted(line.split()[3] for line in (firewall / "rules").read_text().splitlines())


def test_opened_once_and_closed_again(firewall):
    assert rules(firewall, "10.1.2.3/16", check=True)["changed"]
    assert opened(firewall) == ["10.9.0.0/16"]
    result = rules(firewall, "10.1.2.3/16", "10.9.0.0/16", "10.1.0.0/16")
    assert [rule["network"] for rule in result["opened"]] == ["10.1.0.0/16"]
    assert result["diff"]["after"] == "ufw: 10.1.0.0/16 to port 11434\n"
    assert opened(firewall) == ["10.1.0.0/16", "10.9.0.0/16"]
    assert not rules(firewall, "10.1.0.0/16", "10.9.0.0/16")["changed"]
    assert rules(firewall, "10.2.0.0/16")["changed"]
    assert opened(firewall) == ["10.2.0.0/16", "10.9.0.0/16"]
    assert rules(firewall, check=True)["changed"]
    assert rules(firewall)["changed"]
    assert opened(firewall) == ["10.9.0.0/16"]
    assert os.listdir(firewall / "noted") == []
    assert not rules(firewall)["changed"]


def test_a_run_that_is_cut_leaves_no_rule_behind(firewall):
    (firewall / "cut").touch()
    with pytest.raises((AssertionError, ValueError)):
        rules(firewall, "10.1.0.0/16")
    assert opened(firewall) == ["10.1.0.0/16", "10.9.0.0/16"]
    (firewall / "cut").unlink()
    assert rules(firewall)["changed"]
    assert opened(firewall) == ["10.9.0.0/16"]


def test_a_firewall_that_does_not_work(firewall):
    rules(firewall, "10.1.0.0/16")
    (firewall / "broken").touch()
    result = rules(firewall, "10.2.0.0/16")
    assert (result["failed"], result["error_kind"]) == (True, "preflight")
    assert result["msg"] == "ufw: ERROR: problem running"
    # What goes goes all the same; what stays open is said, and closed by the next run.
    result = rules(firewall)
    assert not result["changed"]
    said = "ufw: ERROR: problem running; what was opened by it stays: ufw: 10.1.0.0/16 to port 11434"
    assert said in str(result["warnings"])
    (firewall / "broken").unlink()
    assert rules(firewall)["changed"]
    assert opened(firewall) == ["10.9.0.0/16"]


@pytest.mark.parametrize("network", ["10.0.0.0/33", "everybody"])
def test_what_is_no_network(firewall, network):
    result = rules(firewall, network)
    assert (result["failed"], result["error_kind"]) == (True, "usage")
    assert network in result["msg"]
