# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action replicas: who they are, and which gateways are told."""

import pytest
from ansible_collections.dsdeploy.llm.plugins.action.replicas import CERTIFICATE, FOUND, ActionModule
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

HOSTS = ["gpu1", "gpu2", "gpu3"]


def found(play, partly, has_key=True):
    """What is found on gpu1 of three replicas."""
    shared = {"dsdeploy_replicas": "chat", "dsdeploy_expose": True}
    variables = {
        "inventory_hostname": "gpu1",
        "hostvars": dict.fromkeys(HOSTS, shared),
        "groups": {"all": HOSTS},
        "ansible_play_hosts_all": play,
    }
    args = {"state": "found", "name": "chat", "engine": "vllm", "has_key": has_key, "gateway_port": 8443}
    return object.__new__(ActionModule)._step({**args, "partly": partly}, variables)


def gateways(result):
    return [(one["host"], one["server"]) for one in result["gateways"]]


@pytest.mark.parametrize("partly", [False, True])
def test_of_a_part_all_gateways_are_told_also_those_of_hosts_that_the_run_leaves_out(partly):
    result = found(["gpu1", "gpu2"], partly)
    assert gateways(result) == [("gpu1", "vllm"), ("gpu2", "gpu1"), ("gpu3", "gpu1")]
    assert result["hosts"] == ["gpu1", "gpu2"]
    assert result["complete"] is False


def test_where_all_of_them_stop_no_gateway_has_another_to_send_to():
    assert len(gateways(found(HOSTS, False))) == 3
    assert gateways(found(HOSTS, True)) == []


def test_a_stop_needs_nothing_that_a_start_needs():
    with pytest.raises(Failure, match="none is set"):
        found(["gpu1"], False, has_key=False)
    assert len(gateways(found(["gpu1"], True, has_key=False))) == 3


def known(**places):
    hostvars = {name: {CERTIFICATE: {"certificate": name, "place": place}} for name, place in places.items()}
    hostvars["gpu1"][FOUND] = {"hosts": list(places)}
    variables = {"inventory_hostname": "gpu1", "hostvars": hostvars}
    return object.__new__(ActionModule)._step({"state": "certificates"}, variables)


def test_one_host_under_two_names_is_no_two_replicas():
    assert known(gpu1="a", gpu2="b") == {"certificates": {"gpu2": "gpu2"}}
    with pytest.raises(Failure, match="^gpu1 and gpu1.lan are one and the same host$") as caught:
        known(**{"gpu1": "a", "gpu2": "b", "gpu1.lan": "a"})
    assert caught.value.error_kind == "usage"
