"""The command blocks of the documents: what they call exists, and those marked `sh run` run here."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from dsdeploy.cli import cli

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^ *```sh( run)?\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def commands() -> list[tuple[str, str]]:
    found = []
    for path in DOCUMENTS:
        for _run, text in BLOCK.findall(path.read_text(encoding="utf-8")):
            for line in text.splitlines():
                if "dsdeploy " in line and line.strip().startswith(("./dsdeploy", "dsdeploy")):
                    found.append((path.name, line.strip()))
    return found


@pytest.mark.parametrize(("document", "line"), commands())
def test_every_command_in_the_documents_is_one(
    document: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verbs, options and arguments, as click takes them; nothing is run. In capitals stands what the user fills in."""
    words = shlex.split(line, comments=True)[1:]
    if "--key-file" in words:
        monkeypatch.chdir(tmp_path)
        Path(words[words.index("--key-file") + 1]).touch(0o600)
    context = cli.make_context("dsdeploy", list(words), resilient_parsing=False) if words != ["--help"] else None
    command: click.Command = cli
    rest = words
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(context or click.Context(cli), rest[0])
        assert found, f"{document}: {line}"
        command, rest = found, rest[1:]
    if command is not cli:
        command.make_context(line, list(rest))


def test_every_model_in_the_documents_is_in_the_catalog() -> None:
    folder = ROOT / "roles" / "model" / "defaults" / "main"
    catalog = "".join((folder / name).read_text(encoding="utf-8") for name in ("catalog.yml", "catalog_others.yml"))
    for document, line in commands():
        words = shlex.split(line, comments=True)
        for name in [words[n + 1] for n, word in enumerate(words) if word == "--model"]:
            if not name.startswith("/") and not name.isupper():
                assert f"\n  {name}:\n" in catalog, f"{document}: {line}"


def runnable() -> list[object]:
    found = []
    for path in DOCUMENTS:
        for number, (run, text) in enumerate(BLOCK.findall(path.read_text(encoding="utf-8"))):
            if run:
                found.append(pytest.param(text, id=f"{path.stem}-{number}"))
    return found


@pytest.mark.parametrize("text", runnable())
def test_the_blocks_that_can_run_here_do(text: str, tmp_path: Path) -> None:
    # `./dsdeploy` as it is, without the set-up of its .venv: with the packages of the tests.
    program = tmp_path / "dsdeploy"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dsdeploy "$@"\n')
    program.chmod(0o755)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environ |= {
        "PATH": f"{Path(sys.executable).parent}:{environ['PATH']}",
        "PYTHONPATH": str(ROOT / "python"),
        "TMPDIR": str(tmp_path),
    }
    done = subprocess.run(
        ["bash", "-eu", "-c", text.replace("./dsdeploy", str(program))],
        cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    # What is deployed on this machine is not of this test: `status` says that something is not ready with 3.
    assert done.returncode in (0, 3), done.stdout + done.stderr


def test_the_links_between_the_documents_lead_somewhere() -> None:
    for path in [*DOCUMENTS, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
