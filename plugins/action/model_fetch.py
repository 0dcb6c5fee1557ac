# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""model_fetch, with its progress shown while it runs."""

from __future__ import annotations

from ansible.utils.display import Display
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.progress_action import ProbedAction


class ActionModule(ProbedAction):
    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        # Check mode: what would be fetched, for whoever reads along.
        for line in result.get("plan") or []:
            Display().display("%s: %s" % ((task_vars or {}).get("inventory_hostname", ""), line))
        return result
