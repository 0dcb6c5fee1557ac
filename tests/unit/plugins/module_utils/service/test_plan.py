"""Which actions bring a service where it should be."""

from __future__ import annotations

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.service.managers import plan

OLD, NEW = "old", "new"


@pytest.mark.parametrize(
    "active, started_with, enabled, reload, expected",
    [
        ("absent", "", False, False, ["enable", "start"]),
        ("running", NEW, True, False, []),
        ("running", OLD, True, False, ["restart"]),
        ("running", "", True, False, ["restart"]),
        ("running", OLD, True, True, ["reload", "restart"]),
        ("starting", OLD, True, False, ["restart"]),
        ("starting", NEW, True, False, []),
        ("failed", NEW, True, False, ["start"]),
        ("stopped", NEW, False, False, ["enable", "start"]),
    ],
)
def test_started(active, started_with, enabled, reload, expected):
    assert plan("started", active, started_with == NEW, enabled, reload) == expected


@pytest.mark.parametrize("wanted", ["stopped", "absent"])
@pytest.mark.parametrize(
    "active, enabled, expected",
    [
        ("running", True, ["stop", "disable"]),
        ("starting", True, ["stop", "disable"]),
        ("failed", True, ["disable"]),
        ("stopped", False, []),
        ("absent", False, []),
    ],
)
def test_stopped(wanted, active, enabled, expected):
    assert plan(wanted, active, False, enabled, False) == expected
