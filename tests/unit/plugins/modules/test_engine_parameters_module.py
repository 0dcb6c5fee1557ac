# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from run_module import run

ARGUMENTS = {
    "table": {
        "port": {"type": "int", "max": 65535},
        "swap_space": {"type": "int", "replaced_by": "use something else"},
    },
    "values": {"port": 8000, "swap_space": None},
    "prefix": "vllm_venv",
    "engine": "vLLM",
    "version": "0.32.0",
}


def test_the_command_line_of_an_engine_that_is_not_installed_yet():
    done = run("engine_parameters", {**ARGUMENTS, "help_file": "/nowhere", "extra_args": ["--seed", "1"]})
    assert done["argv"] == ["--port", "8000", "--seed", "1"]
    assert (done["changed"], done["compared"]) == (False, False)


def test_a_version_is_numbers():
    done = run("engine_parameters", {**ARGUMENTS, "version": "latest"})
    assert (done["msg"], done["error_kind"]) == ("vllm_venv_version: 'latest' is not a version", "usage")


def test_everything_that_is_wrong_is_said_at_once(tmp_path):
    help_file = tmp_path / "help.txt"
    help_file.write_text("usage: x\n\noptions:\n  --port PORT           Port.\n")
    values = {"port": 8000, "swap_space": 4}
    done = run(
        "engine_parameters", {**ARGUMENTS, "values": values, "help_file": str(help_file), "extra_args": ["--ports"]}
    )
    assert done["failed"]
    assert done["error_kind"] == "usage"
    assert done["problems"] == [
        "vllm_venv_swap_space: vLLM 0.32.0 does not know --swap-space any more: use something else",
        "vllm_venv_extra_args: vLLM 0.32.0 does not know --ports; did you mean --port?",
    ]


def test_known_values_bind_unless_the_lock_is_the_user_s_own():
    arguments = {**ARGUMENTS, "table": {"load_format": {"known": ["auto", "pt"]}}, "values": {"load_format": "ptt"}}
    done = run("engine_parameters", arguments)
    assert done["msg"] == "vllm_venv_load_format: expected one of auto, pt, found 'ptt'; did you mean pt?"
    assert done["error_kind"] == "usage"
    assert run("engine_parameters", {**arguments, "own_lock": True})["argv"] == ["--load-format", "ptt"]


def test_a_recipe_is_filled_in_and_brings_its_environment():
    recipes = [{"parameters": {"port": 9000}, "environment": {"A": "1"}}]
    done = run("engine_parameters", {**ARGUMENTS, "values": {"port": None}, "recipes": recipes})
    assert (done["argv"], done["environment"]) == (["--port", "9000"], {"A": "1"})


def test_the_engine_s_own_rules_are_asked():
    facts = {"profile": "cuda", "gpus": 1}
    table = {**ARGUMENTS["table"], "data_parallel_size": {"type": "int"}}
    arguments = {**ARGUMENTS, "table": table, "values": {"data_parallel_size": 2}, "rules": "vllm", "facts": facts}
    done = run("engine_parameters", arguments)
    assert done["msg"].endswith("data 2 needs 2 GPUs, this host has 1")


def test_a_recipe_that_was_not_started_on_gpus_is_told_of_once():
    facts = {"profile": "cuda", "gpus": 1, "model": {"name": "deepseek-r1-awq"}}
    recipes = [{"parameters": {"port": 9000}}]
    arguments = {**ARGUMENTS, "values": {"port": None}, "recipes": recipes, "rules": "vllm", "facts": facts}

    def warnings(**changes):
        return str(run("engine_parameters", {**arguments, **changes}).get("warnings", []))

    assert "the recipe of deepseek-r1-awq for vLLM has not been started on GPUs yet" in warnings()
    # In configure, which compares with the help, it is not said again; nor where there is no recipe, or no GPU.
    assert warnings(help_file="/nowhere") == "[]"
    assert warnings(recipes=[]) == "[]"
    assert warnings(facts={**facts, "profile": "cpu"}) == "[]"
    ran = {"gpus": "2 x NVIDIA H200", "engine": "0.32.0", "ready_s": 90}
    assert warnings(recipes=[{**recipes[0], "started": [ran]}]) == "[]"
