"""`dsdeploy status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dsdeploy.cli._options import common_options

if TYPE_CHECKING:
    from dsdeploy.invocation import Options


@click.command()
@click.option("--watch", is_flag=True, help="Go on: hosts, GPUs, requests and tokens/s, until q or Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(0.5, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="With --watch: time between two looks.",
)
@common_options
def status(options: Options, watch: bool, interval: float) -> int:
    """Show what is deployed on each host, whether it answers, and what it does.

    Exits with 0 when every recorded deployment is ready or was stopped by `down` (also when there is none), with 3 when
    one is not as it should be.
    """
    if watch:
        from dsdeploy import watching

        return watching.watch(options, interval)
    from dsdeploy.session import execute

    return execute("status", options, {})
