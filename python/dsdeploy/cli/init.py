"""`dsdeploy init`: an inventory of one's own, from a few questions or options."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from dsdeploy.errors import DsdeployError, ExitCode
from dsdeploy.tracker import json_line

ENGINES = ("llama_cpp", "vllm", "sglang", "ollama")
# A name of Ansible's that is no pattern, and no variable in a template.
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
_ADDRESS = re.compile(r"[A-Za-z0-9_.:-]+\Z")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")


@click.command(short_help="Write an inventory of your own, with its variables explained.")
@click.argument("directory", type=click.Path(file_okay=False), default="inventory", metavar="[DIRECTORY]")
@click.option(
    "--host", "hosts", multiple=True, metavar="NAME[=ADDRESS]", help="A host. Repeatable; localhost: this one."
)
@click.option("-u", "--user", metavar="NAME", help="User to connect as.  [default: root]")
@click.option("--port", type=click.IntRange(1, 65535), metavar="N", help="Port of SSH.  [default: 22]")
@click.option("--engine", type=click.Choice(ENGINES), help="Engine to deploy.  [default: llama_cpp]")
@click.option("--model", metavar="NAME", help="Model of the catalog, repository or path.  [default: the engine's]")
@click.option("--prepare/--no-prepare", default=None, help="Whether `up` installs driver and CUDA first.")
@click.option(
    "--from-plan",
    type=click.File("r", encoding="utf-8"),
    metavar="FILE",
    help="Take engine and model from the output of `plan --json`; - is stdin.",
)
def init(directory: str, hosts: tuple[str, ...], user: str | None, port: int | None, engine: str | None,
         model: str | None, prepare: bool | None, from_plan: Any) -> int:  # fmt: skip
    """Write an inventory into DIRECTORY (default: inventory), with its variables explained.

    What no option says is asked, on a terminal; elsewhere it has its default. Nothing that exists is overwritten, and
    no secret is asked for or written: `-e @FILE` or a vault has the API key.
    """
    target = Path(directory)
    planned = _planned(from_plan) if from_plan else {}
    asks = sys.stdin.isatty() and not from_plan
    if not hosts:
        given = _ask(asks, "Hosts (NAME or NAME=ADDRESS, separated by spaces)", "localhost")
        hosts = tuple(given.replace(",", " ").split())
    named = [_host(host) for host in hosts]
    if not named or len({name for name, _address in named}) != len(named):
        raise DsdeployError("--host: " + ("a host is named twice" if named else "names no host"))
    remote = any(name != "localhost" for name, _address in named)
    if remote:
        user = user or _ask(asks, "User to connect as", "root")
    engine = engine or planned.get("engine") or _ask(asks, f"Engine ({', '.join(ENGINES)})", "llama_cpp")
    if engine not in ENGINES:
        raise DsdeployError(f"there is no engine {_shown(engine)}; there are {', '.join(ENGINES)}")
    model = model or planned.get("model") or _ask(asks, "Model (empty: the engine's own default)", "")
    if not _USER.match(user or "root"):
        raise DsdeployError(f"--user: {_shown(user or '')} is not a name")
    if model and (not model.isprintable() or "{{" in model or "{%" in model):
        raise DsdeployError(f"model: {_shown(model)} is not a name, repository or path")
    files = {
        target / "hosts.yml": _hosts(named, user or "root", port),
        target / "group_vars" / "all" / "main.yml": _variables(
            engine, model, bool(prepare), planned.get("variables", {})
        ),
    }
    _write(target, files)
    for path in files:
        click.echo(f"wrote {path}")
    source = directory if os.sep in directory else f"./{directory}"
    click.echo(f"next: dsdeploy up -i {shlex.quote(str(source))} --check    # what would be done", err=True)
    return int(ExitCode.OK)


def _ask(asks: bool, question: str, default: str) -> str:
    if not asks:
        return default
    return str(click.prompt(question, default=default, show_default=bool(default), err=True)).strip()


def _shown(text: str) -> str:
    return repr(text[:60])


def _planned(stream: Any) -> dict[str, Any]:
    """Engine, model and variables that `plan --json` recommends. Raises DsdeployError."""
    try:
        text = stream.read()
        objects = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        objects = []
    plans = [found["plan"] for found in objects if isinstance(found, dict) and isinstance(found.get("plan"), dict)]
    if not plans:
        raise DsdeployError("--from-plan: not the output of `dsdeploy plan --json`")
    best = plans[-1].get("recommended") or plans[-1].get("up")
    if not isinstance(best, dict) or not isinstance(best.get("engine"), str) or not isinstance(best.get("model"), str):
        why = plans[-1].get("why_none")
        raise DsdeployError(f"--from-plan: nothing is recommended{': ' + str(why)[:200] if why else ''}")
    variables = best.get("variables")
    variables = variables if isinstance(variables, dict) else {}
    # A plan says what is deployed, not how a host is reached or what is run there.
    kept = {name: value for name, value in variables.items() if re.fullmatch(r"(?!ansible_)[a-z][a-z0-9_]*", name)}
    if "{{" in json.dumps(kept) or "{%" in json.dumps(kept):
        raise DsdeployError("--from-plan: a variable holds a template")
    return {"engine": best["engine"], "model": best["model"], "variables": kept}


def _host(given: str) -> tuple[str, str]:
    """(name, address) of NAME[=ADDRESS]."""
    name, equals, address = given.partition("=")
    if not _HOST.match(name) or (equals and not _ADDRESS.match(address)) or name in ("all", "ungrouped"):
        raise DsdeployError(f"--host: {_shown(given)} is not a name, or NAME=ADDRESS")
    return name, address


def _quoted(text: str) -> str:
    """`text` as YAML, whatever it looks like."""
    return json_line(text)


def _hosts(named: Sequence[tuple[str, str]], user: str, port: int | None) -> str:
    lines = ["---", "# Written by `dsdeploy init`. Yours to change.", "all:", "  hosts:"]
    for name, address in named:
        lines.append(f"    {_quoted(name)}:")
        if name == "localhost" and not address:
            lines.append("      ansible_connection: local")
        else:
            if address:
                lines.append(f"      ansible_host: {_quoted(address)}")
            lines.append(f"      ansible_user: {_quoted(user)}")
            lines += (
                [f"      ansible_port: {port}"]
                if port
                else ["      # Where SSH does not listen on 22:", "      # ansible_port: 22"]
            )
        lines.append("      # The distribution's own, which every user of the host can run.")
        lines.append("      ansible_python_interpreter: /usr/bin/python3")
    if any(name != "localhost" for name, _address in named) and user != "root":
        lines += ["  # sudo asks for a password: `dsdeploy up -K`. Keys of SSH: --private-key, or your ssh_config."]
    return "\n".join(lines) + "\n"


def _variables(engine: str, model: str, prepare: bool, planned: dict[str, Any]) -> str:
    ours = ("dsdeploy_engine", "dsdeploy_model")
    rest = [f"{name}: {json_line(value)}\n" for name, value in planned.items() if name not in ours]
    of_plan = "\n# What `dsdeploy plan` found for these hosts.\n" + "".join(rest) if rest else ""
    chosen = (
        f"dsdeploy_model: {_quoted(model)}"
        if model
        else "# dsdeploy_model: NAME   # without it the engine's small test model"
    )
    return f"""---
