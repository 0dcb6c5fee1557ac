# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engines that are Python packages have in common."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from resolve import ROLES, resolve

VERSIONS = {"vllm_venv": "0.32.0", "sglang": "0.4.3.post2"}


@pytest.mark.parametrize("role", VERSIONS)
def test_another_lock_or_python_of_the_same_version_is_another_release(role, tmp_path):
    def release(**inventory):
        return resolve(
            role,
            "Debian 12",
            f"_{role}_release",
            **{f"_{role}_guarded": {"role_files": str(ROLES / role / "files")}, **inventory},
        )

    version = VERSIONS[role]
    lock = tmp_path / "own.lock"
    lock.write_text((ROLES / role / f"files/locks/{version}-cpu.lock").read_text())
    own = {f"{role}_lock": str(lock)}
    names = [release(), release(**own), release(**{f"{role}_python": "3.12"})]
    lock.write_text(lock.read_text() + "\n")
    names.append(release(**own))
    assert all(name.startswith(f"{version}-cpu-") for name in names)
    assert names[0] == names[1]
    assert len(set(names)) == 3


@pytest.mark.parametrize(
    ("inventory", "shares"),
    [
        ({}, True),
        ({"dsdeploy_share_compiled": "false"}, False),
        ({"dsdeploy_replicas": ""}, False),
        ({"python_engine_compiled": ""}, False),
        ({"ansible_check_mode": True}, False),
    ],
)
def test_what_is_compiled_goes_among_replicas_that_may_share_it(inventory, shares):
    usual = {"dsdeploy_replicas": "chat", "python_engine_compiled": "/var/lib/x", "ansible_check_mode": False}
    assert resolve("python_engine", "Debian 12", "_python_engine_shares_compiled", **{**usual, **inventory}) is shares
