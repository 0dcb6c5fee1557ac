"""The command itself: help, usage errors, what it imports."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dsdeploy import session
from dsdeploy.cli import VERBS
from dsdeploy.errors import MEANING, DsdeployError
from dsdeploy.invocation import Options

HEAVY = {"ansible", "ansible_runner", "rich", "yaml", "jinja2", "pexpect"}


@pytest.mark.parametrize("args", [["--help"], ["up", "--help"], ["--version"], ["up", "--bogus"]])
def test_what_only_talks_imports_nothing_heavy(environ: dict[str, str], args: list[str]) -> None:
    code = (
        "import sys; from dsdeploy.cli import main; sys.argv = ['dsdeploy', *sys.argv[1:]]\n"
        "try:\n    main()\nfinally:\n    print('MODULES', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], env=environ, capture_output=True, text=True)
    loaded = {name.split(".")[0] for name in done.stdout.rpartition("MODULES ")[2].split()}
    assert "click" in loaded
    assert not loaded & HEAVY


def modules_of(environ: dict[str, str], *args: str) -> set[str]:
    """Names of the modules that a call of the command has imported."""
    code = (
        "import sys; from dsdeploy.cli import main; sys.argv = ['dsdeploy', *sys.argv[1:]]\n"
        "try:\n    main()\nfinally:\n    print('MODULES', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], env=environ, capture_output=True, text=True)
    return set(done.stdout.rpartition("MODULES ")[2].split())


def test_help_imports_click_and_nothing_else(environ: dict[str, str]) -> None:
    """Counted, not timed: the help of the smallest command that click can make imports as much."""
    program = (
        "import click, sys\n"
        "try:\n    click.Group('x', commands={'y': click.Command('y', help='z')}).main(['--help'])\n"
        "finally:\n    print('MODULES', *sys.modules)"
    )
    smallest = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True).stdout
    more = modules_of(environ, "--help") - set(smallest.rpartition("MODULES ")[2].split())
    assert more == {"dsdeploy", "dsdeploy.cli", "dsdeploy.errors", "dsdeploy.output"}


def test_a_verb_is_imported_alone(environ: dict[str, str]) -> None:
    loaded = modules_of(environ, "status", "--help")
    assert {name for name in loaded if name.startswith("dsdeploy.cli.")} == {
        "dsdeploy.cli._options",
        "dsdeploy.cli.status",
    }
    assert "dsdeploy.session" not in loaded


def test_plain_output_draws_nothing(environ: dict[str, str]) -> None:
    loaded = modules_of(environ, "status", "-i", "nowhere")
    assert "dsdeploy.session" in loaded
    assert not {name.split(".")[0] for name in loaded} & (HEAVY - {"yaml"})
    assert not any(name.endswith((".live", ".ndjson")) for name in loaded if name.startswith("dsdeploy"))


@pytest.mark.parametrize("verb", VERBS)
def test_help_says_of_a_verb_what_the_verb_says_of_itself(verb: str) -> None:
    place, says = VERBS[verb]
    module, _colon, name = place.partition(":")
    assert getattr(importlib.import_module(module), name).get_short_help_str(100) == says


def test_help_names_every_verb_and_exit_code(dsdeploy) -> None:  # type: ignore[no-untyped-def]
    done = dsdeploy("--help")
    assert done.returncode == 0
    for word in (*VERBS, *map(str, map(int, MEANING)), *MEANING.values()):
        assert word in done.stdout


# gguf works on local files, without hosts; model and key have verbs of their own.
PLAYBOOK_VERBS = [verb for verb in VERBS if verb not in ("gguf", "model", "key", "init", "completion")]
PLAYBOOK_VERBS += ["model list", "model verify", "model prune", "key add", "key list", "key revoke"]


@pytest.mark.parametrize("verb", PLAYBOOK_VERBS)
def test_every_verb_has_help_and_the_common_options(dsdeploy, verb: str) -> None:  # type: ignore[no-untyped-def]
    done = dsdeploy(*verb.split(), "--help")
    assert done.returncode == 0
    for option in (
        "--inventory",
        "--engine",
        "--limit",
        "--check",
        "--diff",
        "--json",
        "--ask-become-pass",
        "--vault-id",
    ):
        assert option in done.stdout


def test_version_names_what_a_bug_report_needs(dsdeploy, checkout: Path) -> None:  # type: ignore[no-untyped-def]
    out = dsdeploy("--version").stdout
    assert out.startswith("dsdeploy 9.9.9 (ansible-core 2.")
    assert str(checkout) in out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["upp"], "dsdeploy: there is no verb 'upp'; did you mean up?"),
        (["model", "lst"], "'lst'"),
        (["up", "--modle", "x"], "--model"),
        (["up", "--bogus"], "--bogus"),
        (["up", "--limit", ""], "--limit: names no host"),
        (["ask", "--max-tokens", "-1"], "-1 is not in the range"),
        (["status", "-e", "{bad"], "-e {bad: is not valid JSON or YAML"),
        (["logs", "-n", "0"], "0 is not in the range"),
        (["status", "--model", "x"], "--model"),
        (["up", "--private-key", "/nope"], "/nope"),
        (["up", "-i", "lokal"], "Did you mean local?"),
        (["up", "-e", "word"], "-e word: 'word' names no value"),
    ],
)
def test_usage_errors_end_with_2_and_one_clear_line(dsdeploy, args: list[str], said: str) -> None:  # type: ignore[no-untyped-def]
    done = dsdeploy(*args)
    assert done.returncode == 2
    what, hint = done.stderr.splitlines()
    assert said in what + hint
    assert hint.startswith("  next: ")
    assert done.stdout == ""


def test_usage_error_with_json_ends_in_a_summary(dsdeploy) -> None:  # type: ignore[no-untyped-def]
    done = dsdeploy("up", "--json", "-i", "lokal")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["event"] for line in lines] == ["failure", "summary"]
    assert (lines[1]["ok"], lines[1]["exit_code"], done.returncode) == (False, 2, 2)
    assert "lokal" in lines[0]["msg"]


@pytest.mark.parametrize("args", [["--help"], ["completion", "bash"], ["--version"]])
def test_an_output_that_cannot_be_written_is_one_line(environ: dict[str, str], args: list[str]) -> None:
    command = [sys.executable, "-m", "dsdeploy", *args]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, env=environ, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "dsdeploy: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize("args", [["completion", "bash"], ["--help"]])
def test_of_an_output_that_nobody_reads_any_more_nothing_is_said(environ: dict[str, str], args: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "dsdeploy", *args], env=environ, stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_machine_without_places_of_its_own_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A working directory that was removed, a machine without a place for temporary files."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for soft_stop in (False, True):
        assert session.execute("status", Options(), {}, soft_stop=soft_stop) == 2
        assert "the working directory is not there any more" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(gone)])
    assert session.execute("bench", Options(), {}, soft_stop=True) == 2
    assert "next: Set TMPDIR" in capsys.readouterr().err


def test_ansible_has_a_home_where_the_user_has_none_to_write_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    other = str(tmp_path / f"dsdeploy-home-{os.geteuid()}")
    for name in ("ANSIBLE_HOME", "ANSIBLE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))  # as one that cannot be written
    environment = session.plan("status", Options(), {}).environment
    assert (environment["ANSIBLE_HOME"], "HOME" in environment) == (other, False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # no $HOME, and a user that the system does not know
    environment = session.plan("status", Options(), {}).environment
    assert environment["ANSIBLE_HOME"] == environment["HOME"] == other
    assert Path(other).stat().st_mode & 0o777 == 0o700
    Path(other).chmod(0o777)  # somebody else may have put anything there
    with pytest.raises(DsdeployError, match="not yours alone"):
        session.plan("status", Options(), {})
    monkeypatch.setenv("ANSIBLE_HOME", "/elsewhere")
    assert "ANSIBLE_HOME" not in session.plan("status", Options(), {}).environment
    monkeypatch.undo()
    monkeypatch.delenv("ANSIBLE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "not" / "yet"))
    assert "ANSIBLE_HOME" not in session.plan("status", Options(), {}).environment
