# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ollama_model, with its progress shown while it runs."""

from __future__ import annotations

from ansible_collections.dsdeploy.llm.plugins.plugin_utils.progress_action import ProbedAction


class ActionModule(ProbedAction):
    pass
