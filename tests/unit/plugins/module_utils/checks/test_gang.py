# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each fault between two hosts, planted in what hosts that are in order tell, is found by its check and by no other."""

import copy
import json

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks import check, look_gang, make
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.reading import Place
from ansible_collections.dsdeploy.llm.plugins.module_utils.gang import look as gang_look
from ansible_collections.dsdeploy.llm.plugins.module_utils.gang import meet
from facts_of_hosts import gang, gang_look_of, reached


@pytest.fixture
def facts():
    return {"gang": gang()}


def results(facts):
    assert make.FILES  # who imports it has all checks
    return {one.id: check.judge(one, check.Facts(facts)) for one in check.selected(["gang"], None, False)}


def plant(facts, *path_and_value):
    *path, last, value = path_and_value
    here = facts["gang"]
    for step in path:
        here = here[step]
    here[last] = value


def test_of_two_hosts_in_order_there_is_nothing_to_say(facts):
    found = results(facts)
    assert {name: one["status"] for name, one in found.items()} == dict.fromkeys(found, "pass")
    assert len(found) == 11


GPU2 = ("looks", "gpu2")
FAULTS = {
    "unreachable": (
        "gang_hosts",
        "fail",
        [("away", {"gpu2": "cannot be reached"}), ("looks", {"gpu1": gang_look_of("gpu1")})],
    ),
    "inventory": ("gang_hosts", "fail", [("problem", "the gang g has 3 hosts in the inventory")]),
    "driver": ("gang_driver", "fail", [(*GPU2, "driver", "570.1")]),
    "no driver": ("gang_driver", "fail", [(*GPU2, "driver", None)]),
    "gpus": ("gang_gpus", "fail", [(*GPU2, "gpus", "4 × NVIDIA H200")]),
    "lock": ("gang_release", "fail", [(*GPU2, "release", "vllm 0.32.0-cuda-00000000")]),
    "manifest": ("gang_model", "fail", [(*GPU2, "model", "deepseek-r1-awq, sha256 ba9876543210")]),
    "no model": ("gang_model", "fail", [(*GPU2, "model", None)]),
    "one stopped": ("gang_running", "fail", [(*GPU2, "active", "failed")]),
    "clock": ("gang_clock", "fail", [(*GPU2, "clock", {"offset": -300.0, "error": 1.0})]),
    "names": ("gang_names", "fail", [("looks", "gpu1", "resolved", "gpu2", ["10.9.9.9"])]),
    "own name": ("gang_names", "fail", [(*GPU2, "problem", "gpu2 means loopback here: set dsdeploy_gang_address")]),
    "firewall": ("gang_ports", "fail", [("met", "gpu1", "gpu2", reached("refused", "port"))]),
    "the other way": ("gang_ports", "fail", [("met", "gpu2", "gpu1", reached("no answer", "any_port"))]),
    "mtu": ("gang_mtu", "fail", [(*GPU2, "mtu", 1500)]),
    "mtu on the way": ("gang_mtu", "fail", [("met", "gpu2", "gpu1", reached("small packets arrive", "large"))]),
    "rdma": ("gang_rdma", "warn", [(*GPU2, "hcas", [])]),
    "gid": ("gang_rdma", "warn", [(*GPU2, "gid_index", 1)]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_between_two_hosts_is_found_by_its_check_alone(fault, facts):
    wanted, status, planted = FAULTS[fault]
    for one in planted:
        plant(facts, *one)
    found = results(facts)
    told = {name: one["status"] for name, one in found.items() if one["status"] in ("fail", "warn")}
    assert told == {wanted: status}
    assert found[wanted]["fix"] and found[wanted]["value"]
    # What cannot be known any more is never a pass.
    if fault == "unreachable":
        assert {one["status"] for name, one in found.items() if name != wanted} == {"unknown"}
    if found["gang_ports"]["status"] == "fail":
        assert found["gang_mtu"]["status"] == "unknown"


def test_every_check_of_gangs_has_a_fault_here(facts):
    assert set(results(facts)) == {row[0] for row in FAULTS.values()}


def test_a_host_outside_of_the_run_is_unknown_and_named(facts):
    plant(facts, "away", {"gpu2": "is not part of this run"})
    plant(facts, "looks", {"gpu1": gang_look_of("gpu1")})
    found = results(facts)
    assert {one["status"] for one in found.values()} == {"unknown"}
    assert "gpu2 is not part of this run" in found["gang_hosts"]["value"]


def test_a_manager_that_does_not_answer_is_no_pass(facts):
    plant(facts, *GPU2, "active", None)
    assert results(facts)["gang_running"]["status"] == "unknown"
    plant(facts, *GPU2, "release", None)
    assert results(facts)["gang_running"]["status"] == "skip"


def test_hosts_that_could_not_meet_are_unknown(facts):
    plant(facts, "met", "they did not meet: Ansible works on 1 hosts at a time")
    found = results(facts)
    assert {name for name, one in found.items() if one["status"] == "unknown"} == {"gang_ports", "gang_mtu"}


def test_without_a_gang_nothing_is_checked_and_one_that_nobody_asked_is_unknown():
    assert {one["status"] for one in results({"gang": {}}).values()} == {"skip"}
    about = {"here": "gpu1", "hosts": ["gpu1", "gpu2"], "looks": None, "met": {}, "away": {}}
    found = results({"gang": about})
    assert {one["status"] for one in found.values()} == {"unknown"}
    assert "gpu1, gpu2" in found["gang_clock"]["value"]


@pytest.mark.parametrize("odd", [None, 5, "x", [], {"hosts": 7, "looks": {}}, {"hosts": ["a"], "looks": {"a": None}}])
def test_facts_of_an_odd_form_are_unknown_and_break_nothing(odd):
    for one in results({"gang": odd}).values():
        assert one["status"] in ("unknown", "skip")


@pytest.mark.parametrize("key", sorted(set(gang_look_of("gpu1")) - {"hosts", "here"}))
@pytest.mark.parametrize("value", [None, "", [], {}, 10**30, "é\n\x1b[31m" * 200])
def test_what_a_host_tells_may_be_anything(key, value, facts):
    plant(facts, *GPU2, key, value)
    for one in results(facts).values():
        assert one["status"] in check.STATUSES
        assert len(one["value"]) <= check.LONGEST and "\n" not in one["value"] and "\x1b" not in one["value"]


def test_a_host_tells_what_its_record_and_its_model_are(tmp_path, monkeypatch):
    release = tmp_path / "vllm" / "0.32.0-cuda-1c0ffee5"
    release.mkdir(parents=True)
    (tmp_path / "vllm/current").symlink_to(release)
    model = tmp_path / "models/m/main"
    model.mkdir(parents=True)
    (model / "w.safetensors").write_bytes(b"x")
    file = {"path": "w.safetensors", "bytes": 1, "sha256": "0" * 64, "mtime_ns": 1}
    manifest = {"format": "safetensors", "files": [file], "source": {"kind": "path"}, "name": "m", "version": 1}
    record = {
        "engine": "vllm",
        "version": "0.32.0",
        "model": "m",
        "model_path": str(model),
        "endpoint": "http://127.0.0.1:8000",
        "api": "openai",
        "api_key_file": None,
        "service": {"name": "no-such-service", "manager": "systemd", "log": None},
        "user": "root",
        "device": "cpu",
        "dirs": [],
        "releases": str(tmp_path / "vllm"),
        "gang": {"hosts": ["a", "b"], "rank": 1, "addresses": {"a": "127.0.0.9", "b": "127.0.0.1"}},
    }
    (tmp_path / "vllm.json").write_text(json.dumps(record))
    monkeypatch.setattr(look_gang.store, "read_manifest", lambda path: manifest if path == str(model) else None)
    monkeypatch.setattr(
        look_gang.look_gpu, "gpus", lambda place: {"driver_version": "580.1", "gpus": [{"name": "H200"}]}
    )
    monkeypatch.setattr(look_gang, "_active", lambda record, place: "running")
    told = look_gang.tell(Place(records=str(tmp_path)), {}, "whatever", "")
    assert (told["hosts"], told["here"]) == (["a", "b"], "b")
    assert (told["driver"], told["gpus"], told["active"]) == ("580.1", "1 × H200", "running")
    assert told["release"] == "vllm 0.32.0-cuda-1c0ffee5"
    before = told["model"]
    file["sha256"] = "1" * 64
    assert look_gang.tell(Place(records=str(tmp_path)), {}, "", "")["model"] != before
    # A host by itself knows that it is in one, and nothing of the others.
    assert look_gang.gang(Place(records=str(tmp_path)))["looks"] is None
    assert look_gang.gang(Place(records=str(tmp_path / "none"))) == {}
    assert look_gang.tell(Place(records=str(tmp_path / "none")), {}, "b", "") == {}
    # Before anything is deployed it is the inventory that knows.
    told = look_gang.tell(Place(records=str(tmp_path / "none")), {"b": "127.0.0.1", "c": "127.0.0.2"}, "b", "lo")
    assert (told["hosts"], told["release"], told["model"], told["active"]) == (["b", "c"], None, None, None)
    assert gang_look.resolve("127.0.0.1") == ["127.0.0.1"]


def test_the_facts_are_left_as_they_were(facts):
    before = copy.deepcopy(facts)
    results(facts)
    assert facts == before
    assert meet.PORT != meet.ANY_PORT
