# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who belongs together, and what the hosts of a gang must have in common."""

import copy

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.urls import is_private
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import gangs

FOUR = ["gpu1", "gpu2", "gpu3", "gpu4"]
PAIR = gangs.Gang("", ("gpu1", "gpu2"))


def of(here, size, play=FOUR, names=None, ranks=None, limited=False):
    return gangs.gang_of(here, play, FOUR, names or {}, ranks or {}, size, limited).hosts


def test_hosts_without_a_name_are_cut_in_their_order():
    assert [of(host, 2) for host in FOUR] == [("gpu1", "gpu2")] * 2 + [("gpu3", "gpu4")] * 2
    assert of("gpu3", 4) == tuple(FOUR)


def test_a_name_says_who_belongs_together_and_the_others_are_cut_without_them():
    names = {"gpu1": "a", "gpu4": "a"}
    assert of("gpu4", 2, names=names) == ("gpu1", "gpu4")
    assert of("gpu3", 2, names=names) == ("gpu2", "gpu3")


def test_ranks_of_the_user_s_own_order_the_gang():
    assert of("gpu1", 2, ranks={"gpu1": 1, "gpu2": 0}) == ("gpu2", "gpu1")


@pytest.mark.parametrize(
    ("here", "size", "more", "line"),
    [
        (
            "gpu1",
            3,
            {},
            "the model is served by 3 hosts, this run is about 4 (gpu1, gpu2, gpu3, gpu4): nothing was started",
        ),
        (
            "gpu2",
            2,
            {"play": ["gpu2"], "names": {"gpu1": "a", "gpu2": "a"}, "limited": True},
            "gpu1 of the gang a is not part of this run, and a gang starts as one: nothing was started",
        ),
        (
            "gpu1",
            2,
            {"names": dict.fromkeys(FOUR[:3], "a")},
            "the gang a has 3 hosts in the inventory (gpu1, gpu2, gpu3), the model is to be served by 2",
        ),
        (
            "gpu2",
            2,
            {"limited": True},
            "which of these 4 hosts belong together is told by their order in the whole inventory, and this run is "
            "about a part of it (--limit): nothing was started",
        ),
        (
            "gpu1",
            2,
            {"ranks": {"gpu1": 1}},
            "the ranks of gpu1, gpu2 are 1, unset, and must be each of 0 to 1 once",
        ),
    ],
)
def test_who_belongs_together_is_not_guessed(here, size, more, line):
    with pytest.raises(Failure) as caught:
        of(here, size, **more)
    assert caught.value.problems == [line]
    assert caught.value.error_kind == "usage"
    assert caught.value.hint


def test_a_part_of_the_inventory_that_is_one_gang_may_be_named():
    assert of("gpu3", 2, play=["gpu3", "gpu4"], limited=True) == ("gpu3", "gpu4")


# --- what they have in common


def looks(**changes):
    """Two hosts that can start together; `changes`: by host_key."""
    host = {
        "common": {"driver": "580.159.04", "GPUs": "8 NVIDIA H800", "lock of vLLM": "ab12"},
        "clock": {"offset": 0.0, "error": 0.2},
        "interface": "eth0",
        "mtu": 1500,
        "problem": "",
    }
    found = {
        name: dict(copy.deepcopy(host), address=address, resolved={"gpu1": ["10.0.0.1"], "gpu2": ["10.0.0.2"]})
        for name, address in (("gpu1", "10.0.0.1"), ("gpu2", "10.0.0.2"))
    }
    for key, value in changes.items():
        name, _underscore, what = key.partition("_")
        found[name][what] = value
    return found


def test_one_host_under_two_names_is_no_gang():
    same = looks(gpu1_place="boot pid:[1] net:[2]", gpu2_place="boot pid:[1] net:[2]")
    assert gangs.common_problems(PAIR, same) == ["gpu1 and gpu2 are one and the same host"]
    # Two namespaces of one machine's network are two hosts.
    assert (
        gangs.common_problems(PAIR, looks(gpu1_place="boot pid:[1] net:[2]", gpu2_place="boot pid:[1] net:[3]")) == []
    )


def test_equal_hosts_can_start_together():
    assert gangs.common_problems(PAIR, looks()) == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"gpu2_common": {"driver": "570.86.10", "GPUs": "8 NVIDIA H800", "lock of vLLM": "ab12"}},
            "driver: gpu1 has 580.159.04, gpu2 has 570.86.10",
        ),
        (
            {"gpu2_common": {"driver": "580.159.04", "GPUs": "7 NVIDIA H800", "lock of vLLM": "ab12"}},
            "GPUs: gpu1 has 8 NVIDIA H800, gpu2 has 7 NVIDIA H800",
        ),
        (
            {"gpu2_common": {"driver": "580.159.04", "GPUs": "8 NVIDIA H800"}},
            "lock of vLLM: gpu1 has ab12, gpu2 has none",
        ),
        (
            {"gpu2_clock": {"offset": -300.0, "error": 0.4}},
            "the clocks of gpu1 and gpu2 are 300 s apart (30 s are allowed): synchronise them (chrony)",
        ),
        ({"gpu2_mtu": 9000}, "the MTU of their links differs: gpu1 1500, gpu2 9000"),
        ({"gpu2_problem": "it has no interface eth9"}, "gpu2: it has no interface eth9"),
        (
            {"gpu1_resolved": {"gpu1": ["10.0.0.1"], "gpu2": ["10.9.9.9"]}},
            "gpu1 takes the address of gpu2 for 10.9.9.9, its own is 10.0.0.2: set dsdeploy_gang_address to an address",
        ),
    ],
)
def test_each_difference_is_one_line(changes, line):
    assert gangs.common_problems(PAIR, looks(**changes)) == [line]


