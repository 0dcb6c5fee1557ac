"""Lines of text that the plain and the live view share: pure functions."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from dsdeploy import events
from dsdeploy.tracker import one_line, plain_text

CHANGES_SHOWN = 12  # lines, of a host's changes in the summary
CHANGES_IN_STAGE = 3
LINE_WIDTH = 100  # characters of a line that names changes
STAGE_WIDTH = 10
PATH_WIDTH = 40  # characters of a path that is shown whole
# Of an answer in the summary of `up`: it shows that the model answers, `ask` is for reading.
ANSWER_LINES, ANSWER_CHARACTERS = 5, 400
BYTES = ("B", "bytes")


def amount(value: float, unit: str) -> str:
    """`value` in `unit` for people: bytes as KiB, MiB, …, anything else as it is."""
    if unit not in BYTES:
        return f"{value:g} {unit}".strip()
    for name in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024 or name == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {name}" if name == "B" else f"{value:.1f} {name}"


def duration(seconds: float) -> str:
    """12 s, 3 min 05 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def shortened_paths(text: str) -> str:
    """`text` with the middle of its long paths left out: /opt/…/bin/python."""

    def cut(match: re.Match[str]) -> str:
        path = match[0]
        if len(path) <= PATH_WIDTH:
            return path
        first, _slash, rest = path[1:].partition("/")
        if not rest:
            return path
        end = rest[-(PATH_WIDTH - len(first) - 3) :]
        return f"/{first}/…{end[end.find('/') :] if '/' in end else end}"

    return re.sub(r"(?<![\w:/.])/[^\s'\",;:]+", cut, text)


def fitted(text: str, width: int = LINE_WIDTH) -> str:
    """`text` on one line of at most `width` characters, long paths cut first."""
    short = shortened_paths(" ".join(text.split()))
    return short if len(short) <= width else f"{short[: width - 1].rstrip()}…"


def stage(event: events.Stage) -> str:
    """A stage that is over: its name, how long it took, and what it did."""
    done = list(event.changes[:CHANGES_IN_STAGE])
    if len(event.changes) > len(done):
        done.append(f"and {len(event.changes) - len(done)} more")
    if event.failed:
        done.insert(0, f"{event.failed} failed")
    if event.stopped:
        done.insert(0, "stopped")
    what = fitted("; ".join(done) or "nothing to change")
    return f"{event.stage:<{STAGE_WIDTH}} {duration(event.seconds or 0):>9}  {what}"


def progress(event: events.Progress) -> str:
    parts = [event.what or event.task]
    if event.total:
        parts.append(f"{min(event.done / event.total, 1):.0%}")
        done = amount(event.done, event.unit if event.unit in BYTES else "")
        parts.append(f"({done} of {amount(event.total, event.unit)})")
    else:
        parts.append(amount(event.done, event.unit))
    if event.rate:
        parts.append(f"{amount(event.rate if event.unit in BYTES else round(event.rate, 1), event.unit)}/s")
    if event.eta_s is not None:
        parts.append(f"{duration(event.eta_s)} left")
    return " ".join(parts)


def failure(event: events.Failure) -> Iterator[str]:
    """Host and task, the message, the log's end, and last the next thing to do."""
    where = ": ".join(part for part in (event.host, event.stage, event.task) if part)
    if where:
        yield f"FAILED  {where}"
        yield f"  {plain_text(event.msg)}"
    else:
        yield f"FAILED  {plain_text(event.msg)}"
    if event.log_tail:
        yield "  the log ends with:"
        yield from (f"  | {plain_text(line)}" for line in event.log_tail)
    if event.hint:
        yield f"  next: {plain_text(event.hint)}"


