# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action gateway_replica: the host of another gateway that cannot be reached."""

import types

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.dsdeploy.llm.plugins.action.gateway_replica import ActionModule

WHY = "Failed to connect to the host via ssh:\n ssh: connect to host gpu3: No route to host"


@pytest.fixture
def tell(monkeypatch):
    """The result on gpu1 of telling a gateway something."""
    monkeypatch.setattr(ActionBase, "run", lambda *_arguments, **_more: {})

    def gone(self, **_more):
        raise AnsibleConnectionFailure(WHY)

    monkeypatch.setattr(ActionBase, "_execute_module", gone)

    def run(gateway="gpu3", play=("gpu1", "gpu2"), **more):
        action = object.__new__(ActionModule)
        args = {"pool": "vllm", "name": "gpu1", "state": "drained", **more}
        action._task = types.SimpleNamespace(delegate_to=gateway, args=args)
        return action.run(task_vars={"inventory_hostname": "gpu1", "ansible_play_hosts_all": list(play)})

    return run


@pytest.mark.parametrize(
    ("state", "words"),
    [("drained", "goes on sending requests to gpu1"), ("ready", "may go on sending nothing to gpu1")],
)
def test_one_that_is_not_part_of_the_run_is_told_of_and_does_not_stop_it(tell, state, words):
    result = tell(state=state)
    assert not result.get("failed") and not result.get("unreachable")
    (warning,) = result["warnings"]
    assert warning.startswith(f"gpu3 cannot be reached, and its gateway, if it runs, {words}: ")
    assert "No route to host" in warning and "\n" not in warning
    assert result["reached"] is result["changed"] is False


def test_one_of_the_run_fails_it_which_is_no_word_about_the_host_whose_turn_it_is(tell):
    result = tell(play=("gpu1", "gpu3"))
    assert result["failed"] and "unreachable" not in result
    assert result["msg"].startswith("gpu3 cannot be reached")
    assert "--limit '!HOST'" in result["hint"]
    assert not tell(play=("gpu1", "gpu3"), required=False).get("failed")


@pytest.mark.parametrize("gateway", ["gpu1", None])
def test_the_host_itself_is_unreachable_as_ever(tell, gateway):
    with pytest.raises(AnsibleConnectionFailure):
        tell(gateway=gateway)


@pytest.mark.parametrize(("gateway", "said"), [("gpu3", "gpu3: it does not answer"), ("gpu1", "it does not answer")])
def test_what_another_hosts_gateway_says_bears_its_name(tell, monkeypatch, gateway, said):
    found = {"failed": True, "msg": "it does not answer", "error_kind": "service"}
    monkeypatch.setattr(ActionBase, "_execute_module", lambda *_self, **_more: dict(found))
    assert tell(gateway=gateway) == {**found, "msg": said}