# Written by `dsdeploy init`. Yours to change; every variable of a role is in its README.
# What is served, and by what. Models: `roles/model/defaults/main/catalog.yml`, a repository (Qwen/Qwen3-8B) or a path.
# `dsdeploy plan -i THIS` says what fits these hosts.
dsdeploy_engine: {engine}
{chosen}

# Whether `up` first installs NVIDIA's driver and CUDA where they are missing (`dsdeploy prepare` alone does that, too).
dsdeploy_prepare_host: {str(prepare).lower()}
# Not rebooted unless you say so; `dsdeploy` ends with exit code 5 when it is needed.
# nvidia_driver_reboot: false

# Where large things go: models, and the engines themselves.
# dsdeploy_data_dir: /data/dsdeploy
# dsdeploy_install_dir: /data/dsdeploy/opt

# In China: mirrors of packages, wheels and models; inventories/ctyun/group_vars/all/mirrors.yml has them all.
# dsdeploy_mirrors:
#   pypi_index: https://mirrors.example/simple

# Engines listen on loopback. To serve others: docs/gateway.md. The key belongs into a vault or a file that is not here:
# dsdeploy_api_key: "{{{{ vault_dsdeploy_api_key }}}}"
{of_plan}"""


def _write(target: Path, files: dict[Path, str]) -> None:
    """All of them, or none where one is there already. Raises DsdeployError."""
    there = [str(path) for path in files if os.path.lexists(path)]
    if there:
        said = f"{', '.join(there)} {'exists' if len(there) == 1 else 'exist'}"
        raise DsdeployError(f"{said}; nothing was written. Name another directory")
    made: list[Path] = []
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Fails where somebody else was faster.
            with open(path, "x", encoding="utf-8") as file:
                made.append(path)
                file.write(text)
    except OSError as error:
        for path in made:
            path.unlink(missing_ok=True)
        raise DsdeployError(f"{error.filename or target}: {error.strerror}; nothing was written") from None
