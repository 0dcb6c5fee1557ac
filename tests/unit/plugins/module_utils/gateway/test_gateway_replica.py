# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One replica of the gateway that runs: drained, and taken back. HAProxy is a script of what its workers say."""

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway import replica, runtime
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway.runtime import Worker
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure


class Gateway:
    """Two workers, the second of which was replaced by a reload. `streams`: of each look, by worker."""

    def __init__(self, status="UP", streams=()):
        self.status, self.streams, self.told, self.looks = {7: status, 6: status}, list(streams), [], 0

    def workers(self):
        return [Worker(7, False), Worker(6, True)]

    def ask(self, command):
        pid = int(command.split()[0][2:])
        if " set server " in command:
            self.told.append(command)
            self.status[pid] = "DRAIN" if command.endswith("drain") else "UP"
            return "\n"
        at = min(self.looks // 2, len(self.streams) - 1)
        self.looks += 1
        count = self.streams[at][0 if pid == 7 else 1] if self.streams else 0
        return (
            "# pxname,svname,qcur,scur,status\n"
            f"vllm,gpu2,0,{count},{self.status[pid]}\nvllm,BACKEND,0,9,UP\nvllm.here,gpu2,0,5,UP\n"
        )


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(replica, "LOOK_EVERY", 0.0)


def of(gateway):
    return replica.Replica(gateway, "vllm", "gpu2")


def test_every_worker_is_told_and_what_is_under_way_is_waited_for():
    gateway = Gateway(streams=[(0, 0), (2, 1), (0, 1), (0, 0)])
    assert of(gateway).drain(5) == (True, 0)
    assert gateway.told == ["@!7 set server vllm/gpu2 state drain", "@!6 set server vllm/gpu2 state drain"]
    assert gateway.looks >= 8


def test_the_wait_has_an_end_and_tells_what_was_left():
    assert of(Gateway(streams=[(3, 1)])).drain(0) == (True, 4)


def test_one_that_is_drained_is_not_told_again():
    gateway = Gateway(status="DRAIN")
    assert of(gateway).drain(5) == (False, 0)
    assert gateway.told == []
    assert of(gateway).is_drained()


def test_it_is_taken_back_once_the_gateway_sees_it_answer():
    gateway = Gateway(status="DRAIN")
    assert of(gateway).take_back(5) is True
    assert [line.rpartition(" ")[2] for line in gateway.told] == ["ready", "ready"]
    assert of(gateway).take_back(5) is False


def test_one_that_the_gateway_does_not_see_is_a_failure():
    gateway = Gateway(status="DOWN 1/2")
    gateway.ask = lambda command, ask=gateway.ask: "\n" if " set " in command else ask(command)
    with pytest.raises(Failure, match=r"the gateway does not see gpu2 answer: it does not answer \(DOWN 1/2\)"):
        of(gateway).take_back(0)


def test_one_that_it_does_not_know_is_not_there():
    assert not replica.Replica(Gateway(), "vllm", "gpu9").is_there()


def test_one_with_another_certificate_is_named_at_once(monkeypatch):
    monkeypatch.setattr(replica, "UNTRUSTED_WAIT", 0.0)
    gateway = Gateway()
    gateway.ask = lambda command: (
        "\n"
        if " set server " in command
        else "# pxname,svname,qcur,scur,status,check_status,last_chk\nvllm,gpu2,0,0,DOWN,L6RSP,SSL handshake failure\n"
    )
    with pytest.raises(Failure, match="its certificate is not the one that is known for it") as caught:
        of(gateway).take_back(3600)
    assert "dsdeploy up" in caught.value.hint


def test_what_gets_nothing_is_named_with_the_reason():
    text = (
        "# pxname,svname,qcur,scur,status,check_status,last_chk,check_desc\n"
        "vllm,vllm,0,0,DOWN,L4CON,Connection refused,\n"
        "vllm,gpu2,0,1,UP,* L7OK,,Layer7 check passed\n"
        "vllm,gpu3,0,0,DOWN,* L6RSP,SSL handshake failure,Layer6 invalid response\n"
        'vllm,gpu4,0,0,DOWN,L4TOUT,"at initial connection step, twice",\n'
        "vllm,gpu5,0,0,DOWN,L7STS,,Layer7 wrong status\n"
        "vllm,gpu6,0,0,DRAIN,L7OK,,\n"
        "vllm.here,vllm,0,0,DOWN,L4CON,Connection refused,\n"
        "vllm,BACKEND,0,0,UP,,,\n"
    )
    servers = runtime.servers_of(text)
    assert runtime.others_of(servers) == ["gpu2", "gpu3", "gpu4", "gpu5", "gpu6"]
    assert runtime.lacking(servers) == {
        "gpu3": "its certificate is not the one that is known for it (SSL handshake failure)",
        "gpu4": "it does not answer (at initial connection step, twice)",
        "gpu5": "it answers, and has no engine that does (Layer7 wrong status)",
    }
