"""`dsdeploy key`: who may use the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dsdeploy.cli._options import common_options
from dsdeploy.errors import ExitCode

if TYPE_CHECKING:
    from dsdeploy.events import Summary
    from dsdeploy.invocation import Options


@click.group(short_help="Add, list and revoke keys of the gateway.")
def key() -> None:
    """The API keys by which others use the gateway."""


@key.command()
@click.argument("name")
@click.option("--model", "models", multiple=True, metavar="NAME", help="A model that it may use. Repeatable.  [all]")
@click.option("--streams", type=click.IntRange(min=1), metavar="N", help="Requests under way at most.")
@click.option("--requests-per-minute", type=click.IntRange(min=1), metavar="N", help="Requests a minute at most.")
@click.option("--replace", is_flag=True, help="NAME has a key already, which is refused from now on.")
@common_options
def add(
    options: Options,
    name: str,
    models: tuple[str, ...],
    streams: int | None,
    requests_per_minute: int | None,
    replace: bool,
) -> int:
    """Make a key for NAME, and print it. It is not shown again: the hosts get its SHA-256 alone."""
    import hashlib
    import secrets

    from dsdeploy.events import NewKey
    from dsdeploy.session import execute

    # Of this process alone: Ansible, whose results and logs go many ways, knows the hash.
    made = "sk-dsdeploy-" + secrets.token_urlsafe(32)
    variables = {
        "gateway_key_name": name,
        "gateway_key_sha256": hashlib.sha256(made.encode("ascii")).hexdigest(),
        "gateway_key_models": list(models) or None,
        "gateway_key_own_streams": streams,
        "gateway_key_own_requests_per_minute": requests_per_minute,
        "gateway_key_replace": replace or None,
    }
    ends: list[Summary] = []
    code = execute("key add", options, variables, when_done=NewKey(name, made), at_end=ends.append)
    if code == 0 and not options.check and not options.json:
        click.echo(made)
    elif ends and (said := not_shown(ends[-1])):
        click.echo(said, err=True)
    return code


def not_shown(summary: Summary) -> str:
    """Why there is no key to show, and what becomes of it where a host has it; empty where none can have it."""
    from dsdeploy.tracker import one_line

    took = [one_line(name) for name, host in summary.hosts.items() if host.changed]
    if summary.ok or summary.check:
        return ""
    if took:
        return (
            f"The key is not shown: only {', '.join(took)} took it. Add it again with --replace, which makes another."
        )
    lost = any(host.status == "unreachable" for host in summary.hosts.values())
    if lost or summary.exit_code == ExitCode.INTERRUPTED:
        return "The key is not shown: not all hosts took it. Where one did, --replace makes another."
    return ""


@key.command("list")
@common_options
def list_(options: Options) -> int:
    """Show the keys of each host: names and limits. The keys themselves are nowhere."""
    from dsdeploy.session import execute

    return execute("key list", options, {})


@key.command()
@click.argument("name")
@common_options
def revoke(options: Options, name: str) -> int:
    """Refuse NAME's key from now on. Answers that are under way are not cut."""
    from dsdeploy.session import execute

    return execute("key revoke", options, {"gateway_key_name": name})
