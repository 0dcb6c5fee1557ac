"""`dsdeploy init` and `dsdeploy completion`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from dsdeploy.cli import VERBS, cli, main
from dsdeploy.cli.init import init
from dsdeploy.errors import DsdeployError

PLAN = {
    "event": "plan",
    "plan": {"recommended": {"engine": "vllm", "model": "m", "variables": {"vllm_venv_max_model_len": 8192, "X": 1}}},
}


def run(where: Path, *args: str, typed: str = "") -> Any:
    return CliRunner().invoke(init, [str(where / "mine"), *args], input=typed, catch_exceptions=False)


def read(where: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    hosts = yaml.safe_load((where / "mine" / "hosts.yml").read_text(encoding="utf-8"))
    return hosts["all"]["hosts"], yaml.safe_load((where / "mine/group_vars/all/main.yml").read_text(encoding="utf-8"))


def test_without_a_terminal_it_is_the_default_of_all(tmp_path: Path) -> None:
    done = run(tmp_path)
    hosts, variables = read(tmp_path)
    assert set(hosts) == {"localhost"} and hosts["localhost"]["ansible_connection"] == "local"
    assert variables == {"dsdeploy_engine": "llama_cpp", "dsdeploy_prepare_host": False}
    assert "wrote " in done.output and "next: dsdeploy up -i " in done.output


def test_what_options_say(tmp_path: Path) -> None:
    run(tmp_path, "--host", "gpu1=10.0.0.1", "--host", "gpu2", "-u", "ubuntu", "--port", "2222", "--engine", "vllm",
        "--model", "Qwen/Qwen3-8B: #1", "--prepare")  # fmt: skip
    hosts, variables = read(tmp_path)
    assert (hosts["gpu1"]["ansible_host"], hosts["gpu1"]["ansible_port"]) == ("10.0.0.1", 2222)
    assert hosts["gpu2"]["ansible_user"] == "ubuntu" and "ansible_host" not in hosts["gpu2"]
    assert variables["dsdeploy_model"] == "Qwen/Qwen3-8B: #1" and variables["dsdeploy_prepare_host"] is True


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "hosts.yml").symlink_to("/nonexistent/elsewhere")
    with pytest.raises(DsdeployError, match=r"hosts\.yml exists; nothing was written"):
        run(tmp_path)
    assert os.listdir(tmp_path / "mine") == ["hosts.yml"]


def test_what_is_next_can_be_typed_as_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(init, ["d i r", "--host", "localhost"]).output
    assert "next: dsdeploy up -i './d i r' --check" in said
    with pytest.raises(DsdeployError, match=r"hosts\.yml, d i r/group_vars/all/main\.yml exist; nothing was written"):
        CliRunner().invoke(init, ["d i r", "--host", "localhost"], catch_exceptions=False, standalone_mode=False)


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("a file")
    done = run(tmp_path)
    assert done.exit_code == 2
    (tmp_path / "mine").unlink()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "group_vars").write_text("a file")
    with pytest.raises(DsdeployError, match="nothing was written"):
        run(tmp_path)
    assert os.listdir(tmp_path / "mine") == ["group_vars"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--host", "a b"], "'a b' is not a name"),
        (["--host", "all"], "'all' is not a name"),
        (["--host", "a={{ x }}"], "is not a name, or NAME=ADDRESS"),
        (["--host", "a", "--host", "a"], "a host is named twice"),
        (["--host", "a\nb"], "is not a name"),
        (["--host", "a", "-u", "x y"], "--user: 'x y'"),
        (["--model", "{{ lookup('pipe', 'id') }}"], "model: "),
        (["--model", "a\nb: c"], "model: "),
    ],
)
def test_what_is_no_name_is_refused(tmp_path: Path, args: list[str], said: str) -> None:
    with pytest.raises(DsdeployError) as refused:
        run(tmp_path, *args)
    assert said in str(refused.value) and not (tmp_path / "mine").exists()


def test_from_a_plan(tmp_path: Path) -> None:
    plan = tmp_path / "plan.jsonl"
    plan.write_text(json.dumps({"event": "start"}) + "\n" + json.dumps(PLAN) + "\n")
    run(tmp_path, "--from-plan", str(plan))
    _hosts, variables = read(tmp_path)
    assert (variables["dsdeploy_engine"], variables["dsdeploy_model"]) == ("vllm", "m")
    assert variables["vllm_venv_max_model_len"] == 8192 and "X" not in variables


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no json", "not the output of `dsdeploy plan --json`"),
        ('{"event": "start"}', "not the output"),
        ('{"plan": {"recommended": null, "why_none": "too small"}}', "nothing is recommended: too small"),
        ('{"plan": {"recommended": {"engine": "evil\\n", "model": "m"}}}', "there is no engine"),
        ('{"plan": {"recommended": {"engine": "vllm", "model": "m", "variables": {"a": "{{ x }}"}}}}', "a template"),
        ("[" * 100000, "not the output"),
        ("\x00\ufeff", "not the output"),
    ],
)
def test_a_plan_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "plan").write_text(text)
    with pytest.raises(DsdeployError, match=said):
        run(tmp_path, "--from-plan", str(tmp_path / "plan"))


def test_a_hostile_plan_says_nothing_of_how_a_host_is_reached(tmp_path: Path) -> None:
    odd = "a\u2028b\x7f\x85\ud83e \U0001f999: #"
    variables = {"ansible_ssh_common_args": "-oProxyCommand=id", "ansible_host": "evil", "vllm_venv_extra_args": [odd]}
    for given in (variables, ["a"], "a", None):
        best = {"engine": "vllm", "model": "m", "variables": given}
        (tmp_path / "plan").write_text(json.dumps({"plan": {"recommended": best}}))
        CliRunner().invoke(
            init, [str(tmp_path / "mine"), "--from-plan", str(tmp_path / "plan")], catch_exceptions=False
        )
        _hosts, written = read(tmp_path)
        assert not [name for name in written if name.startswith("ansible_")]
        if given is variables:
            assert written["vllm_venv_extra_args"] == [odd]
        subprocess.run(["rm", "-r", str(tmp_path / "mine")], check=True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_of_its_shell(shell: str) -> None:
    done = CliRunner().invoke(cli, ["completion", shell], catch_exceptions=False, standalone_mode=False)
    assert "_DSDEPLOY_COMPLETE" in done.output and "dsdeploy" in done.output
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=done.output, text=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["dsdeploy", "sta"], "status"),
        (["dsdeploy", "status", "--wat"], "--watch"),
        (["dsdeploy", "bench", "comp"], "compare"),
    ],
)
def test_words_are_completed(words: list[str], expected: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    asked = {"_DSDEPLOY_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    # However the program is called.
    monkeypatch.setattr(sys, "argv", ["__main__.py"])
    with pytest.raises(SystemExit):
        main()
    assert f"plain,{expected}" in capsys.readouterr().out.splitlines()


def test_both_are_verbs() -> None:
    assert {"init", "completion"} <= set(VERBS)
