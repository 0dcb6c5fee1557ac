"""Whether a model that is told of is one that is kept."""

from __future__ import annotations

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine.ollama import is_over

NOW = 1795840000.0


@pytest.mark.parametrize(
    ("ends", "over"),
    [
        ("2026-11-28T00:00:00.123456789Z", True),
        ("2026-11-28T08:00:00.1+08:00", True),
        ("2026-11-29T00:00:00Z", False),
        ("2318-01-01T00:00:00Z", False),
        ("0001-01-01T00:00:00Z", True),
        ("9999-12-31T23:59:59-14:00", False),
        ("2026-13-45T00:00:00Z", False),
        ("soon", False),
        (None, False),
        (7, False),
    ],
)
def test_a_time_that_has_come(ends, over):
    assert is_over({"expires_at": ends}, NOW) is over
