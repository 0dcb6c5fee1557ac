"""`dsdeploy plan`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from dsdeploy.cli._options import common_options

if TYPE_CHECKING:
    from dsdeploy.invocation import Options


@click.command(short_help="Say what fits, what `up` would deploy, and what that takes.")
@common_options
@click.option("--model", metavar="NAME", help="Model or family of the catalog, repository, path, URL of a config.json.")
@click.option("--gpus", metavar="GPUS", help="Plan these instead of a host: 8xH800-80GB, 2x8xH100-80GB, or any.")
@click.option("--facts", metavar="FILE", type=click.Path(),
              help="Plan this instead: saved output of nvidia-smi, or facts in JSON.")  # fmt: skip
@click.option("--users", type=int, metavar="N", help="Requests at the same time.  [default: 1]")
@click.option("--context", type=int, metavar="TOKENS", help="Tokens of each request.  [default: 8192]")
@click.option("--profile", type=click.Choice(["latency", "throughput"]), help="What the deployment is for.")
@click.option("--download-rate", type=float, metavar="MB/S", help="Download speed to assume.  [default: 100]")
@click.option("--explain", is_flag=True, help="Each number with its label (exact, estimated, measured) and formula.")
def plan(options: Options, gpus: str | None, facts: str | None, users: int | None, context: int | None,
         profile: str | None, download_rate: float | None, explain: bool) -> int:  # fmt: skip
    """Say what fits a machine, what `up` would deploy there and why, what it would change, and what it takes.

    Nothing is changed. With --gpus or --facts no host is asked, so that one can plan before one buys or rents:

    \b
      dsdeploy plan --gpus 8xH800-80GB
      dsdeploy plan --gpus any --model deepseek-r1 --users 32 --context 16384

    Exits with 0, and with 1 where a model was named and does not fit.
    """
    from dsdeploy.session import execute

    if gpus is not None and facts is not None:
        raise click.UsageError("--gpus and --facts exclude each other")
    given = {
        "gpus": gpus,
        "facts_file": None if facts is None else os.path.abspath(facts),
        "users": users,
        "context": context,
        "profile": profile,
        "download_mb_s": download_rate,
        "explain": explain or None,
    }
    return execute(
        "plan", options, {"dsdeploy_plan": {name: value for name, value in given.items() if value is not None}}
    )