def interrupted(summary: events.Summary) -> Iterator[str]:
    """Where the run was stopped and what that leaves."""
    if not summary.positions and not summary.hosts:
        yield "stopped before anything was done on a host"
        return
    if not summary.positions and summary.verb != "bench":
        yield "stopped: no task was running on any host"
    for host, where in summary.positions.items():
        yield f"stopped: {host} was in {where}"
    if summary.verb in events.READING:
        yield f"`dsdeploy {summary.verb}` changes nothing on the hosts."
        return
    if summary.going_on and summary.verb != "bench":  # whose load ends where nobody waits for it
        yield (
            f"{fitted(', '.join(summary.going_on))}: the host goes on with that by itself, to its end; a run that "
            "comes before waits for it, or says so."
        )
    measured = any(host.measurements for host in summary.hosts.values())
    half = "; the task named may be half done" if summary.positions else ""
    yield {
        "up": f"What is done stays as it is{half}. Run `dsdeploy up` again: it goes on from there.",
        "down": "What is stopped stays stopped. Run `dsdeploy down` again: it goes on from there.",
        "prepare": f"What is done stays as it is{half}. Run `dsdeploy prepare` again: it goes on from there.",
        "bench": "What was measured until then is kept." if measured else "Nothing was measured.",
        "model prune": "What is removed stays removed. Run `dsdeploy model prune` again: it goes on from there.",
        "rollback": "The engine may run as before or as after it: `dsdeploy status` says which.",
    }.get(summary.verb, f"What is done stays as it is. Run `dsdeploy {summary.verb}` again.")


def result(summary: events.Summary, reasoning: bool, logs: Sequence[events.ServiceLog], every: bool) -> Iterator[str]:
    """What goes to stdout at the end of a run. `every`: name every change."""
    if summary.verb == "status":
        yield from _table(summary)
    elif summary.verb == "ask":
        yield from _answers(summary, reasoning)
    elif summary.verb == "bench":
        yield from _measurements(summary)
    elif summary.verb == "plan":
        for name, host in summary.hosts.items():
            for found in host.plans:
                yield from ([f"{name}:"] if len(summary.hosts) > 1 else [])
                yield from found["lines"]
    elif summary.verb == "doctor":
        yield from _checks(summary, every)
    elif summary.verb == "key list":
        yield from _keys(summary)
    elif summary.verb.startswith("key "):
        pass  # `key add` prints the key, and nothing else
    elif summary.verb.startswith("model "):
        yield from _models(summary)
    elif summary.verb == "logs":
        several = len(logs) > 1
        yield from (f"{log.host} | {line}" if several else line for log in logs for line in log.lines)
    else:
        for name, host in summary.hosts.items():
            yield from _host(summary, name, host, reasoning)
        yield from _all_changes(summary, every)


def _host(summary: events.Summary, name: str, host: events.HostSummary, reasoning: bool) -> Iterator[str]:
    yield f"{name}: {_ended(summary, name, host)}"
    if summary.verb in ("up", "rollback") and (_serves(host) or host.answers):
        for found in host.deployments:
            yield f"  endpoint  {found['endpoint']}"
            if found.get("public_endpoint"):
                yield f"  public    {found.get('public_endpoint')}"
            if found.get("fingerprint"):
                yield f"  certificate SHA-256 {found['fingerprint']}"
            yield f"  model     {found['model']}"
            yield f"  engine    {found['engine']} {found['version']}".rstrip()
        for answer in host.answers:
            if reasoning and answer["reasoning"]:
                yield f"  reasoning {_indented(answer['reasoning'], 12)}"
            yield f"  answer    {_indented(_shortened(answer['answer']), 12)}"
            if answer["finish_reason"] == "length":
                yield "            (ended by dsdeploy_answer_max_tokens)"
            if speed := _speed(answer):
                yield f"  speed     {speed}"


def _serves(host: events.HostSummary) -> bool:
    return "service" in host.stages


