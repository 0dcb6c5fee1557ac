# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service's user and its group, when they go."""

import grp
import pwd
from types import SimpleNamespace

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import accounts

NAME = "dsdeploy-vllm"


@pytest.mark.parametrize(
    ("people", "left", "done"),
    [
        ([], "", [["userdel", NAME], ["groupdel", NAME]]),
        (["bob"], f"group {NAME}: the primary group of bob", [["userdel", NAME]]),
    ],
)
def test_a_group_that_is_somebody_s_own_stays_and_is_named(monkeypatch, people, left, done):
    """groupdel refuses it: the purge would end half way, and each further one, too."""
    notes, ran = {"users": {NAME: {}}, "groups": {NAME: {}}}, []
    monkeypatch.setattr(accounts.owned, "load", lambda: notes)
    monkeypatch.setattr(accounts.owned, "forget", lambda kind, name: notes[kind].pop(name, None))
    monkeypatch.setattr(accounts, "_do", ran.append)
    monkeypatch.setattr(grp, "getgrnam", lambda name: SimpleNamespace(gr_gid=997))
    everybody = [SimpleNamespace(pw_name=name, pw_gid=997) for name in people]
    monkeypatch.setattr(pwd, "getpwall", lambda: [*everybody, SimpleNamespace(pw_name="root", pw_gid=0)])
    assert accounts.remove_user(NAME) == left
    assert ran == done and notes == {"users": {}, "groups": {}}
