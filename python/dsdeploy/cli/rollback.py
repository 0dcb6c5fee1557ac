"""`dsdeploy rollback`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dsdeploy.cli._options import common_options

if TYPE_CHECKING:
    from dsdeploy.invocation import Options


@click.command()
@common_options
def rollback(options: Options) -> int:
    """Go back to the release of the engine that ran before, and ask it a question.

    For engines that are installed as Python packages (vllm, sglang). A second rollback goes forward again.
    """
    from dsdeploy.session import execute

    return execute("rollback", options, {})