def _ended(summary: events.Summary, name: str, host: events.HostSummary) -> str:
    """What was done with a host, in a few words: only what really was."""
    if any(failure.host == name and failure.kind == "reboot" for failure in summary.failures):
        return "prepared, but needs a reboot"
    if host.status != "ok":
        return host.status
    part = summary.verb == "up" and not _serves(host)
    if summary.check:
        return f"checked{' ' + ', '.join(host.stages) if part and host.stages else ''}, nothing was changed"
    if summary.exit_code == 130:
        return "stopped"
    if summary.verb in ("down", "prepare"):
        return {"down": "down", "prepare": "prepared"}[summary.verb]
    verified = any(answer["verified"] for answer in host.answers)
    if not part:
        return (
            "deployed and verified" if verified else "deployed, answers" if host.answers else "deployed, not verified"
        )
    if host.answers:
        return "verified" if verified else "answers"
    alone = {"prepare": "prepared", "preflight": "preflight passed"}
    if len(host.stages) == 1 and host.stages[0] in alone:
        return alone[host.stages[0]]
    return f"done: {', '.join(host.stages) or 'nothing'}"


def _all_changes(summary: events.Summary, every: bool) -> Iterator[str]:
    """The changes, one a line and by stage. Hosts with the same changes are told of together."""
    groups: dict[tuple[int, tuple[str, ...]], list[str]] = {}
    for name, host in summary.hosts.items():
        if host.status == "ok" or host.changed or host.changed_tasks:
            groups.setdefault((host.changed, tuple(host.changed_tasks)), []).append(name)
        elif summary.check:
            # What there is to do on it nobody has seen.
            yield f"  would do  not known{f' on {one_line(name)}' if len(summary.hosts) > 1 else ''}"
    title = "would do" if summary.check else "changed"
    for (count, changes), names in groups.items():
        on = f" on {fitted(', '.join(names))}" if len(summary.hosts) > 1 else ""
        yield f"  {title:<9} {max(count, len(changes)) or 'nothing'}{on}"
        last = ""
        shown = changes if every else changes[:CHANGES_SHOWN]
        for change in shown:
            stage, colon, what = change.partition(": ")
            stage, what = (stage, what) if colon else ("", change)
            yield f"    {'' if stage == last else stage:<{STAGE_WIDTH}} {what if every else fitted(what)}"
            last = stage
        if len(changes) > len(shown):
            yield f"    {'':<{STAGE_WIDTH}} and {len(changes) - len(shown)} more (-v shows all)"


def _shortened(answer: str) -> str:
    lines = answer.strip()[:ANSWER_CHARACTERS].splitlines()[:ANSWER_LINES]
    short = "\n".join(lines)
    return short if short == answer.strip() else f"{short} … ({len(answer.strip())} characters in all)"


def _speed(answer: dict[str, object]) -> str:
    parts = []
    if isinstance(rate := answer["tokens_per_s"], (int, float)):
        parts.append(f"{rate:.1f} tokens/s")
    if isinstance(first := answer["ttft_s"], (int, float)):
        parts.append(f"first token after {first:.2f} s")
    return ", ".join(parts)


def _measurements(summary: events.Summary) -> Iterator[str]:
    """A row for each number of streams."""
    for name, host in summary.hosts.items():
        for found in host.measurements:
            yield f"{one_line(name)}: {found['engine']}, {found['model']}"
            yield f"  {'streams':>7} {'tokens/s':>10} {'TTFT p50':>10} {'TTFT p99':>10} {'TPOT p50':>10} {'failed':>7}"
            for point in found["points"]:
                times = [_ms(point[key]) for key in ("median_ttft_ms", "p99_ttft_ms", "median_tpot_ms")]
                rate = "not known" if point["output_throughput"] is None else f"{point['output_throughput']:.1f}"
                columns = " ".join(f"{column:>10}" for column in (rate, *times))
                yield f"  {point['max_concurrency']:>7} {columns} {point['failed']:>7}"
            for point in found["points"]:
                yield from _beside(point)
            yield f"  ended     {found['ended']}"
            yield from (f"  warning   {line}" for line in found["warnings"])
            if found["path"]:
                yield f"  kept      {found['path']}"
                yield f"  next      dsdeploy bench report {shlex.quote(found['path'])}"


