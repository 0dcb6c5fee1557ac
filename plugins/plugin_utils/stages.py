# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages of a deployment as tags. Pure functions."""

from __future__ import annotations

from typing import Collection, Optional, Sequence

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

# What can be left out: no other stage needs what it makes.
ALONE = ("prepare",)


def skipped_problem(stages: Sequence[str], run: Collection[str], skip: Collection[str]) -> Optional[Failure]:
    """What is wrong with leaving stages out, or None.

    A stage needs those before it, so what those do bears its tag, too: to leave a stage out is to leave them out, and
    what comes after it lacks what they have found. Ansible says nothing of either.

    :param stages: of the playbook, in their order; none where it has no stages.
    :param run: tags that were asked for. `skip`: tags that were to be left out.
    """
    chain = [stage for stage in stages if stage not in ALONE]
    left_out = [stage for stage in chain if stage in skip]
    if not left_out or not ({"all", "tagged", *chain} & set(run)):
        return None
    first = chain.index(left_out[0])
    problem = "--skip-tags %s would leave out " % ",".join(left_out)
    if first:
        problem += "the stages before it, too: each stage does those first"
        hint = "To stop before %s: --tags %s." % (chain[first], chain[first - 1])
    else:
        problem += "what every other stage needs"
        hint = "Leave --skip-tags out, or name the stages to go as far as: --tags."
    return Failure(problem, hint=hint, error_kind="usage")
