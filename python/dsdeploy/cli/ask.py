"""`dsdeploy ask`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dsdeploy.cli._options import common_options

if TYPE_CHECKING:
    from dsdeploy.invocation import Options


@click.command(short_help="Ask the served model a question.")
@click.argument("question", required=False)
@click.option("--expect", metavar="TEXT", help="Fail with 3 unless the answer holds this text.")
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    help="Longest answer, its reasoning included.  [default: as `up` verified it]",
)
@click.option("--reasoning", is_flag=True, help="Print the model's reasoning before its answer.")
@click.option(
    "--via",
    type=click.Choice(["gateway", "engine"]),
    help="Ask through the gateway, or past it.  [default: the gateway, where others reach the model so]",
)
@common_options
def ask(
    options: Options,
    question: str | None,
    expect: str | None,
    max_tokens: int | None,
    reasoning: bool,
    via: str | None,
) -> int:
    """Ask the served model QUESTION (default: the question that `up` verifies with).

    Only the answer goes to stdout.
    """
    from dsdeploy.session import execute

    variables = {
        "dsdeploy_question": question,
        "dsdeploy_expect": expect,
        "dsdeploy_answer_max_tokens": max_tokens,
        "dsdeploy_via": via,
    }
    return execute("ask", options, variables, reasoning)
