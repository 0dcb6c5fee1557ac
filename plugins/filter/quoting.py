# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One word of a command line or environment, as systemd and supervisor read it."""

from __future__ import annotations

from functools import wraps

from ansible.errors import AnsibleFilterError
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import quoting


def _filter(quote):
    @wraps(quote)
    def run(word):
        try:
            return quote(str(word))
        except ValueError as error:
            raise AnsibleFilterError(str(error)) from error

    return run


class FilterModule:
    def filters(self):
        return {
            "systemd_quote": _filter(quoting.systemd_word),
            "environment_quote": _filter(quoting.environment_value),
            "supervisor_quote": _filter(quoting.supervisor_word),
        }
