# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action python_releases: no host of a gang notes a release that its first one was not heard to answer with."""

import types

import pytest
from ansible_collections.dsdeploy.llm.plugins.action import gang, python_releases

ABOUT = {gang.LOOKED: {"gang": {"name": "", "hosts": ["gpu1", "gpu2"]}}}


def run(of_gang, asked):
    """(result, whether the host was asked)."""
    sent = []
    action = python_releases.ActionModule.__new__(python_releases.ActionModule)
    action._task = types.SimpleNamespace(args={"root": "/opt/dsdeploy/vllm", "of_gang": of_gang}, async_val=0)
    action._execute_module = lambda task_vars: sent.append(1) or {"changed": True}
    hostvars = {"gpu1": {**ABOUT, **({gang.ASKED: asked} if asked else {})}, "gpu2": ABOUT}
    base = python_releases.ActionBase
    before, base.run = base.run, lambda self, tmp, task_vars: {}
    try:
        return action.run(None, {"inventory_hostname": "gpu2", "hostvars": hostvars}), bool(sent)
    finally:
        base.run = before


@pytest.mark.parametrize("of_gang", [False, True, "False"])
def test_a_host_is_asked_where_the_gang_answers_and_where_there_is_none(of_gang):
    assert run(of_gang, {"answer": "ok"}) == ({"changed": True}, True)


@pytest.mark.parametrize("asked", [None, {"skipped": True}, {"failed": True, "msg": "no answer", "hint": "Look."}])
def test_nothing_is_noted_where_the_first_host_did_not_answer(asked):
    result, sent = run("True", asked)
    assert not sent
    assert result["failed"] and result["error_kind"] == "verify"
    said = (asked or {}).get("msg") or "its first host was not asked"
    assert result["msg"] == "the gang of gpu1, gpu2 does not answer: " + said
