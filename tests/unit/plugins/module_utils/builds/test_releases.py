# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the release before can be gone back to."""

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.builds.releases import Found, back_problem

FOUND = Found("/opt/dsdeploy/vllm", "2", "1", has_answered=False, answered_before=True, previous_gang=[])
NONE = "vllm: there is no release before 2 that has answered"


@pytest.mark.parametrize(
    ("found", "gang", "said"),
    [
        ({}, [], None),
        ({"previous": "", "answered_before": False}, [], NONE),
        ({"answered_before": False}, [], NONE),
        ({"previous": "2"}, [], NONE),
        # What one host served by itself starts anywhere.
        ({}, ["one", "two"], None),
        ({"previous_gang": ["one", "two"]}, ["one", "two"], None),
        (
            {"previous_gang": ["one", "two"]},
            [],
            "vllm: 1 was served by one, two together, and 2 is not: nothing was changed",
        ),
        # By rank: the first has the API.
        (
            {"previous_gang": ["one", "two"]},
            ["two", "one"],
            "vllm: 1 was served by one, two together, and 2 is not: nothing was changed",
        ),
        ({"previous_gang": ["one", "two"], "previous": "2"}, [], NONE),
        (
            {"gone_model": "/data/models/r1/main"},
            [],
            "vllm: 1 served /data/models/r1/main, which is not there any more: nothing was changed",
        ),
    ],
)
def test_what_can_be_gone_back_to(found, gang, said):
    problem = back_problem(FOUND._replace(**found), gang)
    assert (problem and str(problem)) == said
    assert problem is None or (problem.hint and problem.error_kind == "usage")
