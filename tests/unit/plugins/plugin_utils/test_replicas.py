# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replicas: who they are, whose turn it is."""

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import replicas

HOSTS = ["gpu1", "gpu2", "gpu3"]
VALUES = {
    "gpu1": {"dsdeploy_replicas": "chat", "dsdeploy_expose": True, "ansible_host": "10.0.0.1"},
    "gpu2": {"dsdeploy_replicas": "chat", "dsdeploy_expose": "yes", "gateway_port": 9443},
    "gpu3": {"dsdeploy_replicas": "other", "dsdeploy_expose": True},
    "db": {},
}


def test_replicas_are_hosts_of_one_name():
    assert replicas.group_of("chat", [*HOSTS, "db"], VALUES) == ["gpu1", "gpu2"]
    assert replicas.gateways_of(["gpu1", "gpu2"], VALUES) == ["gpu1", "gpu2"]
    off = {"gpu1": {"dsdeploy_expose": "false"}, "gpu2": {"dsdeploy_expose": False}, "gpu3": {}}
    assert replicas.gateways_of(HOSTS, off) == []


def test_each_is_reached_through_its_own_gateway_with_tls_and_known_by_its_certificate():
    def known(host):
        file = f"/etc/dsdeploy/gateway/replicas/{host}.pem"
        return {"tls": True, "server_name": f"{host}.replica.dsdeploy.internal", "ca_file": file}

    assert replicas.behind("gpu1", ["gpu1", "gpu2"], VALUES, "vllm", 8443) == [
        {"name": "gpu2", "engine": "vllm", "host": "gpu2", "port": 9443, **known("gpu2")}
    ]
    assert replicas.behind("gpu2", ["gpu1", "gpu2"], VALUES, "vllm", 8443) == [
        {"name": "gpu1", "engine": "vllm", "host": "10.0.0.1", "port": 8443, **known("gpu1")}
    ]
    assert replicas.server_name("gpu1", "gpu1", "vllm") == "vllm"
    assert replicas.server_name("gpu1", "gpu2", "vllm") == "gpu2"


def test_the_others_of_this_run_are_known_by_what_their_hosts_told():
    told = {"gpu1": {"certificate": "1"}, "gpu2": {"certificate": "2"}, "gpu3": None, "gpu4": {"certificate": ""}}
    assert replicas.certificates_of("gpu1", ["gpu1", "gpu2", "gpu3", "gpu4"], told) == {"gpu2": "2"}


@pytest.mark.parametrize(
    ("gateways", "has_key", "lines"),
    [
        (["gpu1"], True, ["gpu2, gpu3 have no gateway, through which the other replicas reach it"]),
        (HOSTS, False, ["replicas know each other by the engine's API key, and none is set"]),
    ],
)
def test_replicas_need_gateways_and_a_key(gateways, has_key, lines):
    with pytest.raises(Failure) as caught:
        replicas.require_gateways(HOSTS, gateways, has_key)
    assert caught.value.problems == lines
    assert caught.value.error_kind == "usage"
    replicas.require_gateways(HOSTS, HOSTS, True)


@pytest.mark.parametrize(
    ("here", "come", "done", "lines"),
    [
        ("gpu1", HOSTS, [], []),
        ("gpu2", HOSTS, ["gpu1"], []),
        ("gpu2", HOSTS, [], ["the roll stopped at gpu1: nothing was changed on gpu2"]),
        ("gpu3", HOSTS, ["gpu1"], ["the roll stopped at gpu2: nothing was changed on gpu3"]),
        ("gpu1", ["gpu1", "gpu3"], [], ["gpu2 cannot be reached, or was refused before: nothing was changed on gpu1"]),
        ("gpu3", HOSTS, [], ["the roll stopped at gpu1: nothing was changed on gpu3"]),
    ],
)
def test_no_host_is_changed_where_one_before_it_failed(here, come, done, lines):
    assert replicas.turn_problems(here, HOSTS, come, done) == lines


def test_what_is_compiled_comes_from_one_that_is_alike_and_answers():
    looks = {"gpu1": {"key": "a"}, "gpu2": {"key": "b"}, "gpu3": {"key": "a"}, "gpu4": {"key": "b"}, "gpu5": {}}
    group = list(looks)
    assert replicas.like("gpu3", group, looks, ["gpu1", "gpu2"]) == "gpu1"
    assert replicas.like("gpu4", group, looks, ["gpu1", "gpu2", "gpu3"]) == "gpu2"
    assert replicas.like("gpu3", group, looks, ["gpu2"]) == ""
    assert replicas.like("gpu1", group, looks, group) == ""
    # One that told nothing is nobody's like.
    assert replicas.like("gpu5", group, {"gpu4": {}}, group) == ""
