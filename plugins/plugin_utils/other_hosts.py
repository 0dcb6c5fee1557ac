# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables of other hosts. One that is not part of the run, or cannot be reached, has no facts, and what an inventory
makes of them has no value."""

from __future__ import annotations

from typing import Any, Mapping

from ansible.errors import AnsibleError
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from jinja2.exceptions import TemplateError


class Variables:
    """Of one host. `get` gives None, or `default`, for what is not set, and a Failure (`usage`) for what has no value.

    :param values: a host of Ansible's `hostvars`.
    """

    def __init__(self, host: str, values: Mapping[str, Any]) -> None:
        self.host, self.values = host, values

    def get(self, name: str, default: Any = None) -> Any:
        try:
            found = self.values.get(name, default)
            str(found)  # what is undefined fails here at the latest
        except (AnsibleError, TemplateError) as error:
            raise Failure(
                "%s of %s has no value: %s" % (name, self.host, foreign.one_line(error, 200)),
                hint="A host that is not part of a run, or cannot be reached, has no facts: "
                "set %s of %s to a value that needs none." % (name, self.host),
                error_kind="usage",
            ) from None
        return found


class OtherHosts:
    """``hosts[name].get(variable)``.

    :param hostvars: Ansible's.
    """

    def __init__(self, hostvars: Mapping[str, Mapping[str, Any]]) -> None:
        self.hostvars = hostvars

    def __getitem__(self, host: str) -> Variables:
        return Variables(host, self.hostvars[host])
