# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables of hosts that are not part of a run have no facts to be made of."""

import pytest
from ansible.errors import AnsibleUndefinedVariable
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import other_hosts, replicas
from jinja2 import StrictUndefined


class Facts(dict):
    """As Ansible's variables of a host: templated as they are read."""

    def get(self, name, default=None):
        if name == "dsdeploy_replica_address":
            raise AnsibleUndefinedVariable("object of type 'dict' has no attribute 'default_ipv4'")
        return super().get(name, default)


def test_what_has_no_value_is_one_line_that_names_host_and_variable():
    values = other_hosts.OtherHosts({"gpu1": {}, "gpu3": Facts(dsdeploy_replicas="chat")})
    with pytest.raises(Failure, match="^dsdeploy_replica_address of gpu3 has no value: .* no attribute") as caught:
        replicas.behind("gpu1", ["gpu1", "gpu3"], values, "vllm", 8443)
    assert caught.value.error_kind == "usage"
    assert "set dsdeploy_replica_address of gpu3 to a value" in caught.value.hint


def test_what_is_undefined_only_once_it_is_looked_at_is_found_too():
    values = other_hosts.OtherHosts({"gpu3": {"a": StrictUndefined(name="b")}})
    with pytest.raises(Failure, match="^a of gpu3 has no value: 'b' is undefined"):
        values["gpu3"].get("a")


def test_what_is_set_and_what_is_not():
    values = other_hosts.OtherHosts({"gpu3": {"a": 1}})
    assert (values["gpu3"].get("a"), values["gpu3"].get("b"), values["gpu3"].get("b", 2)) == (1, None, 2)
