"""`dsdeploy status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dsdeploy.cli._options import common_options

if TYPE_CHECKING:
    from dsdeploy.invocation import Options


@click.command()
@common_options
def status(options: Options) -> int:
    """Show what is deployed on each host and whether it answers.

    Exits with 0 when every recorded deployment is ready or was stopped by `down` (also when there is none), with 3 when
    one is not as it should be.
    """
    from dsdeploy.session import execute

    return execute("status", options, {})
