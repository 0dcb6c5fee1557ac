# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the shared role says of a host for all engines."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from resolve import resolve

DEPLOYED = {"dsdeploy_deployments": [{"engine": "vllm", "device": "gpu"}, {"engine": "llama_cpp", "device": "cpu"}]}


@pytest.mark.parametrize(("others", "released"), [("gpu", ["vllm"]), ("all", ["vllm", "llama_cpp"]), ("none", [])])
def test_only_what_is_stopped_gives_its_memory_back(others, released):
    found = resolve("_common", "Debian 12", "_dsdeploy_releasing", DEPLOYED, dsdeploy_stop_others=others)
    assert [deployment["engine"] for deployment in found] == released
