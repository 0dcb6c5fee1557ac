# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A key that no client could send is refused before anything is fetched, and never said."""

import ast
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


def tasks_of(node):
    """Every task of a tree of blocks."""
    for task in node if isinstance(node, list) else []:
        yield task
        for key in ("block", "rescue", "always", "tasks"):
            yield from tasks_of(task.get(key))


def test_whoever_sends_a_key_names_the_service_that_is_to_get_it():
    """The rule of `WatchedService.trust` is for every sender: modules that make an Endpoint with a key, and tasks."""
    senders = []
    for path in sorted((ROLES.parent / "plugins").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
        if any(getattr(call.func, "id", "") == "Endpoint" and len(call.args) > 1 for call in calls):
            senders.append(path.name)
            assert ".trust = " in text, path
    assert {"chat_probe.py", "bench.py"} <= set(senders)
    probes = 0
    for path in sorted([*ROLES.rglob("tasks/*.yml"), *(ROLES.parent / "playbooks").glob("*.yml")]):
        for task in tasks_of(yaml.safe_load(path.read_text(encoding="utf-8"))):
            options = task.get("dsdeploy.llm.chat_probe", {})
            if {"api_key", "api_key_file"} & set(options):
                probes += 1
                assert "service" in options, path
    assert probes >= 3
