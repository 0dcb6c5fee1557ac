# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of docs/plan.md, and its review against what the engines' own recipes say is the least.

To write the tables anew: ``DSDEPLOY_WRITE_DOCS=1 pytest tests/unit/plugins/plugin_utils/test_plan_table.py``.
"""

import json
import os
import re
import sys
from pathlib import Path

import pytest
import shapes
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import parameters
from ansible_collections.dsdeploy.llm.plugins.module_utils.fit import shape as model_shape
from ansible_collections.dsdeploy.llm.plugins.plugin_utils import gpu_products, plan_machine, plan_offers
from plan_cases import CATALOG, ROOT, SEED, plan

PAGE, SCHEMA = ROOT / "docs/plan.md", ROOT / "docs/plan.schema.json"
# (machine, model): why the plan says otherwise than the least memory of the recipe. Each is read by a person.
REVIEW = {
    ("1xRTX4090-24GB", "qwen3-32b-awq"): "the recipe's 20 GB are the weights: at 8,192 tokens 0.1 GiB are missing",
    (
        "1xRTX4090-24GB",
        "qwen3-8b",
    ): "fits if the overhead stays low: 16.4 GB of weights, the plan's overhead is up to 6 GiB",
    (
        "2xRTX4090-24GB",
        "qwen3.6-35b-a3b-fp8",
    ): "fits if the overhead stays low: with experts it may be 6 GiB on each card",
    (
        "1xH100-80GB",
        "gpt-oss-120b",
    ): "the plan counts 60 GiB of weights; the recipe's 96 GB leave room for a larger batch",
    (
        "8xH800-80GB",
        "qwen3-coder-480b-a35b-fp8",
    ): "its experts (2560) are cut in blocks of 128: TP 4 at most; its recipe takes EP, which is not planned",
    (
        "8xH200-141GB",
        "qwen3-coder-480b-a35b-fp8",
    ): "the same: of 8 cards 4 are used, which hold it if the overhead stays low",
    ("2x8xH800-80GB", "qwen3-coder-480b-a35b-fp8"): "the same: TP 4 on two hosts holds it if the overhead stays low",
    (
        "4xA100-80GB",
        "deepseek-v4-flash",
    ): "enough memory; its kernels are for Hopper (a port for A100 is not in a release)",
}


def gigabytes(machine):
    return sum(gpu["memory_total_mib"] for gpu in machine.gpus) * machine.hosts * 1024**2 / 1e9


@pytest.fixture(scope="module")
def plans():
    return {name: plan(name) for name in plan_machine.MACHINES}


def line(name, found):
    best = found["recommended"]
    row = best["row"]
    held = plan_offers.sequences(row)
    models = dict.fromkeys(
        one["model"] for one in found["rows"] if one["verdict"] in ("fits", "recipe") and one["model"] != row["model"]
    )
    engine = plan_offers.TITLES[row["engine"]]
    many = "not known" if held is None else held
    size = f"{gigabytes(plan_machine.of_gpus(name)):.0f}"
    cells = (name, size, f"{row['model']}, {engine}", plan_offers.layout_text(row), many, ", ".join(models))
    return f"| {' | '.join(map(str, cells))} |"


def differing(plans):
    """(machine, model) where plan and recipe do not agree, of vLLM's rows."""
    found = []
    for name, one in plans.items():
        have = gigabytes(plan_machine.of_gpus(name))
        for row in one["rows"]:
            if row["engine"] == "vllm" and row["minimum_vram_gb"]:
                if (have >= row["minimum_vram_gb"]) != (row["verdict"] in ("fits", "recipe")):
                    found.append((name, row["model"]))
    return found


