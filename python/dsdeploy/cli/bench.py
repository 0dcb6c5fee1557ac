"""`dsdeploy bench`: measure what is deployed; list, compare and draw what was measured."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsdeploy.cli._options import common_options
from dsdeploy.errors import DsdeployError, ExitCode
from dsdeploy.tracker import json_line, one_line, plain_text, shortened

if TYPE_CHECKING:
    from dsdeploy.invocation import Options


def _numbers(_ctx: click.Context, _param: click.Parameter, value: str | None) -> list[int] | None:
    if value is None:
        return None
    try:
        return [int(word) for word in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 1,8,64") from None


@click.group(invoke_without_command=True, short_help="Measure the served model under load.")
@click.option(
    "--profile",
    type=click.Choice(["quick", "chat", "long", "rag"]),
    help="Shape and number of the requests.  [default: quick, under a minute]",
)
@click.option("--streams", callback=_numbers, metavar="N[,N]...", help="Requests at a time, one measurement for each.")
@click.option("--prompt-tokens", type=click.IntRange(min=1), metavar="N", help="Tokens of each prompt.")
@click.option("--output-tokens", type=click.IntRange(min=1), metavar="N", help="Tokens of each answer.")
@click.option(
    "--range-ratio",
    type=click.FloatRange(0, 0.95),
    metavar="SHARE",
    help="Lengths lie so far around those, such as 0.5: from half to one and a half.  [default: 0]",
)
@click.option("--budget", type=click.FloatRange(min=0.05), metavar="MINUTES", help="Longest time for all of it.")
@click.option(
    "--against",
    type=click.Choice(["vllm", "sglang"]),
    help="Measure in turns with this engine's own tool, from its environment on the host, and show the difference.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 20),
    metavar="N",
    help="With --against: rounds of each tool at each number of streams.  [default: 3]",
)
@click.option(
    "--min-tokens-s",
    type=click.FloatRange(0, min_open=True),
    metavar="N",
    help="Fail with 3 below so many output tokens/s.",
)
@click.option(
    "--max-ttft-p99",
    type=click.FloatRange(0, min_open=True),
    metavar="MS",
    help="Fail with 3 when the first token takes longer.",
)
@click.option(
    "--from",
    "origin",
    type=click.Choice(["host", "here"]),
    default="host",
    show_default=True,
    help="Where the requests come from: the host itself, or this machine, as clients of the gateway do.",
)
@click.option(
    "--key-file",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="With --from here: the API key of a client (dsdeploy key add).",
)
@click.option(
    "--results",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Where results are kept.  [default: ~/.local/state/dsdeploy/bench]",
)
@common_options
@click.pass_context
def bench(ctx: click.Context, options: Options, profile: str | None, streams: list[int] | None,
          prompt_tokens: int | None, output_tokens: int | None, range_ratio: float | None, budget: float | None,
          min_tokens_s: float | None, max_ttft_p99: float | None, against: str | None, rounds: int | None,
          origin: str, key_file: str | None, results: str | None) -> int:  # fmt: skip
    """Measure time to first token, time per token and throughput of what is deployed.

    Ctrl-C ends the measurement and keeps what it has; once more ends the run.
    """
    ctx.obj = results
    if ctx.invoked_subcommand:
        return 0
    from dsdeploy.session import execute

    if origin == "here" and against:
        raise click.UsageError("--against measures with the engine's own tool on the host itself, not --from here")
    if rounds and not against:
        raise click.UsageError("--rounds is for --against: rounds of two tools in turns")
    if key_file and origin != "here":
        raise click.UsageError("--key-file is for --from here: on the host itself the engine's own key is used")
    given = {
        "profile": profile,
        "concurrency": streams,
        "prompt_tokens": prompt_tokens,
        "output_tokens": output_tokens,
        "range_ratio": range_ratio,
        "budget_s": None if budget is None else round(budget * 60),
        "min_tokens_s": min_tokens_s,
        "max_ttft_p99_ms": max_ttft_p99,
        "against": against,
        "rounds": rounds,
        "from_here": origin == "here" or None,
        "key_file": None if key_file is None else os.path.abspath(key_file),
        "results_dir": None if results is None else os.path.abspath(results),
    }
    wanted = {name: value for name, value in given.items() if value is not None}
    return execute("bench", options, {"dsdeploy_bench": wanted or None}, soft_stop=True)


@bench.command("list")
@click.option("--json", is_flag=True, help="One JSON object per line on stdout.")
@click.pass_obj
def list_(results: str | None, json: bool) -> int:
    """Show what was measured, oldest first."""
    with _collection():
        from ansible_collections.dsdeploy.llm.plugins.plugin_utils import bench_results

        directory = results or bench_results.default_directory()
        rows = bench_results.listing(directory)
    for row in rows:
        click.echo(json_line(row) if json else _row(row))
    if not rows:
        click.echo(f"nothing was measured yet: no results in {directory}", err=True)
    return int(ExitCode.OK)


def _row(row: dict[str, Any]) -> str:
    if row.get("problem"):
        return one_line(row["problem"])
    best = "not known" if row["best_tokens_s"] is None else f"{row['best_tokens_s']:.1f}"
    cut = ", interrupted" if row["interrupted"] else ""
    # A name may be as long as somebody likes.
    about = "  ".join(shortened(one_line(row[key]), 80) for key in ("taken", "host", "engine", "model", "profile"))
    return f"{about}  {best} tokens/s{cut}\n  {plain_text(row['path'])}"


@bench.command()
@click.argument("one", type=click.Path(dir_okay=False), metavar="A")
@click.argument("two", type=click.Path(dir_okay=False), metavar="B")
@click.option("--force", is_flag=True, help="Also where model, requests or GPUs differ.")
@click.option("--fail-if-worse", is_flag=True, help="Exit with 3 where a figure of B is worse by more than 3 %.")
def compare(one: str, two: str, force: bool, fail_if_worse: bool) -> int:
    """Compare measurement B with A."""
    with _collection():
        from ansible_collections.dsdeploy.llm.plugins.plugin_utils import bench_results

        loaded = [bench_results.load(path) for path in (one, two)]
        differ = bench_results.differences(*loaded)
        if differ and not force:
            said = "; ".join(shortened(one_line(line), 300) for line in differ)
            raise DsdeployError(f"they measure different things: {said} (--force compares them anyway)")
        rows = bench_results.compare(*loaded)
    if not rows:
        raise DsdeployError("they have no number of streams in common")
    for line in differ:
        click.echo(f"differ: {shortened(one_line(line), 300)}")
    for row in rows:
        said = {True: "better", False: "worse", None: ""}[row["better"]]
        values = [("not known" if row[key] is None else f"{row[key]:.2f}") for key in ("one", "two")]
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3f}x"
        columns = f"{row['concurrency']:>5}  {row['name']:<18} {values[0]:>12} {values[1]:>12} {ratio:>9}"
        click.echo(f"{columns}  {said}".rstrip())
    worse = any(row["better"] is False for row in rows)
    return int(ExitCode.VERIFY if worse and fail_if_worse else ExitCode.OK)


@bench.command()
@click.argument("result", type=click.Path(dir_okay=False), metavar="RESULT")
@click.option("-o", "--output", type=click.Path(dir_okay=False), metavar="FILE", help="[default: RESULT, as .html]")
@click.option("--lang", type=click.Choice(["en", "zh"]), default="en", show_default=True)
def report(result: str, output: str | None, lang: str) -> int:
    """Draw a measurement as one HTML file that opens offline."""
    target = Path(output) if output else Path(result).with_suffix(".html")
    with _collection():
        from ansible_collections.dsdeploy.llm.plugins.plugin_utils import bench_expected, bench_report, bench_results

        measured = bench_results.load(result)
        page = bench_report.render(measured, lang, bench_expected.expected(measured, bench_expected.read_catalog()))
    _write(target, page)
    click.echo(str(target))
    return int(ExitCode.OK)


def _write(target: Path, text: str) -> None:
    """Whole or not at all: what stood there stays where the disk is full."""
    try:
        if target.exists() and not target.is_file():  # a pipe, a terminal
            target.write_text(text, encoding="utf-8")
            return
        target = target.resolve()
        handle, part = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with open(handle, "w", encoding="utf-8") as file:
                os.fchmod(file.fileno(), target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
                file.write(text)
            os.replace(part, target)
        except OSError:
            os.unlink(part)
            raise
    except OSError as error:
        raise DsdeployError(f"{target} cannot be written: {error.strerror}", "Name another file: -o FILE.") from None


def _umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found


@contextmanager
def _collection() -> Iterator[None]:
    """Finds the collection's code; what it says of a file is the command's message."""
    from dsdeploy import collection

    collection.make_importable()
    from ansible_collections.dsdeploy.llm.plugins.plugin_utils.bench_results import NotAResult

    try:
        yield
    except NotAResult as error:
        raise DsdeployError(" ".join(str(error).split())) from None
    except OSError as error:
        raise DsdeployError(f"{error.filename}: {error.strerror}") from None
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:  # a file that somebody changed
        raise DsdeployError(f"not a measurement of dsdeploy bench: {type(error).__name__} {error}") from None
