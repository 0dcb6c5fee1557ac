"""`dsdeploy completion`: the script that completes the command line in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from dsdeploy.errors import ExitCode

HOW = {
    "bash": "dsdeploy completion bash > ~/.local/share/bash-completion/completions/dsdeploy",
    "zsh": "dsdeploy completion zsh > ~/.zfunc/_dsdeploy   # with fpath+=~/.zfunc before compinit",
    "fish": "dsdeploy completion fish > ~/.config/fish/completions/dsdeploy.fish",
}


@click.command(short_help="Print the completion script of a shell.", epilog="\b\n" + "\n".join(HOW.values()) + "\n")
@click.argument("shell", type=click.Choice(list(HOW)))
def completion(shell: str) -> int:
    """Print the script that completes verbs and options in SHELL."""
    from dsdeploy.cli import cli

    found = get_completion_class(shell)
    assert found is not None
    # Its `source` asks bash for its version first; the script is the same for all that are in use.
    made = found(cli, {}, "dsdeploy", "_DSDEPLOY_COMPLETE")
    click.echo(made.source_template % made.source_vars())
    return int(ExitCode.OK)
