# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action failure: what failed before is said again with its kind, whichever that was."""

import re
from pathlib import Path

import yaml
from ansible_collections.dsdeploy.llm.plugins.action import failure
from ansible_collections.dsdeploy.llm.plugins.modules import failure as module

PLUGINS = Path(failure.__file__).parents[1]


def test_it_takes_every_kind_that_a_failure_may_have():
    used = set()
    for path in PLUGINS.rglob("*.py"):
        used |= set(re.findall(r"""error_kind["']?[=:] ?["']([a-z]+)["']""", path.read_text(encoding="utf-8")))
    assert {"usage", "verify"} < used
    assert used <= set(failure.KINDS)
    assert yaml.safe_load(module.DOCUMENTATION)["options"]["error_kind"]["choices"] == failure.KINDS
