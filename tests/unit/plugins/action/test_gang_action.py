# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action gang: what each host of a gang decides from what all of them have registered."""

import types

import pytest
from ansible_collections.dsdeploy.llm.plugins.action import gang
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

LOOKED = {"gang": {"name": "", "hosts": ["gpu1", "gpu2"]}, "look": {}}


def step(state, gpu1=None, gpu2=None, here="gpu1", **args):
    """What host `here` makes of what both have registered, beside their looks."""
    action = types.SimpleNamespace(args={"at": "met", "stop_timeout": 600, **args}, here=here, active=["gpu1", "gpu2"])
    action.hostvars = {
        "gpu1": dict({gang.LOOKED: LOOKED}, **(gpu1 or {})),
        "gpu2": dict({gang.LOOKED: LOOKED}, **(gpu2 or {})),
    }
    for name in ("registered", "gang", "told", "require", "records"):
        setattr(action, name, types.MethodType(getattr(gang.ActionModule, name), action))
    return gang.ActionModule.STATES[state](action)


HERE = {gang.HERE: {"here": True}}
SAME = {gang.FETCHED: {"model_files": {"digest": "a" * 64}}}


def test_a_whole_gang_is_started():
    assert step("whole", {**HERE, **SAME}, {**HERE, **SAME}, at="start") == {}


def test_a_host_that_failed_on_the_way_keeps_the_others_from_starting():
    with pytest.raises(Failure) as caught:
        step("whole", {**HERE, **SAME}, SAME, at="start")
    assert str(caught.value).startswith("gpu2 of the gang of gpu1, gpu2 cannot be reached, or was refused before")


def test_a_host_without_a_release_to_go_back_to_keeps_the_others_from_going_back():
    ready = {gang.READY: {"here": True}}
    assert step("whole", ready, ready, at="ready") == {}
    # That it came as far as a start in an earlier step is another matter.
    with pytest.raises(Failure, match="^gpu2 of the gang of gpu1, gpu2 cannot be reached, or was refused before"):
        step("whole", {**ready, **HERE}, HERE, at="ready")


def test_other_files_of_the_model_keep_it_from_starting():
    with pytest.raises(Failure, match="have different files of the model .*gpu1 has aaaaaaaaaaaa, gpu2 has none"):
        step("whole", {**HERE, **SAME}, {**HERE, gang.FETCHED: {"failed": True}}, at="start")


def test_who_could_not_reach_whom_fails_on_both():
    met = {gang.MET: {"reached": {"gpu1": "10.0.0.1 port 29400: no route"}}}
    for here in ("gpu1", "gpu2"):
        with pytest.raises(Failure, match="gpu2 cannot reach gpu1: 10.0.0.1 port 29400: no route"):
            step("whole", {gang.MET: {"reached": {"gpu2": ""}}}, met, here=here)


def would(actions, active):
    return {gang.WOULD: {"actions": actions, "state": {"active": active}}}


@pytest.mark.parametrize(
    ("gpu1", "gpu2", "stops"),
    [
        (would([], "running"), would([], "running"), False),
        (would(["restart"], "running"), would([], "running"), True),
        (would([], "running"), would(["start"], "stopped"), True),
        (would(["enable", "start"], "absent"), would(["enable", "start"], "absent"), False),
    ],
)
def test_all_ranks_stop_where_one_is_to_start_anew(gpu1, gpu2, stops):
    head, other = (step("stopping", gpu1, gpu2, here=here) for here in ("gpu1", "gpu2"))
    assert head["stop"] is other["stop"] is stops
    assert "warnings" not in other
    if stops:
        assert head["warnings"] == [
            "the gang of gpu1, gpu2 stops and starts as one: there are no answers until it is ready again (how long is "
            "not known, as no start of it was seen; at most 10 min)"
        ]


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        ({"ready_s": 272}, "(about 5 min, as the last start of 0.31.0 took 272 s; at most 10 min)"),
        ({"ready_s": 45}, "(about 45 s, as the last start of 0.31.0 took 45 s; at most 10 min)"),
        (None, "(how long is not known, as no start of it was seen; at most 10 min)"),
    ],
)
def test_the_length_of_an_outage_is_that_of_the_last_start(measured, said):
    own = {"engine": "vllm", "version": "0.31.0", "gang": {"hosts": ["gpu1", "gpu2"]}, "measured": measured}
    others = {"engine": "sglang", "version": "1", "gang": {"hosts": ["gpu1"]}, "measured": {"ready_s": 1}}
    facts = {"ansible_facts": {"dsdeploy_deployments": [others, own]}}
    head = step("stopping", {**would(["restart"], "running"), **facts}, would([], "running"))
    assert head["warnings"][0].endswith(said)


def test_what_the_first_host_heard_counts_for_all():
    assert step("answered", {gang.ASKED: {"answer": "ok"}}, here="gpu2") == {}
    for asked in ({}, {gang.ASKED: {"failed": True, "msg": "no answer within 300 s"}}):
        with pytest.raises(Failure, match="the gang of gpu1, gpu2 does not answer"):
            step("answered", asked, here="gpu2")


RECORD = {"name": "", "hosts": ["gpu1", "gpu2"], "rank": 1}


def recorded(play, partly=False):
    action = types.SimpleNamespace(args={"record": RECORD, "partly": partly}, vars={"ansible_play_hosts_all": play})
    action.require = types.MethodType(gang.ActionModule.require, action)
    return gang.ActionModule.STATES["recorded"](action)


def test_a_gang_that_serves_is_known_by_its_record():
    found = recorded(["gpu1", "gpu2", "gpu3"])
    assert found["gang"] == {"name": "", "hosts": ["gpu1", "gpu2"], "rank": 1, "size": 2, "head": "gpu1"}
    assert found["warnings"] == []


def test_a_part_of_a_gang_is_not_rolled_back_and_a_stop_says_what_becomes_of_the_rest():
    with pytest.raises(Failure) as caught:
        recorded(["gpu2"])
    assert str(caught.value) == "it is one gang on gpu1, gpu2, and is changed as a whole or not at all: without gpu1"
    assert caught.value.hint == "Name all of them: --limit gpu1,gpu2"
    warned = recorded(["gpu2"], partly=True)["warnings"]
    assert warned == ["it is one gang on gpu1, gpu2: gpu1 will stop, and wait for its other hosts"]
