"""`dsdeploy logs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dsdeploy.cli._options import common_options

if TYPE_CHECKING:
    from dsdeploy.invocation import Options


@click.command()
@click.option("-n", "--lines", type=click.IntRange(min=1), default=100, show_default=True, help="How many lines.")
@common_options
def logs(options: Options, lines: int) -> int:
    """Print the last lines of the engine's log."""
    from dsdeploy.session import execute

    return execute("logs", options, {"dsdeploy_log_lines": lines})
