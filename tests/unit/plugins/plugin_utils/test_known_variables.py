# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables that nothing reads."""

import re
import time
from pathlib import Path

import pytest
from ansible_collections.dsdeploy.llm.plugins.action.variable_check import CHECKERS, _specs
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.known_variables import (
    NOTED,
    SECRET,
    documented,
    go_templates,
    problem,
    secrets_typed,
    type_problems,
    unknown,
)

from dsdeploy import invocation

KNOWN = {"vllm_venv_max_model_len", "vllm_venv_port", "model_name"}


@pytest.mark.parametrize(
    ("name", "is_unknown"),
    [
        ("vllm_venv_max_modle_len", True),
        ("vllm_venv_port", False),
        ("vllm_venvport", False),  # not of the role
        ("_vllm_venv_prot", False),  # private
        ("my_vllm_venv_prot", False),
        ("model_team", True),
        ("vllm-venv-port", True),  # Ansible keeps it, and nothing can read it
    ],
)
def test_what_begins_like_a_role_and_is_none_of_its_variables(name, is_unknown):
    assert unknown([name], ["vllm_venv", "model"], KNOWN) == ([name] if is_unknown else [])


def test_the_shared_role_has_the_variables_of_the_product():
    assert unknown(["dsdeploy_engin", "_common_thing"], ["_common"], {"dsdeploy_engine"}) == ["dsdeploy_engin"]


def test_the_nearest_name_is_told():
    said = problem("vllm_venv_max_modle_len", KNOWN)
    assert said == "vllm_venv_max_modle_len is not a variable of dsdeploy; did you mean vllm_venv_max_model_len?"
    assert problem("ollama_zzzz", KNOWN) == "ollama_zzzz is not a variable of dsdeploy"


def test_documented_are_the_options_of_all_entry_points():
    specs = {"argument_specs": {"main": {"options": {"a_b": {}}}, "where": {"options": {"a_c": {}}}, "none": {}}}
    assert set(documented(specs)) == {"a_b", "a_c"}
    assert documented({}) == {}


def test_the_list_is_that_of_the_roles_and_quickly_read():
    begun = time.process_time()
    specs = _specs()
    assert time.process_time() - begun < 1  # 0.02 s
    assert "vllm_venv_max_model_len" in specs["vllm_venv"]
    # What the playbooks take, which no role has a default for.
    assert {"dsdeploy_hosts", "dsdeploy_only_engine", "dsdeploy_purge", "dsdeploy_log_lines"} <= set(specs["_common"])


def test_templates_of_go_are_told_from_jinja():
    go = {
        "a": "<｜User｜>{{ .System }} {{ .Prompt }}",
        "b": "{{- range .Messages }}x{{ end }}",
        "c": "{{if .System}}x{{end}}",
        "jinja": "{{ ansible_facts.architecture }} {{ x | default('.') }} {% if a %}{{ end_of }}{% endif %}",
        "number": 5,
        "text": "plain . text",
    }
    assert go_templates(go) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["dsdeploy_api_key=sesame"], ["dsdeploy_api_key"]),
        (["a=1 ansible_become_password='x y'", '{"hf_token": "x"}'], ["ansible_become_password", "hf_token"]),
        (["@secrets.yml", "dsdeploy_api_key_file=/x", "dsdeploy_answer_max_tokens=64"], []),
    ],
)
def test_secrets_in_the_command_line_are_named_without_their_values(given, names):
    assert secrets_typed(given) == names


def test_the_command_refuses_the_same_names():
    assert invocation._SECRET.pattern == SECRET.pattern


def test_what_the_roles_note_themselves_is_no_mistake():
    """Names that begin like a role's variables, set or registered by a task: documented, or on the list."""
    root = Path(__file__).resolve().parents[4]
    specs = _specs()
    known = set().union(*specs.values())
    named = set()
    for path in [*root.glob("roles/*/tasks/*.yml"), *root.glob("playbooks/**/*.yml")]:
        text = path.read_text(encoding="utf-8")
        named |= set(re.findall(r"^ *register: (\w+)$", text, re.MULTILINE))
        for block in re.findall(r"set_fact:\n((?: {4,}.*\n)+)", text):
            named |= set(re.findall(r"^ +(\w+): ", block, re.MULTILINE))
    noted = set(unknown(named, specs, known))
    assert noted == set(NOTED)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("model_require_pinned", "maybe", "model_require_pinned is not true or false: 'maybe'"),
        ("model_retries", "many", "model_retries is not a whole number: 'many'"),
        ("model_bandwidth_limit", [1], "model_bandwidth_limit is not a number: [1]"),
        ("model_catalog_extra", ["a"], "model_catalog_extra is not a mapping: ['a']"),
        ("model_tokens", "hf_secret", "model_tokens is not a mapping: the value is withheld"),
        ("gateway_networks", {"a": 1}, "gateway_networks is not a list: {'a': 1}"),
        (
            "gateway_networks",
            "10.0.0.0/8",
            "gateway_networks is the string '10.0.0.0/8', not a list: gateway_networks: [10.0.0.0/8] in an inventory, "
            """else -e '{"gateway_networks": ["10.0.0.0/8"]}'""",
        ),
        ("gateway_networks", "{{ lan }}", ""),
        ("dsdeploy_stop_others", "some", "dsdeploy_stop_others: unknown value 'some' (choices: gpu, all, none)"),
        ("model_require_pinned", "yes", ""),
        ("model_retries", "5", ""),
        ("model_merge", False, ""),  # YAML reads `no` so
        ("model_retries", "{{ mine }}", ""),
        ("model_tokens", None, ""),
        ("model_tokens", object(), ""),  # what a vault holds
        ("model_name", 7, ""),
    ],
)
def test_a_value_of_another_type_is_named_by_its_variable(name, value, said):
    known = {variable: spec for role in _specs().values() for variable, spec in role.items()}
    assert type_problems({name: value}, known, CHECKERS) == ([said] if said else [])
