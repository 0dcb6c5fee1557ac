"""Ranges of numbers are said once, and refused with exit code 2 before anything is done: every number that a role takes
is in a value_check of its preflight."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).parents[3] / "roles"
# By role, the tasks that are its preflight. Engines whose parameters are a table have that checked (engine_parameters).
PREFLIGHT = {
    "_common": "variables",
    "model": "resolve",
    "llama_cpp": "preflight",
    "ollama": "preflight",
    "nvidia_driver": "preflight",
    "cuda_toolkit": "preflight",
    "gpu_monitor": "preflight",
}
CHECKS = (
    "dsdeploy.llm.value_check",
    "dsdeploy.llm.variable_check",
    "dsdeploy.llm.model_resolve",
    "dsdeploy.llm.engine_guards",
)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def checked(role: str) -> set[str]:
    tasks = load(ROLES / role / "tasks" / f"{PREFLIGHT[role]}.yml")
    found = [task[name]["values"] for task in tasks for name in CHECKS if name in task]
    return {str(value["name"]) for values in found for value in values}


@pytest.mark.parametrize("role", PREFLIGHT)
def test_every_number_has_its_range(role: str) -> None:
    specs = load(ROLES / role / "meta" / "argument_specs.yml")["argument_specs"]
    options = specs["facts" if role == "_common" else "main"]["options"]
    numbers = {name for name, option in options.items() if option["type"] in ("int", "float")}
    assert numbers <= checked(role)


@pytest.mark.parametrize(
    ("role", "names"),
    [
        ("ollama", {"ollama_version", "ollama_gpu_layers"}),
        ("llama_cpp", {"llama_cpp_wheel_version", "llama_cpp_source_version", "llama_cpp_gpu_layers"}),
        ("nvidia_driver", {"nvidia_driver_version", "nvidia_driver_branch"}),
    ],
)
def test_versions_and_numbers_that_are_text_are_checked_too(role: str, names: set[str]) -> None:
    assert names <= checked(role)


def _bools(options: dict[str, Any]) -> set[str]:
    found = {name for name, spec in options.items() if spec.get("type") == "bool" and "_" in name}
    for spec in options.values():
        found |= _bools(spec.get("options") or {})
    return found


def test_a_truth_value_is_read_as_one_wherever_it_comes_from() -> None:
    """`-e name=false` and an inventory in INI give the text `false`, which is true of any other test in a template."""
    bools: set[str] = set()
    for path in ROLES.glob("*/meta/argument_specs.yml"):
        for entry in load(path)["argument_specs"].values():
            bools |= _bools(entry.get("options") or {})
    assert {"ollama_flash_attention", "air_gapped"} <= bools
    wrong, used = [], 0
    named = "|".join(sorted(bools))
    files = [path for folder in ("tasks", "vars", "defaults") for path in ROLES.glob(f"*/{folder}/**/*.yml")]
    for path in [*files, *(ROLES.parent / "playbooks").glob("**/*.yml")]:
        if path.name.startswith("catalog"):
            continue  # data
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            value = re.sub(r"^[ -]*[\w.]+:( |$)", "", line.partition(" #")[0])
            if re.match(r" *#| *(msg|hint|fail_msg):", line) or re.fullmatch(
                r'"\{\{ [\w.]+( \| default\(\w+\))? \}\}"', value
            ):
                continue
            code = re.sub(r"'[^']*'", "''", value)
            for match in re.finditer(rf"\b({named})\b(?!:)", code) if "{{" in line or " " in value else ():
                used += 1
                if not re.match(r"( \| default\(\w+\))? \| bool| is (not )?defined", code[match.end() :]):
                    wrong.append(f"{path.relative_to(ROLES.parent)}:{number}: {line.strip()}")
    assert used > 20
    assert not wrong, "\n".join(wrong)
