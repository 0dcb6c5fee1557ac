"""`dsdeploy up`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dsdeploy.cli._options import common_options

if TYPE_CHECKING:
    from dsdeploy.invocation import Options


@click.command(short_help="Install, fetch the model, serve it, ask it a question.")
@common_options
@click.option("--model", metavar="NAME", help="Model to serve, over the inventory's.")
@click.option("-t", "--tags", multiple=True, metavar="TAG", help="Only the stages with this tag. Repeatable.")
@click.option(
    "--skip-tags", multiple=True, metavar="TAG", help="Without this stage: prepare. The others need each other."
)
def up(options: Options) -> int:
    """Deploy: install the engine, fetch the model, serve it, ask it a question.

    What is already as it should be is left alone: run it again at any time.
    """
    from dsdeploy.session import execute

    return execute("up", options, {})
