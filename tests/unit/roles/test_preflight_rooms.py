# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the engines' preflights have in common."""

from pathlib import Path

import pytest
import yaml

ROLES = Path(__file__).parents[3] / "roles"


@pytest.mark.parametrize("role", ["llama_cpp", "ollama", "sglang", "vllm_venv"])
def test_the_host_is_asked_for_address_and_port(role):
    tasks = yaml.safe_load((ROLES / role / "tasks/preflight.yml").read_text())
    (asked,) = [task["dsdeploy.llm.preflight"] for task in tasks if "dsdeploy.llm.preflight" in task]
    assert (asked["host"], asked["port"]) == (f"{{{{ {role}_host }}}}", f"{{{{ {role}_port }}}}")
    assert asked["install_dir"] == "{{ dsdeploy_install_dir }}" and asked["deployment"]
