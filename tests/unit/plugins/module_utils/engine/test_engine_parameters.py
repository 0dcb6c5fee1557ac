# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from pathlib import Path

import pytest
import yaml
from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import parameters

ROOT = Path(__file__).resolve().parents[5]
TABLE = yaml.safe_load((ROOT / "roles/vllm_venv/vars/main/parameters.yml").read_text(encoding="utf-8"))[
    "_vllm_venv_table"
]
HELPS = ROOT / "tests/unit/fixtures/vllm_help"
VERSIONS = ["0.31.0", "0.32.0"]
GONE = {"swap_space", "device", "speculative_disable_by_batch_size", "calculate_kv_scales"}
# A value for each parameter of the table.
VALUES = {
    "model": "/models/tiny",
    "served_model_name": "deepseek-r1",
    "host": "127.0.0.1",
    "port": 8000,
    "uvicorn_log_level": "info",
    "allowed_origins": ["https://example.org"],
    "allow_credentials": True,
    "ssl_keyfile": "/etc/ssl/key",
    "ssl_certfile": "/etc/ssl/crt",
    "ssl_cert_reqs": 0,
    "tensor_parallel_size": 8,
    "pipeline_parallel_size": 1,
    "data_parallel_size": 1,
    "enable_expert_parallel": True,
    "nnodes": 2,
    "node_rank": 1,
    "master_addr": "10.0.0.1",
    "master_port": 29501,
    "headless": True,
    "gpu_memory_utilization": 0.95,
    "block_size": 16,
    "device": "auto",
    "enforce_eager": True,
    "swap_space": 4,
    "cpu_offload_gb": 0,
    "max_cpu_loras": 2,
    "dtype": "float16",
    "max_model_len": 8192,
    "tokenizer_mode": "auto",
    "reasoning_parser": "deepseek_r1",
    "tool_call_parser": "deepseek_v3",
    "enable_auto_tool_choice": True,
    "load_format": "safetensors",
    "config_format": "hf",
    "trust_remote_code": True,
    "hf_overrides": {"rope_theta": 1000000},
    "max_num_seqs": 256,
    "max_num_batched_tokens": 8192,
    "max_logprobs": 5,
    "speculative_disable_by_batch_size": 8,
    "enable_prefix_caching": True,
    "allowed_local_media_path": "/srv/media",
    "quantization": "awq_marlin",
    "kv_cache_dtype": "fp8",
    "lora_dtype": "auto",
    "calculate_kv_scales": True,
}


def known(version):
    return parameters.parse_help((HELPS / f"{version}.txt").read_text(encoding="utf-8"))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_parameter_is_rendered_and_known_to_vllm_or_refused_with_what_replaced_it(version):
    assert set(VALUES) == set(TABLE)
    assert parameters.check_values(TABLE, VALUES, "vllm_venv") == []
    problems = parameters.check_help(TABLE, VALUES, "vllm_venv", "vLLM", version, known(version))
    assert {line.split(":")[0].removeprefix("vllm_venv_") for line in problems} == GONE
    for line in problems:
        assert f"vLLM {version} does not know --" in line
        assert " any more: " in line
    rest = {name: value for name, value in VALUES.items() if name not in GONE}
    words = parameters.render(TABLE, rest)
    flags = [word for word in words if word.startswith("--")]
    assert len(flags) == len(rest) - 1  # the model stands alone
    assert set(flags) <= set(known(version))


def test_the_command_line():
    words = parameters.render(
        TABLE,
        {
            "port": 8000,
            "allowed_origins": ["https://a", "https://b"],
            "hf_overrides": {"a": {"b": 1}},
            "enforce_eager": False,
            "enable_prefix_caching": False,
            "gpu_memory_utilization": 0.95,
            "block_size": None,
        },
    )
    assert words == [
        *("--port", "8000"),
        *("--allowed-origins", '["https://a", "https://b"]'),
        *("--gpu-memory-utilization", "0.95"),
        *("--hf-overrides", '{"a": {"b": 1}}'),
        "--no-enable-prefix-caching",
    ]


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("port", 70000, "vllm_venv_port: expected a value from 1 to 65535, found 70000"),
        ("port", "many", "vllm_venv_port: expected a whole number, found 'many'"),
        ("port", True, "vllm_venv_port: expected a whole number, found True"),
        ("gpu_memory_utilization", 95, "vllm_venv_gpu_memory_utilization: expected a value from 0.05 to 1.0, found 95"),
        ("max_num_seqs", 0, "vllm_venv_max_num_seqs: expected a value at least 1, found 0"),
        (
            "dtype",
            "bfloat-16",
            "vllm_venv_dtype: expected one of auto, half, float16, bfloat16, float, float32, found 'bfloat-16'; did "
            "you mean bfloat16?",
        ),
        ("enforce_eager", "yes", "vllm_venv_enforce_eager: expected true or false, found 'yes'"),
        ("hf_overrides", "{", "vllm_venv_hf_overrides: expected JSON, found '{'"),
    ],
)
def test_a_wrong_value_gets_one_line(name, value, line):
    found = parameters.check_values(TABLE, {name: value}, "vllm_venv")
    assert len(found) == 1
    assert found[0].startswith(line)


