# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action host_check: what the hosts of a gang are asked, and told of each other."""

import types

import pytest
from ansible_collections.dsdeploy.llm.plugins.action import host_check

HOSTS = ["gpu1", "gpu2"]


def look(host, hosts=tuple(HOSTS), **more):
    about = {"hosts": list(hosts), "here": host, "address": f"10.0.0.{host[-1]}"}
    return {host_check.LOOKED: {"gang_look": {**about, **more}}}


def action(here="gpu1", play=None, every=None, forks=5, answer=None, **registered):
    """The action of host `here`; what it asks of the host is in `asked`."""
    every = every or HOSTS
    found = types.SimpleNamespace(here=here, asked=[], hostvars={host: registered.get(host, {}) for host in every})
    found.vars = {
        "groups": {"all": every},
        "ansible_play_hosts": play or every,
        "ansible_play_hosts_all": every,
        "ansible_forks": forks,
    }

    def ask(args):
        found.asked.append(args)
        return answer(args) if answer else {"changed": False}

    found._ask = ask
    for name in ("_registered", "_value", "_look", "_by_inventory", "_meet", "_looks", "_others"):
        setattr(found, name, types.MethodType(getattr(host_check.ActionModule, name), found))
    return found


def test_a_host_is_asked_for_the_gang_that_its_inventory_has_and_its_clock_is_compared():
    answer = lambda args: {"gang_look": {"time": host_check.time.time() - 300, "hosts": HOSTS}}  # noqa: E731
    one = action(
        gpu1={"dsdeploy_gang": "g", "dsdeploy_gang_address": "10.0.0.1"},
        gpu2={"dsdeploy_gang": "g", "ansible_host": "10.0.0.2"},
        gpu3={},
        every=["gpu1", "gpu2", "gpu3"],
        answer=answer,
    )
    found = one._look({"gang": "look"})
    assert one.asked[0]["others"]["names"] == {"gpu1": "10.0.0.1", "gpu2": "10.0.0.2"}
    assert found["gang_look"]["clock"]["offset"] == pytest.approx(-300, abs=5)
    assert "time" not in found["gang_look"]


def test_hosts_without_a_name_are_cut_by_the_number_of_nodes():
    one = action(gpu1={"vllm_venv_nnodes": 2}, gpu2={"vllm_venv_nnodes": "2"})
    one._look({})
    assert list(one.asked[0]["others"]["names"]) == HOSTS


def test_an_inventory_that_contradicts_itself_is_told():
    odd = {"dsdeploy_gang": "g", "sglang_nnodes": 3}
    found = action(gpu1=odd, gpu2=odd, answer=lambda args: {"gang_look": {}})._look({})
    assert "the gang g has 2 hosts in the inventory" in found["gang_look"]["wrong"]
    others = action(gpu1={host_check.LOOKED: found}, gpu2={})._others()
    assert "the gang g has 2 hosts" in others["problem"]


def test_a_variable_that_cannot_be_told_is_as_if_it_were_not_set():
    class Broken(dict):
        def get(self, name, default=None):
            raise KeyError(name)

    one = action(gpu1=Broken(), gpu2={})
    one._look({})
    assert one.asked[0]["others"]["names"] == {}


def test_they_meet_where_both_told_something():
    one = action(gpu1=look("gpu1"), gpu2=look("gpu2"))
    one._meet({"gang": "meet"})
    asked = one.asked[0]["others"]
    assert asked["addresses"] == {"gpu1": "10.0.0.1", "gpu2": "10.0.0.2"}
    assert (asked["here"], asked["port"]) == ("gpu1", 29400)
    alone = action(gpu1=look("gpu1"), gpu2={})
    assert alone._meet({})["gang_met"] == {} and not alone.asked


def test_fewer_forks_than_hosts_of_gangs_are_said_and_nobody_waits():
    one = action(gpu1=look("gpu1"), gpu2=look("gpu2"), forks=1)
    said = one._meet({})["gang_met"]
    assert "Ansible works on 1 hosts at a time, and 2 belong to gangs" in said and not one.asked
    told = action(gpu1={**look("gpu1"), host_check.MET: {"gang_met": said}}, gpu2=look("gpu2"))._others()
    assert told["met"] == said


@pytest.mark.parametrize(
    ("play", "every", "second", "away"),
    [
        (None, None, look("gpu2"), {}),
        (["gpu1"], HOSTS, {}, {"gpu2": "cannot be reached"}),
        (["gpu1"], ["gpu1"], {}, {"gpu2": "is not part of this run"}),
        (None, None, look("gpu2", hosts=["gpu2", "gpu9"]), {"gpu2": "belongs to gpu2, gpu9"}),
        (None, None, {host_check.LOOKED: {"gang_look": {}}}, {"gpu2": "belongs to no gang"}),
    ],
)
def test_who_is_not_there_is_said_with_the_reason(play, every, second, away):
    found = action(gpu1=look("gpu1"), gpu2=second, play=play, every=every)._others()
    assert found["away"] == away
    assert set(found["looks"]) == (set(HOSTS) if not away else {"gpu1"})
    assert (found["here"], found["hosts"], found["problem"]) == ("gpu1", HOSTS, "")


def test_without_these_steps_the_host_itself_knows_whether_it_is_in_a_gang():
    assert action()._others() is None
    assert action(gpu1={host_check.LOOKED: {"gang_look": {}}})._others() == {}
