"""What cannot be meant ends with exit code 2, in one line with the next thing to do: the collection's own playbooks, on
this machine, in check mode and without becoming root."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
Run = Callable[..., tuple[int, list[dict[str, Any]]]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run_it(*words: str, **inventory: Any) -> tuple[int, list[dict[str, Any]]]:
        """The exit code of a verb over an inventory with these variables, and its events."""
        hosts = {"all": {"hosts": {"here": {**HERE, **inventory}}}}
        (tmp_path / "hosts.json").write_text(json.dumps(hosts))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        done = subprocess.run(
            [sys.executable, "-m", "dsdeploy", *words, "--json", "-i", str(tmp_path / "hosts.json"), "--check"],
            cwd=tmp_path,
            env={**kept, "PYTHONPATH": str(ROOT / "python"), "TMPDIR": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        told = [json.loads(line) for line in done.stdout.splitlines()]
        assert done.returncode == told[-1]["exit_code"], done.stderr
        return done.returncode, told

    return run_it


def refusal(told: list[dict[str, Any]]) -> str:
    """The one failure's message, which is a line and says what to do next."""
    (failure,) = told[-1]["failures"]
    assert failure["hint"]
    assert "\n" not in failure["msg"] + failure["hint"]
    return str(failure["msg"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("up --engine lama_cpp", "there is no engine lama_cpp; did you mean llama_cpp?"),
        ("up --model smolm2-135m-instruct", "did you mean smollm2-135m-instruct?"),
        ("up --limit nobody", "--limit leaves us with no hosts"),
        ("up -e llama_cpp_port=abc", "llama_cpp_port is not a whole number"),
        ("up -e llama_cpp_extra_args=--batch-size", "llama_cpp_extra_args is the string '--batch-size', not a list"),
        (
            "up -e llama_cpp_port=99999 -e llama_cpp_wheel_version=latest",
            "llama_cpp_port is '99999', expected a whole number from 1 to 65535; "
            "llama_cpp_wheel_version is 'latest', expected a version",
        ),
        (
            "up --engine ollama -e ollama_port=0 -e ollama_gpu_layers=al -e ollama_version=newest",
            "ollama_version is 'newest', expected a version, such as 1.2.3; "
            "ollama_port is '0', expected a whole number from 1 to 65535; "
            "ollama_gpu_layers is 'al' (did you mean all?)",
        ),
        (
            "up --engine ollama -e ollama_keep_alive=forever -e ollama_origins=example.org",
            "ollama_keep_alive is 'forever', expected a duration such as 10m",
        ),
        (
            """up --engine ollama -e {"ollama_parameters":{"num_gpus":1}}""",
            "ollama_parameters: Ollama has no parameter num_gpus; did you mean num_gpu?",
        ),
        ("up --engine ollama -e ollama_template={{.Prompt}}", "ollama_template holds a template of Go's"),
        (
            "up --skip-tags verify",
            "--skip-tags verify would leave out the stages before it, too: each stage does those first",
        ),
        ("prepare -e nvidia_driver_branch=newest", "nvidia_driver_branch is 'newest', expected a whole number"),
        ("prepare -e nvidia_driver_install_method=nvdia", "(did you mean nvidia? choices: "),
        ("""prepare -e {"dsdeploy_prepare_roles":["cuda_tolkit"]}""", "Got no match for: cuda_tolkit"),
        ("status --engine lama_cpp", "there is no engine lama_cpp; did you mean llama_cpp?"),
        ("ask --engine vlm Why?", "there is no engine vlm; did you mean vllm?"),
        ("ask -e dsdeploy_answer_timeout=x Why?", "dsdeploy_answer_timeout is not a whole number"),
        ("down --engine vlm", "there is no engine vlm; did you mean vllm?"),
        ("down -e dsdeploy_purge_models=x", "dsdeploy_purge_models is the string 'x', not a list: "),
        ("up -e gateway_networks=10.0.0.0/8", "gateway_networks is the string '10.0.0.0/8', not a list: "),
        ("prepare -e cuda_toolkit_extra_versions=12.4", "cuda_toolkit_extra_versions is the string '12.4', not a list"),
        (
            "up -e llama_cpp_allowed_origins=https://x.example -e llama_cpp_source_cmake_args=-DGGML_AVX2=OFF",
            "llama_cpp_allowed_origins is the string 'https://x.example', not a list: ",
        ),
        ("up --engine ollama -e ollama_origins=https://x.example", "ollama_origins is the string 'https://x.example'"),
        ("down -e dsdeploy_purge=maybe", "dsdeploy_purge is not true or false"),
        ("model verify no-such-model", "model no-such-model is not in the store"),
        ("model prune -e model_prune_unused=maybe", "model_prune_unused is not true or false"),
        ("up -e model_require_pinned=maybe", "model_require_pinned is not true or false: 'maybe'"),
        ("up -e model_catalog_extra=[1]", "model_catalog_extra is not a mapping"),
    ],
)
def test_a_value_that_cannot_be_meant(run: Run, words: str, said: str) -> None:
    code, told = run(*words.split(" "))
    assert said in refusal(told)
    assert code == 2


