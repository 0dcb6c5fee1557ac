# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action replicas: who they are, and which gateways are told."""

import pytest
from ansible_collections.dsdeploy.llm.plugins.action.replicas import ActionModule
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