def tables(plans):
    gpus = ["| GPU | memory, MiB | compute capability | FP8 | FP4 | NVLink, GB/s | memory, GB/s | not verified |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for one in gpu_products.PRODUCTS:
        said = ["yes" if known else "no" for known in (one.fp8, one.fp4)]
        gpus.append(
            f"| {one.name} | {one.memory_mib} | {one.capability} | {said[0]} | {said[1]} | {one.nvlink_gb_s or '–'} "
            f"| {one.bandwidth_gb_s} | {', '.join(one.unverified) or '–'} |"
        )
    machines = ["| machine | GB | recommended | how | requests of 8,192 tokens | fits as well |",
                "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    machines += [line(name, found) for name, found in plans.items()]
    review = ["| machine | model | least by its recipe, GB | the plan says | why |", "| --- | --- | --- | --- | --- |"]
    for name, model in differing(plans):
        (row,) = [one for one in plans[name]["rows"] if (one["model"], one["engine"]) == (model, "vllm")]
        review.append(f"| {name} | {model} | {row['minimum_vram_gb']} | {row['verdict']} | {REVIEW[name, model]} |")
    return {"GPUs": gpus, "machines": machines, "review": review}


def test_every_difference_from_a_recipe_was_read_by_a_person(plans):
    assert set(differing(plans)) == set(REVIEW)


def test_the_tables_are_those_of_the_page(plans):
    text = PAGE.read_text(encoding="utf-8")
    for name, rows in tables(plans).items():
        pattern = re.compile(rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)", re.S)
        assert pattern.search(text), name
        made = pattern.sub(lambda found, rows=rows: found[1] + "\n".join(rows) + "\n" + found[2], text)
        if os.environ.get("DSDEPLOY_WRITE_DOCS"):
            text = made
            PAGE.write_text(text, encoding="utf-8")
        assert made == text, f"the table {name} is another one: DSDEPLOY_WRITE_DOCS=1 writes it"


def test_larger_machines_hold_what_smaller_ones_of_the_kind_do(plans):
    def fitting(name):
        return {(one["model"], one["engine"]) for one in plans[name]["rows"] if one["verdict"] in ("fits", "recipe")}

    for small, large in (
        ("1xRTX4090-24GB", "2xRTX4090-24GB"),
        ("1xH100-80GB", "2xH100-80GB"),
        ("2xH100-80GB", "4xH100-80GB"),
    ):
        assert fitting(small) <= fitting(large)


def check(value, schema, where="plan"):
    """The part of JSON Schema that docs/plan.schema.json uses; yields what is wrong."""
    if "$ref" in schema:
        schema = DOCUMENT["$defs"][schema["$ref"].rpartition("/")[2]]
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    types = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}
    if kinds and not any(value is None if kind == "null" else isinstance(value, types[kind]) for kind in kinds):
        yield f"{where}: {value!r} is none of {kinds}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is none of {schema['enum']}"
    if isinstance(value, dict):
        for key in schema.get("required", []):
            if key not in value:
                yield f"{where}: {key} is missing"
        known = schema.get("properties", {})
        for key, item in value.items():
            if key in known:
                yield from check(item, known[key], f"{where}.{key}")
            elif isinstance(schema.get("additionalProperties"), dict):
                yield from check(item, schema["additionalProperties"], f"{where}.{key}")
            elif schema.get("additionalProperties") is False:
                yield f"{where}: {key} is not in the schema"
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from check(item, schema.get("items", {}), f"{where}[{number}]")


DOCUMENT = json.loads(SCHEMA.read_text(encoding="utf-8")) if SCHEMA.exists() else {}


def test_plans_are_as_the_schema_says(plans):
    cases = [
        *plans.values(),
        plan(plan_machine.read(SEED)),
        plan("1xV100-32GB", "deepseek-r1", users=3, context=100_000),
    ]
    for found in cases:
        assert list(check(json.loads(json.dumps(found)), DOCUMENT)) == []


def test_the_schema_can_fail():
    found = json.loads(json.dumps(plan("1xH100-80GB", "qwen3-8b")))
    found["rows"][0]["verdict"] = "perhaps"
    found["rows"][0]["bytes"]["value"] = "much"
    del found["ask"]
    found["more"] = 1
    said = list(check(found, DOCUMENT))
    assert len(said) == 4, said


def test_every_model_with_a_minimum_says_where_it_is_from():
    for name, entry in CATALOG.items():
        if entry.get("minimum"):
            assert "vllm-project/recipes" in entry["minimum"]["source"], name


@pytest.mark.parametrize(("engine", "role"), [("vllm", "vllm_venv"), ("sglang", "sglang")])
def test_what_recipes_set_the_engines_have(engine, role):
    """By the role's own table, with each profile."""
    table = yaml.safe_load((ROOT / f"roles/{role}/vars/main/parameters.yml").read_text())[f"_{role}_table"]
    seen = set()
    for name, entry in CATALOG.items():
        for recipe in (entry.get("recipes") or {}).get(engine) or []:
            values = parameters.filled(table, {}, recipe)
            assert parameters.check_values(table, values, role) == [], name
            seen.add(recipe.get("profile") or "")
    assert "" in seen


def test_a_recipe_for_a_profile_goes_before_one_for_neither():
    recipes = CATALOG["deepseek-r1-0528"]["recipes"]["sglang"]
    profiles = ("", "latency", "throughput")
    plain, latency, throughput = (parameters.recipe_of(recipes, "0.5.23", profile) for profile in profiles)
    assert "speculative_algorithm" not in plain["parameters"] and "enable_dp_attention" not in plain["parameters"]
    assert latency["parameters"]["speculative_algorithm"] == "EAGLE"
    assert throughput["parameters"]["enable_dp_attention"] is True
    # Without one for it, the one for neither.
    assert parameters.recipe_of(CATALOG["qwen3-8b"]["recipes"]["vllm"], "0.32.0", "latency")["parameters"]


def test_what_is_beside_hf_mem_is_what_the_planner_says():
    """The other column is what hf-mem prints: benchmarks/memory_fit.py."""
    section = PAGE.read_text(encoding="utf-8").split("## Beside hf-mem")[1].split("## ")[0]
    rows = re.findall(r"^\| ([a-z0-9.-]+)[^|]* \| [\d,]+ \| ([\d,]+|not known) \|", section, re.M)
    assert len(rows) == 13
    for name, said in rows:
        config = json.loads((ROOT / f"tests/unit/fixtures/configs/{name}.json").read_text())["config"]
        kept = model_shape.kept(shapes.of_config(config), 8192)["value"]
        assert said == ("not known" if kept is None else f"{kept / 8192:,.0f}"), name
