"""The command `dsdeploy`. Verbs, and what they need, are imported when they are used: `--help` answers at once."""

from __future__ import annotations

import importlib
import os
import sys

import click

from dsdeploy import output
from dsdeploy.errors import MEANING, DsdeployError, ExitCode

# Where each verb is, and what `--help` says of it: it names them all, and imports none.
VERBS = {
    "init": ("dsdeploy.cli.init:init", "Write an inventory of your own, with its variables explained."),
    "up": ("dsdeploy.cli.up:up", "Install, fetch the model, serve it, ask it a question."),
    "plan": ("dsdeploy.cli.plan:plan", "Say what fits, what `up` would deploy, and what that takes."),
    "prepare": ("dsdeploy.cli.prepare:prepare", "Prepare GPU hosts: driver, fabric manager, CUDA toolkit, monitoring."),
    "status": (
        "dsdeploy.cli.status:status",
        "Show what is deployed on each host, whether it answers, and what it does.",
    ),
    "doctor": ("dsdeploy.cli.doctor:doctor", "Check hosts from driver to answer; say how to mend what is wrong."),
    "ask": ("dsdeploy.cli.ask:ask", "Ask the served model a question."),
    "bench": ("dsdeploy.cli.bench:bench", "Measure the served model under load."),
    "logs": ("dsdeploy.cli.logs:logs", "Print the last lines of the engine's log."),
    "down": ("dsdeploy.cli.down:down", "Stop what is deployed."),
    "rollback": (
        "dsdeploy.cli.rollback:rollback",
        "Go back to the release of the engine that ran before, and ask it a question.",
    ),
    "model": ("dsdeploy.cli.model:model", "List, verify and prune the models on the hosts."),
    "key": ("dsdeploy.cli.key:key", "Add, list and revoke keys of the gateway."),
    "gguf": ("dsdeploy.cli.gguf:gguf", "Merge and inspect GGUF models in local files."),
    "completion": ("dsdeploy.cli.completion:completion", "Print the completion script of a shell."),
}


class LazyGroup(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in VERBS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], VERBS, n=1)
            raise click.UsageError(
                f"there is no verb {args[0]!r}" + (f"; did you mean {close[0]}?" if close else ""), ctx
            )
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(verb, says) for verb, (_place, says) in VERBS.items()])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module, _colon, name = VERBS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command


def _print_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import version

    from dsdeploy import collection

    found = collection.find()
    python = ".".join(map(str, sys.version_info[:3]))
    click.echo(f"dsdeploy {found.version} (ansible-core {version('ansible-core')}, Python {python}, {found.root})")
    ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExit status:\n" + "\n".join(f"  {code:>3}  {meaning}" for code, meaning in MEANING.items()),
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
              help="Print the versions and where the collection lies.")  # fmt: skip
def cli() -> None:
    """From a bare GPU server to a served, verified DeepSeek.

    Without -i every verb works on this machine (the embedded inventory "local").
    """


def _tell(error: click.ClickException) -> None:
    """A usage error in two lines: what is wrong, and where to look."""
    context = getattr(error, "ctx", None)
    # `dsdeploy` or `dsdeploy model` alone: the message is the help.
    if not context or type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return
    click.echo(f"dsdeploy: {' '.join(error.format_message().split())}", err=True)
    click.echo(f"  next: `{context.command_path} --help` says what it takes.", err=True)


def _complete() -> None:
    """What a shell asks for on Tab. click itself looks for it under the name of the program, which may be another."""
    from click.shell_completion import shell_complete

    sys.exit(shell_complete(cli, {}, "dsdeploy", "_DSDEPLOY_COMPLETE", os.environ["_DSDEPLOY_COMPLETE"]))


def main() -> None:
    """Entry point of the command; ends the process with the exit codes of dsdeploy.errors."""
    output.replace_missing()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets a question mark, not a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        if os.environ.get("_DSDEPLOY_COMPLETE"):
            _complete()
        code = cli.main(prog_name="dsdeploy", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        _tell(error)
        code = int(ExitCode.USAGE)
    except DsdeployError as error:
        from dsdeploy.tracker import plain_text  # a message may name what a file of others holds

        click.echo(f"dsdeploy: {plain_text(error.message)}", err=True)
        if error.hint:
            click.echo(f"  next: {plain_text(error.hint)}", err=True)
        code = int(error.exit_code)
    except OSError as error:
        if error.errno not in output.UNWRITABLE:
            raise
        output.drop_unwritable()
        if error.errno not in output.UNREAD:
            click.echo(f"dsdeploy: {error.filename or 'the output'} cannot be written: {error.strerror}", err=True)
        code = int(ExitCode.FAILED)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped before anything was done", err=True)
        code = int(ExitCode.INTERRUPTED)
    sys.exit(code or 0)