def test_a_slow_question_is_no_difference_of_clocks():
    assert gangs.common_problems(PAIR, looks(gpu2_clock={"offset": 33.0, "error": 4.0})) == []


def test_a_host_that_is_not_there_is_named():
    found = looks()
    del found["gpu2"]
    line = "gpu2 of the gang of gpu1, gpu2 cannot be reached, or was refused before: nothing was started"
    assert gangs.missing(PAIR, found, ["gpu1"]) == [line]
    assert gangs.missing(PAIR, looks(), ["gpu1"]) == [line], "it has told, and failed since"
    assert gangs.missing(PAIR, looks(), ["gpu1", "gpu2"]) == []


def test_a_gang_that_runs_is_not_torn_apart():
    records = {"gpu2": [{"engine": "vllm", "gang": {"hosts": ["gpu2", "gpu3"], "rank": 0}}]}
    assert gangs.broken_up(PAIR, "vllm", records) == [
        "gpu2 serves in a gang of gpu2, gpu3 now: take that down first (dsdeploy down --limit gpu2,gpu3)"
    ]
    assert gangs.broken_up(PAIR, "sglang", records) == []
    assert gangs.broken_up(PAIR, "vllm", {"gpu1": [{"engine": "vllm", "gang": {"hosts": ["gpu1", "gpu2"]}}]}) == []


def test_who_could_not_reach_whom_is_one_line_each():
    met = {"gpu1": {"gpu2": ""}, "gpu2": {"gpu1": "10.0.0.1 port 29400: no answer (a firewall?)"}}
    assert gangs.meeting_problems(PAIR, met) == ["gpu2 cannot reach gpu1: 10.0.0.1 port 29400: no answer (a firewall?)"]


# --- what an engine is told


def test_ranks_of_vllm():
    head, other = (gangs.placement("vllm", rank, 2, "10.0.0.1", 29501) for rank in (0, 1))
    assert head == {
        **{"nnodes": 2, "node_rank": 0, "headless": False},
        **{"master_addr": "10.0.0.1", "master_port": 29501},
    }
    assert other == dict(head, node_rank=1, headless=True)


def test_ranks_of_sglang():
    assert gangs.placement("sglang", 1, 2, "fd00::1", 5000) == {
        **{"nnodes": 2, "node_rank": 1},
        "dist_init_addr": "[fd00::1]:5000",
    }


def test_rdma_devices_are_named_exactly_and_their_gid_where_one_is_known():
    found = gangs.environment("vllm", "10.0.0.1", "eth0", ["mlx5_0", "mlx5_1"], 3)
    assert found == {
        **{"VLLM_HOST_IP": "10.0.0.1", "NCCL_IB_HCA": "=mlx5_0,mlx5_1", "NCCL_IB_GID_INDEX": "3"},
        **dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "TP_SOCKET_IFNAME"), "eth0"),
    }
    without = gangs.environment("sglang", "10.0.0.1", "eth0", ["mlx5_0"], None)
    assert "NCCL_IB_GID_INDEX" not in without
    assert without["SGLANG_HOST_IP"] == "10.0.0.1"
    assert not {name for name in gangs.environment("vllm", "10.0.0.1", "eth0") if "IB" in name}


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("10.0.0.1", True),
        ("100.64.3.1", True),
        ("fd00::1", True),
        ("8.8.8.8", False),
        ("0.0.0.0", False),
        ("127.0.0.1", False),
        ("2001:4860::1", False),
    ],
)
def test_private_addresses(address, private):
    assert is_private(address) is private


def test_what_plan_shows_of_a_gang():
    found = looks(gpu1_hcas=["mlx5_0", "mlx5_1"])
    found["gpu1"]["gid_index"] = 3
    assert gangs.shown(PAIR, found, ["gpu1", "gpu2"]) == [
        "rank 0: gpu1 (10.0.0.1, eth0, RDMA mlx5_0, mlx5_1, GID 3), answers",
        "rank 1: gpu2 (10.0.0.2, eth0, no RDMA device that works)",
    ]
    other = looks(gpu2_mtu=9000)
    assert "`up` would refuse: the MTU of their links differs" in gangs.shown(PAIR, other, ["gpu1", "gpu2"])[2]
    del found["gpu2"]
    away = "gpu2 of the gang of gpu1, gpu2 cannot be reached, or was refused before: nothing was started"
    assert gangs.shown(PAIR, found, ["gpu1"])[1:] == [
        "rank 1: gpu2 (address unknown, interface unknown)",
        "`up` would refuse: " + away,
    ]
