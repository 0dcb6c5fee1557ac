# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A key that no client could send is refused before anything is fetched, and never said."""

from pathlib import Path

import pytest
import yaml
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import api_key

ROLES = Path(__file__).resolve().parents[5] / "roles"


@pytest.mark.parametrize("key", ["two words", "end\n", "\ttab", "schlüssel", "杚", "a\x7f", "x" * 9000, " "])
def test_what_is_no_key(key):
    said = api_key.problem(key)
    assert said.startswith("the API key ") and key.strip() not in said.replace("a space", "") or key.strip() == ""
    assert "\n" not in said


@pytest.mark.parametrize("key", ["", "sk-1", 'with-"quotes"-%-$HOME', "x" * 4096])
def test_what_is_one(key):
    assert api_key.problem(key) is None


@pytest.mark.parametrize("role", ["llama_cpp", "vllm_venv", "sglang"])
def test_every_engine_that_takes_a_key_has_it_checked_first(role):
    tasks = yaml.safe_load((ROLES / role / "tasks/preflight.yml").read_text(encoding="utf-8"))
    guard = next(task["dsdeploy.llm.engine_guards"] for task in tasks if "dsdeploy.llm.engine_guards" in task)
    assert guard["api_key"] == f"{{{{ {role}_api_key }}}}"
