# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stages that are left out."""

import pytest
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.stages import skipped_problem

STAGES = ["prepare", "preflight", "model", "install", "configure", "service", "verify"]


@pytest.mark.parametrize(
    ("run", "skip"),
    [
        (["all"], []),
        (["all"], ["prepare"]),
        (["all"], ["a-tag-of-their-own"]),
        (["verify"], ["prepare"]),
        # Nothing of the deployment runs: a play of the user's own imports the playbook.
        (["a-tag-of-their-own"], ["verify"]),
        (["prepare"], ["verify"]),
    ],
)
def test_what_no_other_stage_needs_can_be_left_out(run, skip):
    assert skipped_problem(STAGES, run, skip) is None


@pytest.mark.parametrize(
    ("run", "skip", "said", "hint"),
    [
        (["all"], ["verify"], "--skip-tags verify would leave out the stages before it", "--tags service."),
        (["all"], ["prepare", "verify", "service"], "--skip-tags service,verify would", "--tags configure."),
        (["service"], ["verify"], "--skip-tags verify would leave out the stages before it", "--tags service."),
        (["tagged"], ["model"], "--skip-tags model would", "--tags preflight."),
        (["all"], ["preflight"], "--skip-tags preflight would leave out what every other stage needs", "--tags."),
    ],
)
def test_what_others_need_cannot(run, skip, said, hint):
    found = skipped_problem(STAGES, run, skip)
    assert str(found).startswith(said)
    assert found.hint.endswith(hint)
    assert found.error_kind == "usage"


def test_a_playbook_without_stages_has_none_to_leave_out():
    assert skipped_problem([], ["all"], ["verify"]) is None
