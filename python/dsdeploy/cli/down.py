"""`dsdeploy down`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dsdeploy.cli._options import common_options

if TYPE_CHECKING:
    from dsdeploy.invocation import Options


@click.command()
@click.option("--purge", is_flag=True, help="Also remove the engine, its service and its record; models stay.")
@click.option("--purge-model", multiple=True, metavar="NAME", help="Also remove this model's files. Repeatable.")
@common_options
def down(options: Options, purge: bool, purge_model: tuple[str, ...]) -> int:
    """Stop what is deployed. Nothing is removed unless asked for."""
    from dsdeploy.session import execute

    variables = {"dsdeploy_purge": purge or None, "dsdeploy_purge_models": list(purge_model) or None}
    return execute("down", options, variables)