def _beside(point: dict[str, Any]) -> Iterator[str]:
    """The rounds of the engine's own tool beside ours."""
    against = point.get("against")
    if not against:
        return
    tool, whole = against["tool"], against["whole"]
    rounds = f"{whole['ours']} and {whole['tool']} rounds in turns"
    yield f"  against   {tool}'s own tool, {point['max_concurrency']} streams, {rounds}; medians (spread):"
    names = (("output_throughput", "tokens/s"), ("median_ttft_ms", "TTFT p50"), ("median_tpot_ms", "TPOT p50"))
    for key, label in names:
        unit = "" if key == "output_throughput" else " ms"
        ours, its = (
            _median(against[which].get(key), against["spread"][who].get(key), unit)
            for which, who in (("ours", "ours"), ("figures", "tool"))
        )
        yield f"            {label:<9} ours {ours}, its {its}: {_difference(against, key)}"
    clients = [
        f"{who} {_unknown(client['cpus'], '.2f')} CPUs, late by {_unknown(client['lag_p99_ms'], '.1f')} ms"
        for who, client in (("ours", against["client"]["ours"]), ("its", against["client"]["tool"]))
    ]
    yield f"            clients   {'; '.join(clients)} (p99)"
    yield from (f"            note      {plain_text(line)}" for line in against["notes"])
    if against.get("problem"):
        yield f"  {plain_text(against['problem'])}"


def _unknown(value: float | None, form: str) -> str:
    return "?" if value is None else format(value, form)


def _median(value: float | None, spread: float | None, unit: str) -> str:
    if value is None:
        return "not known"
    return f"{value:.1f}{unit} ({_unknown(None if spread is None else 100 * spread, '.1f')} %)"


def _difference(against: dict[str, Any], key: str) -> str:
    ratio = against["ratio"].get(key)
    if ratio is None:
        return "not known"
    said = {True: ", within the spread", False: "", None: ", spread not known"}[against["within"].get(key)]
    return f"{100 * (ratio - 1):+.1f} %{said}"


def _ms(value: float | None) -> str:
    return "not known" if value is None else f"{value:.1f} ms"


def _answers(summary: events.Summary, reasoning: bool) -> Iterator[str]:
    several = sum(len(host.answers) for host in summary.hosts.values()) > 1
    for name, host in summary.hosts.items():
        for answer in host.answers:
            said = (
                [answer["reasoning"], "", answer["answer"]] if reasoning and answer["reasoning"] else [answer["answer"]]
            )
            if several:
                yield f"{name}:"
            yield from said


def answer_details(event: events.Answer) -> str:
    """What `ask` says beside the answer."""
    details = _speed(asdict(event))
    verified = {True: ", as expected", False: ", NOT as expected", None: ""}[event.verified]
    cut = "; ended by the limit of tokens, --max-tokens raises it" if event.finish_reason == "length" else ""
    return f"{event.host}: answered{verified}" + (f" ({details})" if details else "") + cut


def _without(summary: events.Summary, name: str, said: str) -> str:
    """A host of which nothing was told. Where the run was stopped it may never have been asked."""
    return f"{name}: not known, the run was stopped" if summary.exit_code == 130 else f"{name}: {said}"


def _table(summary: events.Summary) -> Iterator[str]:
    rows = [("HOST", "ENGINE", "VERSION", "MODEL", "ENDPOINT", "SERVICE", "STATE")]
    notes = []
    for name, host in summary.hosts.items():
        if host.status == "ok" and not host.deployments:
            notes.append(_without(summary, name, "nothing is deployed here"))
        for found in host.deployments:
            service = found["service"]
            managed = f"{service.get('name', '')} ({service.get('manager', '?')})" if service else ""
            active = str(found["state"].get("active") or "unknown")
            state = "ready" if found["ready"] else "running, not ready" if active == "running" else active
            gang = found.get("gang") or {}
            # Of a gang the first host answers for all of them.
            where = f"rank {gang['rank']} of {gang['hosts'][0]}" if gang.get("rank") else found["endpoint"]
            rows.append((name, found["engine"], found["version"], found["model"], where, managed, state))
            if gang.get("rank") == 0:
                notes.append(f"{name}: {found['engine']} is one deployment on {', '.join(gang['hosts'])}")
            if found.get("public_endpoint") and found["ready"]:
                notes.append(f"{name}: {found['engine']} is reached from outside at {found.get('public_endpoint')}")
            if found["ready_detail"]:
                notes.append(f"{name}: {found['engine']}: {found['ready_detail']}")
    if len(rows) > 1:
        yield from columns(rows)
    yield from notes
    for name, host in summary.hosts.items():
        if host.look:
            from dsdeploy.render import screen

            now = 0.0
            for line in screen.host(name, screen.View(host.look, "", now), now, host.look["interval_s"]):
                yield "".join(part.text for part in line)