@pytest.mark.parametrize("verb", ["up", "down", "status"])
def test_a_misspelt_variable_on_the_command_line_is_refused(run: Run, verb: str) -> None:
    code, told = run(*verb.split(), "-e", "vllm_venv_max_modle_len=4096")
    said = "vllm_venv_max_modle_len is not a variable of dsdeploy; did you mean vllm_venv_max_model_len?"
    assert refusal(told) == said
    assert code == 2
    # Before the host is asked for anything.
    assert not told[-1]["hosts"]["here"]["changed_tasks"]


def test_a_misspelt_variable_of_the_inventory_is_one_warning_a_run(run: Run) -> None:
    mine = {"llama_cpp_contxt": 4096, "model_team": "us", "_llama_cpp_x": 1, "dsdeploy_prepare_host": True}
    code, told = run("up", "-t", "prepare,preflight", **mine)
    assert code == 0
    warned = [line["text"] for line in told if line["event"] == "warning" and "not a variable" in line["text"]]
    assert len(warned) == 1
    assert warned[0].startswith(
        "llama_cpp_contxt is not a variable of dsdeploy; did you mean llama_cpp_context?; model_team is"
    )
    assert "_llama_cpp_x" not in warned[0]
    # What only reads does not nag. Its exit code is that of what this machine serves, if it serves something.
    code, told = run("status", **mine)
    assert code in (0, 3) and [line for line in told if line["event"] == "warning"] == []


PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars: {model_written: 1}
  tasks:
    - ansible.builtin.set_fact: {model_noted: 1, nvidia_driver_reboot_reasons: 1}
    - ansible.builtin.debug: {msg: x}
      register: model_registered
    - dsdeploy.llm.variable_check:
      register: found
    - ansible.builtin.assert:
        that: found.unknown == ['model_noted', 'model_registered', 'model_written']
"""


def test_a_name_is_told_of_wherever_it_comes_from_but_for_what_roles_note(tmp_path: Path) -> None:
    """Ansible has no public way to tell what a run has noted from what was written."""
    (tmp_path / "play.yml").write_text(PLAY)
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "play.yml"],
        cwd=tmp_path,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections")},
    )
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("tags", "said"),
    [("preflight", ["preflight"]), ("model", ["model"]), ("install", ["preflight", "model", "install"])],
)
def test_the_summary_knows_the_stages(run: Run, tags: str, said: list[str]) -> None:
    code, told = run("up", "-t", tags)
    assert code == 0
    assert told[-1]["hosts"]["here"]["stages"] == said


def test_nothing_is_fetched_for_a_run_that_finds_nobody_to_ask(run: Run) -> None:
    code, told = run("up", "-t", "verify", "--engine", "sglang", sglang_allow_vulnerable=True)
    assert "--tags verify asks what is deployed, and sglang is not deployed on this host" in refusal(told)
    assert (code, told[-1]["hosts"]["here"]["stages"]) == (1, ["preflight"])


def test_a_misspelt_host_beside_another_is_told(run: Run) -> None:
    code, told = run("status", "--limit", "here:hre")
    assert code == 0
    assert [line["text"] for line in told if line["event"] == "warning"] == [
        "the inventory has no host or group hre: it is left out"
    ]


@pytest.mark.parametrize("verb", ["add", "revoke"])
@pytest.mark.parametrize("name", ["two words", "../x", "x{{ y }}", "", "a\nb"])
def test_a_name_that_no_key_can_have_is_told_before_any_host_is_asked(run: Run, verb: str, name: str) -> None:
    """Of a host that is not reached it would be told that alone, and that another run may replace a key."""
    gone = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    code, told = run("key", verb, name, **gone)
    assert code == 2
    assert f"gateway_key_name: '{' '.join(name.split())}' is not a name for a key" in refusal(told)
