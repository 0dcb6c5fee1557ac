# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One process tells what four told before."""

import pytest
from ansible.module_utils.facts import ansible_collector, default_collectors
from ansible.module_utils.facts.namespace import PrefixFactNamespace
from run_module import run

SUBSET = ["!all", "!min", "distribution", "platform", "python", "service_mgr"]


@pytest.fixture(scope="module")
def told():
    return run("host_facts", {})


def test_the_facts_of_setup_are_those_of_setup(told):
    import ansible.module_utils.basic as basic

    class Module(basic.AnsibleModule):
        def __init__(self):
            self.params, self._debug = {}, False

    collector = ansible_collector.get_ansible_collector(
        all_collector_classes=default_collectors.collectors,
        namespace=PrefixFactNamespace(namespace_name="ansible", prefix="ansible_"),
        gather_subset=SUBSET,
        minimal_gather_subset=frozenset(),
    )
    setup = collector.collect(module=Module())
    setup.pop("gather_subset")
    setup.pop("module_setup")
    found = told["ansible_facts"]
    assert len(setup) > 10
    assert {name: found.get(name) for name in setup} == setup


@pytest.mark.parametrize(("module", "fact"), [("nvidia_smi_facts", "nvidia_smi"), ("memory_facts", "dsdeploy_memory")])
def test_the_others_are_those_of_their_modules(told, module, fact):
    alone = run(module, {})["ansible_facts"][fact]
    assert set(told["ansible_facts"][fact]) == set(alone)
    if fact == "nvidia_smi":
        assert told["ansible_facts"][fact]["status"] == alone["status"]


def test_what_would_pass_for_a_gathering_of_all_facts_is_left_out(told):
    """With `gathering: smart` and a cache, a play of the user's own would gather nothing more."""
    assert "ansible_module_setup" not in told["ansible_facts"] and "module_setup" not in told["ansible_facts"]
    assert isinstance(told["ansible_facts"]["dsdeploy_deployments"], list)
