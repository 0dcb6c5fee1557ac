"""`dsdeploy doctor`: check hosts from driver to answer; list the checks."""

from __future__ import annotations

import json as jsonlib
from typing import TYPE_CHECKING, Any

import click

from dsdeploy.cli._options import common_options
from dsdeploy.errors import DsdeployError, ExitCode

if TYPE_CHECKING:
    from dsdeploy.invocation import Options


@click.command()
@click.option(
    "--only",
    multiple=True,
    metavar="NAME[,NAME]...",
    help="Only these checks, groups (gpu, driver, system, disk, network, engine, gang) or beginnings: 'gpu_pcie*'.",
)
@click.option("--deep", is_flag=True, help="Also measure bandwidths, for minutes and with all GPUs; nothing may serve.")
@click.option("--strict", is_flag=True, help="Exit with 1 where a check warns, too.")
@click.option("--list", "listing", is_flag=True, help="Print the checks; no host is asked.")
@click.option(
    "--textfile",
    metavar="DIR",
    help="On the hosts: write the results there as metrics for the Prometheus node exporter (textfile collector).",
)
@click.option("--unprivileged", is_flag=True, help="Do not become root; what only root can read is unknown.")
@common_options
def doctor(options: Options, only: tuple[str, ...], deep: bool, strict: bool, listing: bool, textfile: str | None,
           unprivileged: bool) -> int:  # fmt: skip
    """Check hosts from driver to answer; say how to mend what is wrong.

    It reads only, and changes nothing.

    Exits with 0 when no check fails, with 1 when one does. What could not be read is unknown, never passed.
    """
    if listing:
        return _list(_names(only), options.json)
    from dsdeploy.session import execute, refuse

    try:
        names = _names(only)
        _require(names, deep, textfile)
    except DsdeployError as error:
        if not options.json:
            raise
        return refuse("doctor", options, error)
    given = {
        "only": names or None,
        "deep": deep or None,
        "fail_on": "warn" if strict else None,
        "textfile": textfile,
        "become": False if unprivileged else None,
    }
    wanted = {name: value for name, value in given.items() if value is not None}
    return execute("doctor", options, {"dsdeploy_doctor": wanted or None})


def _names(only: tuple[str, ...]) -> list[str]:
    names = [name.strip() for given in only for name in given.split(",") if name.strip()]
    if only and not names:
        raise DsdeployError("--only: names no check (`dsdeploy doctor --list` names them)")
    return names


def _require(names: list[str], deep: bool, textfile: str | None) -> None:
    """What is wrong is told before a host is asked. Raises DsdeployError."""
    if textfile is not None and not textfile.startswith("/"):
        raise DsdeployError(f"--textfile {textfile}: it must be an absolute path, on the hosts")
    if not deep and all(one["deep"] for one in _checks(names)):
        raise DsdeployError(f"--only {','.join(names)}: these checks load the GPUs; add --deep, when nothing serves")


def _checks(names: list[str]) -> list[dict[str, Any]]:
    """The checks of these names, as data. Raises DsdeployError for a name that is none."""
    from dsdeploy import collection

    collection.make_importable()
    from ansible_collections.dsdeploy.llm.plugins.module_utils.checks import make
    from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

    try:
        return list(make.listing(names))
    except Failure as failure:
        raise DsdeployError(f"--only: {failure} (`dsdeploy doctor --list` names them)") from None


def _list(names: list[str], json: bool) -> int:
    found = _checks(names)
    width = max(len(one["id"]) for one in found)
    for one in found:
        mark = " (--deep)" if one["deep"] else ""
        click.echo(jsonlib.dumps(one) if json else f"{one['id']:<{width}}  {one['title']}{mark}")
    return int(ExitCode.OK)
