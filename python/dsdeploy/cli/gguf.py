"""`dsdeploy gguf`: the collection's GGUF code on this machine's own files."""

from __future__ import annotations

import json as jsonlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from dsdeploy.errors import ExitCode

TOLD_EVERY = 10.0  # s between two lines of progress where there is no terminal


@click.group()
def gguf() -> None:
    """Merge and inspect GGUF models in local files."""


@gguf.command()
@click.argument("src", type=click.Path(), metavar="SHARD|DIRECTORY")
@click.argument("dest", type=click.Path(), metavar="FILE")
@click.option(
    "--consume",
    is_flag=True,
    help="Remove each shard as soon as it is safely in FILE: needs the space of one shard, not of a copy.",
)
@click.option("--force", is_flag=True, help="Replace FILE where it is something else.")
@click.option("--check", is_flag=True, help="Change nothing, say what would be done and the space it needs.")
@click.option("--json", is_flag=True, help="One JSON object per line on stdout; the last is the result.")  # fmt: skip
def merge(src: str, dest: str, consume: bool, force: bool, check: bool, json: bool) -> int:
    """Merge the shards of a model into one FILE.

    Give the first shard (NAME-00001-of-00009.gguf) or the directory of the set. The result is the one of
    llama-gguf-split --merge, byte for byte, but no damaged shard gets into it, and FILE exists whole or not at all.
    After Ctrl-C or a crash the same command goes on from where it was.
    """
    with _errors(json) as outcome:
        from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf import merge as gguf_merge
        from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.progress import Progress

        with gguf_merge.stop_on_signals(), _shown(json) as show, Progress("merge", report=show) as progress:
            if check:
                found = gguf_merge.predict(src, dest, consume, force, progress)
                result = {
                    "changed": found.changed,
                    "bytes": found.size,
                    "resumed_bytes": found.durable,
                    "removed": len(found.removes),
                    "need_bytes": found.need,
                    "free_bytes": found.free,
                }
            else:
                done = gguf_merge.merge(src, dest, consume, force, progress)
                result = {
                    "changed": done.changed,
                    "bytes": done.size,
                    "resumed_bytes": done.resumed_at,
                    "removed": done.removed,
                }
        if json:
            click.echo(jsonlib.dumps({"event": "result", "dest": dest, **result}))
        else:
            click.echo(_told(dest, result, check))
    return int(outcome["code"])


def _told(dest: str, result: dict[str, Any], check: bool) -> str:
    from dsdeploy.render.text import amount

    size = amount(result["bytes"], "B")
    if not result["changed"]:
        return f"{dest}: complete already ({size})"
    text = f"{dest}: {'would be' if check else 'is'} merged ({size})"
    if result["resumed_bytes"]:
        text += f", {amount(result['resumed_bytes'], 'B')} of it by an earlier run"
    if result["removed"]:
        text += f", {result['removed']} shards {'would be ' if check else ''}removed"
    if check:
        text += f"; needs {amount(result['need_bytes'], 'B')} free, has {amount(result['free_bytes'], 'B')}"
    return text


@gguf.command()
@click.argument("src", type=click.Path(), metavar="FILE|DIRECTORY")
@click.option("--json", is_flag=True, help="One JSON object on stdout.")
def info(src: str, json: bool) -> int:
    """Tell what a model is: architecture, parameters, quantisation, layers, context, experts, shards.

    Give a GGUF file, the first shard of a set, or the directory of a set. All headers are checked on the way.
    """
    with _errors(json) as outcome:
        from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.summary import summarise

        found = summarise(src)
        if json:
            click.echo(jsonlib.dumps({"event": "result", **found}))
        else:
            for line in _lines(found):
                click.echo(line)
    return int(outcome["code"])


def _lines(found: dict[str, Any]) -> Iterator[str]:
    """What `info` prints: a name and a value on each line, shards last."""
    from dsdeploy.render.text import amount
    from dsdeploy.tracker import plain_text

    shown = {
        **found,
        "parameters": f"{found['parameters'] / 1e9:.2f} billion ({found['parameters']})",
        "tensor_types": ", ".join(f"{name} {amount(size, 'B')}" for name, size in found["tensor_types"].items()),
        "tensor_bytes": amount(found["tensor_bytes"], "B"),
        "bytes": amount(found["bytes"], "B"),
        "chat_template": "yes" if found["chat_template"] else "no",
    }
    shards = shown.pop("shards")
    for name, value in shown.items():
        if value is not None:
            yield f"{name.replace('_', ' '):<18} {plain_text(str(value))}"
    for shard in shards:
        yield f"{amount(shard['bytes'], 'B'):>12}  {shard['tensors']:>5} tensors  {plain_text(shard['path'])}"


@contextmanager
def _errors(json: bool) -> Iterator[dict[str, ExitCode]]:
    """Finds the collection's code, and turns what it raises into one line, the next thing to do and an exit code."""
    from dsdeploy import collection

    collection.make_importable()
    from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.header import GGUFError
    from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.merge import Stopped
    from ansible_collections.dsdeploy.llm.plugins.module_utils.gguf.plan import NoShards
    from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

    outcome = {"code": ExitCode.OK}
    try:
        yield outcome
    except (Failure, OSError) as error:
        outcome["code"] = ExitCode.INTERRUPTED if isinstance(error, Stopped) else ExitCode.FAILED
        hint = getattr(error, "hint", "")
        if isinstance(error, NoShards):
            outcome["code"] = ExitCode.USAGE
            hint = "Give a GGUF file, the first shard of a set (NAME-00001-of-00009.gguf), or the directory of a set."
        elif isinstance(error, GGUFError):
            hint = "Give a whole GGUF model; a file that is damaged has to be fetched again."
        if json:
            click.echo(jsonlib.dumps({"event": "failure", "msg": str(error), "hint": hint}))
        else:
            click.echo(f"dsdeploy: {error}" + (f"\n  next: {hint}" if hint else ""), err=True)


@contextmanager
def _shown(json: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that shows each report: JSON lines, one line rewritten on a terminal, or a line now and then."""
    from dsdeploy import events
    from dsdeploy.render.text import progress

    terminal = sys.stderr.isatty()
    told = time.monotonic()

    def show(report: dict[str, Any]) -> None:
        nonlocal told
        fields = {key: report[key] for key in ("what", "done", "total", "unit", "rate", "eta_s")}
        event = events.Progress(host="localhost", task="gguf merge", **fields)
        if json:
            click.echo(jsonlib.dumps(event.as_json()))
        elif terminal and event.total:
            click.echo(f"\r\x1b[K{progress(event)}", nl=False, err=True)
        elif event.total and time.monotonic() - told >= TOLD_EVERY:
            told = time.monotonic()
            click.echo(progress(event), err=True)

    try:
        yield show
    finally:
        if terminal and not json:
            click.echo("\r\x1b[K", nl=False, err=True)
