"""The options that every verb takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_COMMON = (
    click.option("-i", "--inventory", multiple=True, metavar="SOURCE",
                 help="Inventory file, directory, host list ('h1,h2,') or the name of a shipped one. Repeatable.  "
                      "[default: local]"),
    click.option("--engine", metavar="NAME",
                 help="Engine to deploy, over the inventory's; elsewhere: only this engine."),
    click.option("-l", "--limit", metavar="PATTERN", help="Only these hosts or groups of the inventory."),
    click.option("-e", "--extra-vars", multiple=True, metavar="VARS",
                 help="name=value, JSON or @file; wins over everything. Secrets belong in a file. Repeatable."),
    click.option("--check", is_flag=True, help="Change nothing, say what would change."),
    click.option("--diff", is_flag=True, help="Show what changes in files."),
    click.option("--json", is_flag=True, help="One JSON object per line on stdout; the last is the summary."),
    click.option("-v", "--verbose", count=True, help="Ansible's own output too; -vvv with its connections."),
    click.option("-u", "--user", metavar="NAME", help="User to connect as."),
    click.option("--private-key", metavar="FILE", type=click.Path(exists=True, dir_okay=False),
                 help="SSH key to connect with."),
    click.option("-k", "--ask-pass", is_flag=True, help="Ask for the SSH password (needs sshpass)."),
    click.option("-b", "--become", is_flag=True, help="Become root on the hosts (sudo) for every task."),
    click.option("-K", "--ask-become-pass", is_flag=True, help="Ask for the sudo password."),
    click.option("--become-password-file", metavar="FILE", type=click.Path(exists=True, dir_okay=False),
                 help="File (or executable) with the sudo password."),
    click.option("--vault-password-file", multiple=True, metavar="FILE", type=click.Path(exists=True),
                 help="File (or executable) with a vault password. Repeatable."),
    click.option("--vault-id", multiple=True, metavar="LABEL@SOURCE", help="Vault identity. Repeatable."),
    click.option("-J", "--ask-vault-pass", is_flag=True, help="Ask for the vault password."),
)  # fmt: skip


def common_options(function: F) -> F:
    """Gives a verb the common options; it gets them as one `options: dsdeploy.invocation.Options`."""

    @wraps(function)
    def with_options(**given: Any) -> Any:
        from dsdeploy.invocation import Options

        taken = {field.name: given.pop(field.name) for field in fields(Options) if field.name in given}
        return function(options=Options(**taken), **given)

    for option in reversed(_COMMON):
        with_options = option(with_options)
    return with_options  # type: ignore[return-value]