def test_a_value_that_the_installed_engine_does_not_offer_is_refused():
    values = {"kv_cache_dtype": "fp8_e4m", "tool_call_parser": "not-checked-because-plugins-add-some"}
    (line,) = parameters.check_help(TABLE, values, "vllm_venv", "vLLM", "0.32.0", known("0.32.0"))
    assert line.startswith("vllm_venv_kv_cache_dtype: vLLM 0.32.0 does not know --kv-cache-dtype fp8_e4m; did you mean")


@pytest.mark.parametrize(
    "name",
    ["dtype", "uvicorn_log_level", "load_format", "quantization", "tokenizer_mode", "kv_cache_dtype", "config_format"],
)
def test_a_word_that_no_release_knows_is_refused_before_one_is_installed(name):
    (line,) = parameters.check_values(TABLE, {name: "bogus"}, "vllm_venv")
    assert line.startswith(f"vllm_venv_{name}: expected one of ")
    assert "auto" in line or "info" in line


@pytest.mark.parametrize("name", ["load_format", "quantization", "tokenizer_mode", "kv_cache_dtype", "config_format"])
def test_a_lock_of_the_user_s_own_may_bring_plugins_that_know_more(name):
    assert parameters.check_values(TABLE, {name: "mine"}, "vllm_venv", own_lock=True) == []
    assert parameters.check_values(TABLE, {"dtype": "float99"}, "vllm_venv", own_lock=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_release_offers_is_not_refused(version):
    for name, row in TABLE.items():
        offered = known(version).get(parameters.flag_of(name, row), parameters.Known(())).choices
        for choice in offered:
            assert parameters.check_values(TABLE, {name: choice}, "vllm_venv") == []


def test_extra_args_are_checked_by_name():
    extra = ["--seed", "1", "--compilation-config.mode=3", "--max_model_len=10", "-O3", "--swap-spaces", "4"]
    (line,) = parameters.check_extra_args(extra, "vllm_venv", "vLLM", "0.32.0", known("0.32.0"))
    assert line.startswith("vllm_venv_extra_args: vLLM 0.32.0 does not know --swap-spaces")


def test_words_of_the_user_s_own_go_around_no_check():
    table = {"max_len": {}, "enable_x": {"type": "flag", "negative": "--no-enable-x"}, "host": {}}
    extra = ["--seed", "1", "--max-len=9", "--no_enable_x", "--host=0.0.0.0", "--max-len.a", "1"]
    assert parameters.check_own_flags(table, extra, "vllm_venv") == [
        "vllm_venv_extra_args: --host: set vllm_venv_host",
        "vllm_venv_extra_args: --max-len: set vllm_venv_max_len instead",
        "vllm_venv_extra_args: --no-enable-x: set vllm_venv_enable_x instead",
        "vllm_venv_extra_args: --max-len: set vllm_venv_max_len instead",
    ]


RECIPE = {
    "parameters": {
        "enforce_eager": True,
        "enable_prefix_caching": True,
        "max_model_len": 9,
        "dtype": "half",
        "rope": {"a": 1},
    }
}
SWITCHED = {
    "enforce_eager": {"type": "flag"},
    "enable_prefix_caching": {"type": "flag", "negative": "--no-enable-prefix-caching"},
    "max_model_len": {"type": "int"},
    "dtype": {},
    "rope": {"type": "json"},
}


@pytest.mark.parametrize("false", [False, "false", "False"])
def test_a_recipe_is_switched_off_by_false(false):
    values = parameters.filled(SWITCHED, dict.fromkeys(SWITCHED, false), RECIPE)
    assert parameters.check_values(SWITCHED, values, "e") == []
    assert parameters.render(SWITCHED, values) == ["--no-enable-prefix-caching"]


@pytest.mark.parametrize("left", [None, "", [], {}])
def test_what_is_left_is_the_recipe_s(left):
    values = parameters.filled(SWITCHED, dict.fromkeys(SWITCHED, left), RECIPE)
    assert values == RECIPE["parameters"]


def test_a_default_of_the_table_is_given_even_when_it_is_empty():
    table = {"allowed_origins": {"type": "json", "default": []}}
    assert parameters.render(table, parameters.filled(table, {"allowed_origins": []}, {})) == [
        "--allowed-origins",
        "[]",
    ]
    values = parameters.filled(table, {"allowed_origins": ["https://a"]}, {})
    assert parameters.render(table, values) == ["--allowed-origins", '["https://a"]']


def test_a_model_stands_alone_where_its_flag_is_empty():
    table = {"model": {"flag": ""}, "port": {"type": "int"}}
    assert parameters.render(table, {"model": "/srv/m", "port": 1}) == ["/srv/m", "--port", "1"]
    known_flags = {"--port": parameters.Known(())}
    assert parameters.check_help(table, {"model": "/srv/m", "port": 1}, "e", "E", "1.0", known_flags) == []


def test_versions_bound_a_parameter():
    table = {"old": {"until": "0.10.0", "replaced_by": "use new"}, "new": {"since": "0.10.0"}}
    check = parameters.check_version
    values = {"old": "x", "new": "x"}
    assert check(table, values, "e", "E", "0.9.2") == ["e_new: E 0.9.2 does not know --new yet, it came with 0.10.0"]
    assert check(table, values, "e", "E", "0.10.1.post2") == [
        "e_old: E 0.10.1.post2 does not know --old any more: use new"
    ]


def test_a_recipe_fills_in_what_is_left_to_the_engine():
    recipes = [
        {"until": "0.12.0", "parameters": {"dtype": "half"}},
        {"parameters": {"dtype": "float16", "max_model_len": 65536}, "environment": {"A": "1"}},
    ]
    recipe = parameters.recipe_of(recipes, "0.32.0")
    assert recipe["environment"] == {"A": "1"}
    filled = parameters.filled(TABLE, {"dtype": "", "max_model_len": 8192, "enforce_eager": False}, recipe)
    assert filled == {"dtype": "float16", "max_model_len": 8192, "enforce_eager": False}
    assert parameters.recipe_of(recipes, "0.11.2")["parameters"] == {"dtype": "half"}
    assert parameters.recipe_of([], "0.32.0") == {}


def test_values_from_the_command_line_come_as_text():
    given = {
        "port": "8001",
        "gpu_memory_utilization": "0.9",
        "enforce_eager": "yes",
        "block_size": "x",
        "dtype": "half",
    }
    assert parameters.filled(TABLE, given, {}) == {
        "port": 8001,
        "gpu_memory_utilization": 0.9,
        "enforce_eager": True,
        "block_size": "x",
        "dtype": "half",
    }


def test_a_recipe_is_proven_by_a_start_of_the_same_version():
    ran = {"gpus": "2 x NVIDIA H200", "engine": "0.31.0", "ready_s": 90}
    recipe = {"parameters": {"dtype": "half"}, "started": [ran]}
    assert parameters.unproven(recipe, "vLLM", "0.31.0", "m") == ""
    assert parameters.unproven(recipe, "vLLM", "0.32.0", "m") == (
        "the recipe of m was started with vLLM 0.31.0 on 2 x NVIDIA H200, not with vLLM 0.32.0 yet"
    )
    recipe = {"parameters": {"dtype": "half"}}
    assert parameters.unproven(recipe, "vLLM", "0.31.0", "m") == (
        "the recipe of m for vLLM has not been started on GPUs yet"
    )
    assert parameters.unproven({}, "vLLM", "0.31.0", "m") == ""


def test_r1_on_vllm_has_no_expert_parallelism_on_one_host():
    """With it vLLM takes FlashInfer's FP8 experts on Hopper, which nvcc compiles for about 39 minutes."""
    catalog = yaml.safe_load((ROOT / "roles/model/defaults/main/catalog.yml").read_text())["model_catalog"]
    for version in ("0.19.1", "0.32.0"):
        recipe = parameters.recipe_of(catalog["deepseek-r1"]["recipes"]["vllm"], version)
        assert not (recipe.get("parameters") or {}).get("enable_expert_parallel")


def test_a_recipe_with_an_unknown_parameter_is_refused():
    with pytest.raises(ValueError, match="there is no parameter max_model_length; did you mean max_model_len"):
        parameters.filled(TABLE, {}, {"parameters": {"max_model_length": 1}})


def test_the_catalog_s_recipes_are_of_parameters_that_both_versions_know():
    catalog = yaml.safe_load((ROOT / "roles/model/defaults/main/catalog.yml").read_text(encoding="utf-8"))
    recipes = [
        recipe for entry in catalog["model_catalog"].values() for recipe in entry.get("recipes", {}).get("vllm", [])
    ]
    assert len(recipes) > 8
    for recipe in recipes:
        values = parameters.filled(TABLE, {}, recipe)
        assert parameters.check_values(TABLE, values, "vllm_venv") == []
        for version in VERSIONS:
            assert parameters.check_help(TABLE, values, "vllm_venv", "vLLM", version, known(version)) == []
