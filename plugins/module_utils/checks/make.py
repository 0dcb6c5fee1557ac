# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make checks on this host: read what they need, judge it."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Optional

from ansible_collections.dsdeploy.llm.plugins.module_utils.checks import (
    check,
    deep,
    disk,
    driver,
    engine,
    gang,
    gpu,
    network,
    system,
)
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.look import look
from ansible_collections.dsdeploy.llm.plugins.module_utils.checks.reading import Place

# Every file that registers checks.
FILES = (gpu, driver, system, disk, network, engine, gang, deep)


def listing(only: Iterable[str] = ()) -> List[Dict[str, Any]]:
    """The checks as data: `{id, group, title, why, fix, source, when, deep}`.

    :raises Failure: a name that is none.
    """
    return [
        {
            "id": one.id,
            "group": one.group,
            "title": one.title,
            "why": one.why,
            "fix": one.fix,
            "source": one.source,
            "when": list(one.when),
            "deep": one.deep,
        }
        for one in check.selected(only, None, True)
    ]


def make(place: Place, only: Iterable[str] = (), moment: Optional[str] = None, loads: bool = False) -> Dict[str, Any]:
    """`{status, counts, checks, facts}` of a host; see check.judge for a check. Facts are those that were asked for.

    :param only: ids or groups; none for all. `moment`: as check.selected has it.
    :param loads: whether those that load the GPUs are made, too.
    :raises Failure: a name that is none.
    """
    chosen = check.selected(only, moment, loads)
    facts = check.Facts({}, lambda section: look(place, section))
    results = [check.judge(one, facts) for one in chosen]
    return {"status": check.overall(results), "counts": check.counts(results), "checks": results, "facts": facts}
