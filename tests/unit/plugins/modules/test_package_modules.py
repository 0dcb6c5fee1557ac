# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""package_plan and package_hold over an apt that says what it is told to, and records what it is asked."""

import pytest
from run_module import run

MADISON = """\
driver | 550.90.12-1 | http://mirror ./ Packages
driver | 550.54.15-1 | http://mirror ./ Packages
fabric | 550.90.12-1 | http://mirror ./ Packages
headers | 6.1-1 | http://mirror ./ Packages
"""


@pytest.fixture
def apt(tmp_path):
    def script(name, text):
        (tmp_path / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/calls\n{text}\n')
        (tmp_path / name).chmod(0o755)

    script("apt-cache", f"cat <<'END'\n{MADISON}END")
    script("dpkg-query", "exit 1")
    script("apt-get", "exit 0")
    script("apt-mark", "test $1 != showhold || echo fabric")
    (tmp_path / "calls").touch()

    class Apt:
        calls = tmp_path / "calls"

        def run(self, module, check=False, **arguments):
            return run(module, arguments, check, {"PATH": f"{tmp_path}:/usr/bin:/bin"})

    Apt.script = staticmethod(script)
    return Apt()


def test_plan(apt):
    found = apt.run(
        "package_plan",
        prefix="x",
        packages=["driver", "fabric"],
        others=["headers"],
        branch="550",
        pin_patterns=["*nvidia*"],
    )
    assert found["version"] == "550.90.12"
    assert found["install"] == ["driver=550.90.12-1", "fabric=550.90.12-1", "headers"]
    assert found["preferences"].startswith("Package: *nvidia*\nPin: version 550.90.12-*\n")
    assert "apt-get install --simulate" in apt.calls.read_text()


def test_nothing_is_left_to_do(apt):
    apt.script("dpkg-query", "echo driver 550.54.15-1 installed")
    found = apt.run("package_plan", prefix="x", packages=["driver"], branch="550")
    assert (found["version"], found["install"]) == ("550.54.15", [])
    assert "apt-get" not in apt.calls.read_text()


def test_what_apt_cannot_install_is_said_in_one_line(apt):
    apt.script(
        "apt-get", "echo 'have unmet dependencies:\n driver : Depends: nowhere\nE: held broken packages.' >&2; exit 100"
    )
    found = apt.run("package_plan", prefix="x", packages=["driver"])
    assert found["failed"]
    assert found["msg"] == "the packages cannot be installed: driver : Depends: nowhere"
    assert found["error_kind"] == "preflight"


def test_headers_that_are_nowhere(apt):
    found = apt.run("package_plan", prefix="x", packages=["driver"], others=["linux-headers-1"])
    assert found["msg"] == "no repository of this host has the package linux-headers-1"
    assert "upgrade the kernel and boot it" in found["hint"]


@pytest.mark.parametrize("check", [False, True])
def test_hold(apt, check):
    found = apt.run("package_hold", check, names=["fabric", "driver"])
    assert (found["changed"], found["held"]) == (True, ["driver", "fabric"])
    assert found["diff"] == {"before": "fabric\n", "after": "driver\nfabric\n"}
    assert ("apt-mark hold driver" in apt.calls.read_text()) is not check


def test_hold_what_is_held(apt):
    assert apt.run("package_hold", names=["fabric"])["changed"] is False
    assert apt.run("package_hold", names=["fabric"], state="free")["changed"] is True
    assert "apt-mark unhold fabric" in apt.calls.read_text()