_SHOWN = ("fail", "warn", "unknown")  # statuses, in this order
_COUNTED = (("fail", "failed"), ("warn", "warned"), ("unknown", "unknown"), ("pass", "passed"), ("skip", "skipped"))


def _checks(summary: events.Summary, every: bool) -> Iterator[str]:
    """What does not pass, the worst first, with its reason and its fix. `every`: all checks."""
    for name, host in summary.hosts.items():
        if host.checks is None:
            continue
        counts = [f"{host.checks['counts'].get(status, 0)} {word}" for status, word in _COUNTED]
        yield f"{name}: {', '.join(count for count in counts if not count.startswith('0 '))}"
        shown = (*_SHOWN, "pass", "skip") if every else _SHOWN
        for status in shown:
            found = [one for one in host.checks["checks"] if one["status"] == status]
            if status in ("unknown", "skip"):
                # One reason, such as an nvidia-smi that hangs, is told once.
                for reason in dict.fromkeys(one["value"] for one in found):
                    names = ", ".join(one["id"] for one in found if one["value"] == reason)
                    yield f"  {status:<7} {names}: {reason}"
                continue
            for one in found:
                expected = f" (expected: {one['expected']})" if one["expected"] and status != "pass" else ""
                yield f"  {status:<7} {one['id']}: {one['value']}{expected}"
                if one["fix"]:
                    yield f"          why: {one['why']}"
                    yield f"          fix: {one['fix']}"


def _models(summary: events.Summary) -> Iterator[str]:
    rows = [("HOST", "MODEL", "REVISION", "SIZE", "STATE")]
    empty = []
    for name, host in summary.hosts.items():
        if host.status == "ok" and not host.models:
            said = "nothing to remove" if summary.verb == "model prune" else "no models here"
            empty.append(_without(summary, name, said))
        for found in host.models:
            rows.append((name, found["model"], found["revision"], amount(found["bytes"], "B"), _model_state(found)))
    if len(rows) > 1:
        yield from columns(rows)
    yield from empty


def _keys(summary: events.Summary) -> Iterator[str]:
    rows = [("HOST", "KEY", "CREATED", "REQUESTS/MIN", "STREAMS", "MODELS")]
    empty = []
    for name, host in summary.hosts.items():
        if host.status == "ok" and not host.keys:
            empty.append(_without(summary, name, "no keys here (dsdeploy key add NAME)"))
        for found in host.keys:
            limits = [str(found[limit] or "default") for limit in ("requests_per_minute", "streams")]
            rows.append((name, found["key_name"], found["created"], *limits, ", ".join(found["models"] or ["all"])))
    if len(rows) > 1:
        yield from columns(rows)
    yield from empty


def _model_state(found: dict[str, Any]) -> str:
    if found["reason"]:
        return f"removed: {found['reason']}"
    if found["seconds"] is not None:
        return "damaged" if found["problems"] else f"sound, read in {found['seconds']:.1f} s"
    if not found["complete"]:
        return "damaged" if found["problems"] else "not complete"
    if found["served_by"]:
        return f"served by {', '.join(found['served_by'])}"
    needed = ", ".join(found["needed_by"])
    return f"kept for a rollback of {needed}" if needed else "complete"


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """`rows` in aligned columns; East Asian wide characters count two."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(_padded(row, widths)).rstrip()


def _padded(row: Iterable[str], widths: Iterable[int]) -> Iterator[str]:
    for cell, width in zip(row, widths, strict=True):
        yield cell + " " * (width - _width(cell))


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _indented(text: str, by: int) -> str:
    return ("\n" + " " * by).join(text.strip().splitlines())
