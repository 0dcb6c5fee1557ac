# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many processors a program may keep busy."""

import os

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.host import processors


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 128),
        ({"cpu_max": "max 100000\n"}, 128),
        ({"cpu_max": "400000 100000\n"}, 4),
        ({"cpu_max": "350000 100000\n"}, 4),
        ({"cpu_max": "5000 100000\n"}, 1),
        # More than there are.
        ({"cpu_max": "25600000 100000\n"}, 128),
        ({"quota": "-1\n", "period": "100000\n"}, 128),
        ({"quota": "1600000\n", "period": "100000\n"}, 16),
        ({"cpu_max": "what is this\n"}, 128),
        ({"cpu_max": "0 0\n"}, 128),
    ],
)
def test_a_container_s_share(files, count):
    assert processors.usable(128, **files) == count


@pytest.mark.parametrize(
    "names", [{"cpu.max": "50000 100000"}, {"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"}]
)
def test_it_is_read_of_both_kinds_of_cgroups(tmp_path, names):
    assert processors.count(str(tmp_path)) == len(os.sched_getaffinity(0))
    for name, text in names.items():
        path = tmp_path / name if name == "cpu.max" else tmp_path / "cpu" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text + "\n")
    assert processors.count(str(tmp_path)) == 1
