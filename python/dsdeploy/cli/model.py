"""`dsdeploy model`: the model store of the hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dsdeploy.cli._options import common_options

if TYPE_CHECKING:
    from dsdeploy.invocation import Options


@click.group(short_help="List, verify and prune the models on the hosts.")
def model() -> None:
    """The models that lie on the hosts."""


@model.command("list")
@common_options
def list_(options: Options) -> int:
    """Show every model in the store of each host: revision, size, whether it is complete and what serves it."""
    from dsdeploy.session import execute

    return execute("model list", options, {})


@model.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@common_options
def verify(options: Options, names: tuple[str, ...]) -> int:
    """Read the models again and compare every file with its sha256.

    A damaged model is taken from engines; the next `up` fetches its damaged files again. Exits with 3 then.
    """
    from dsdeploy.session import execute

    return execute("model verify", options, {"model_verify_names": list(names) or None})


@model.command()
@click.option("--unused", is_flag=True, help="Also remove complete models that nothing serves.")
@common_options
def prune(options: Options, unused: bool) -> int:
    """Remove half downloads, and revisions of which another one is served. --check says what would go."""
    from dsdeploy.session import execute

    return execute("model prune", options, {"model_prune_unused": unused or None})
