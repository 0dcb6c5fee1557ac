"""The screen of `status --watch`, and the lines of `status`: what hosts and deployments do, fitted to a terminal. Pure.

A host has lines of its own as long as all fit; then it is a row of a table, whose less important columns go first in a
narrow terminal; then the hosts with trouble come first. What is not known is "?".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dsdeploy.render.text import duration
from dsdeploy.tracker import one_line

START_PATIENCE = 30.0  # s; until Ansible's start is said to be a long one
STALE_INTERVALS, STALE_S = 4, 10.0  # without news: what is shown is old
_CODES = {"good": "32", "warn": "33", "bad": "31", "dim": "2", "bold": "1"}


@dataclass
class View:
    """What is known of one host: its last look, or what is wrong with it, and when (time.monotonic, s) it was heard, or
    first spoken to."""

    look: dict[str, Any] | None = None
    problem: str = ""
    heard: float = 0.0


class Part(NamedTuple):
    text: str
    style: str = ""


Line = list[Part]


def cells(text: str) -> int:
    """Columns that a text takes."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def cut(text: str, width: int) -> str:
    """`text` in at most `width` columns."""
    if cells(text) <= width:
        return text
    kept = ""
    for char in text:
        if cells(kept + char) > width - 1:
            break
        kept += char
    return kept + "…" if width > 0 else ""


def drawn(line: Line, width: int, colour: bool) -> str:
    """A line as it is written to the terminal."""
    done, left = "", width
    for text, style in line:
        shown = cut(text, left)
        left -= cells(shown)
        done += f"\x1b[{_CODES[style]}m{shown}\x1b[0m" if colour and style and shown else shown
        if shown != text:
            break
    return done


def known(value: float | None, digits: int = 0) -> str:
    return "?" if value is None else f"{value:,.{digits}f}"


def share(value: float | None) -> str:
    return "?" if value is None else f"{100 * value:.0f} %"


def state(found: Mapping[str, Any]) -> Part:
    if found["stopped_on_purpose"]:
        return Part("stopped", "dim")
    if found["ready"]:
        return Part("ready", "good")
    active = one_line(found["active"] or "unknown")
    if active in ("running", "starting"):
        return Part("not ready" if active == "running" else active, "warn")
    return Part(active, "bad")


def screen(
    views: Mapping[str, View], now: float, clock: str, interval_s: float, width: int, height: int, began: float
) -> list[Line]:
    """The lines of a frame, no more than `height`. `now`, `began` (the watch): time.monotonic(), `clock`: the time of
    day."""
    count = f"{len(views)} host{'' if len(views) == 1 else 's'}"
    head: Line = [Part("dsdeploy status", "bold"), Part(f"  {count}  every {interval_s:g} s  {clock}  q ends", "dim")]
    if not views:
        return [head, [Part(starting(now - began))]][:height]
    views = dict(sorted(views.items(), key=lambda item: _natural(item[0])))
    whole = [line for name, view in views.items() for line in host(name, view, now, interval_s)]
    if len(whole) + 1 <= height:
        return [head, *whole]
    return [head, *table(views, now, interval_s, width, height - 1)][:height]


def starting(passed: float) -> str:
    """Before Ansible has named a host. `passed`: s."""
    if passed < START_PATIENCE:
        return f"starting Ansible ... {duration(passed)}"
    return f"Ansible has not begun for {duration(passed)}: it reads the inventory, or waits for an input"


def _connecting(view: View, now: float) -> Part:
    passed = now - view.heard
    return Part(f"connecting to host ... {duration(passed)}", "warn" if passed > STALE_S else "dim")


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that puts gpu2 before gpu10."""
    return [(int(part), "") if part.isascii() and part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _old(view: View, now: float, interval_s: float) -> str:
    passed = now - view.heard
    return f"no news for {duration(passed)}" if passed > max(STALE_S, STALE_INTERVALS * interval_s) else ""


def host(name: str, view: View, now: float, interval_s: float) -> Iterator[Line]:
    """A host in full."""
    line: Line = [Part(one_line(name), "bold")]
    look, old = view.look, _old(view, now, interval_s)
    if view.problem:
        yield [*line, Part(f"  {one_line(view.problem)}", "bad")]
        return
    if look is None:
        yield [*line, Part("  "), _connecting(view, now)]
        return
    memory = look["memory"]
    used = (memory["total_bytes"] - memory["available_bytes"]) / 2**30
    about = f"  load {look['load_1']:.1f} of {look['cpus']}  memory {used:.1f}/{memory['total_bytes'] / 2**30:.1f} GiB"
    yield [*line, Part(about, "dim"), Part(f"  {old}" if old else "", "bad")]
    if not look["deployments"] and not look["problems"]:
        yield [Part("  nothing is deployed here", "dim")]
    for found in look["deployments"]:
        yield from _deployment(found)
    for problem in look["problems"]:
        yield [Part(f"  {one_line(problem)}", "bad")]
    yield from _gpus(look["gpus"])


def _deployment(found: Mapping[str, Any]) -> Iterator[Line]:
    up = f"  up {duration(found['uptime_s'])}" if found["uptime_s"] is not None else ""
    what = f"  {one_line(found['engine'])} {one_line(found['version'] or '?')}  "
    yield [Part(what), state(found), Part(up, "dim"), Part(f"  {one_line(found['model'] or '?')}")]
    if found["ready"]:
        busy = f"    {known(found['running'])} running  {known(found['waiting'])} waiting  "
        speed = f"{known(found['generated_s'], 1)} tokens/s out  {known(found['prompted_s'], 1)} in  "
        yield [
            Part(busy, "warn" if found["waiting"] else ""),
            Part(speed),
            Part(f"KV {share(found['kv_use'])}", "warn" if (found["kv_use"] or 0) > 0.9 else ""),
        ]
    elif found["ready_detail"] and not found["stopped_on_purpose"]:
        yield [Part(f"    {one_line(found['ready_detail'])}", "warn")]
    if found["last_error"]:
        yield [Part("    last error  ", "dim"), Part(one_line(found["last_error"]), "bad")]


def _gpus(gpus: Sequence[Mapping[str, Any]] | None) -> Iterator[Line]:
    if gpus is None:
        yield [Part("  nvidia-smi is there and does not answer", "bad")]
    for gpu in gpus or ():
        line = [
            Part(f"  GPU {gpu['index']}  "),
            Part(f"{known(_gib(gpu['memory_mib']), 1)}/{known(_gib(gpu['memory_total_mib']), 1)} GiB  "),
            Part(f"{known(gpu['utilization']):>3} %  "),
            Part(f"{known(gpu['temperature_c'])} °C  ", "warn" if (gpu["temperature_c"] or 0) >= 85 else ""),
            Part(f"{known(gpu['power_w'])}/{known(gpu['power_limit_w'])} W  "),
            Part(", ".join(gpu["throttled"] or ()) or one_line(gpu["name"]), "bad" if gpu["throttled"] else "dim"),
        ]
        yield line


def _gib(mib: float | None) -> float | None:
    return None if mib is None else mib / 1024


def sum_of(gpus: Sequence[Mapping[str, Any]] | None, name: str) -> float | None:
    """None where one of them is not known, or there is none."""
    values = [gpu[name] for gpu in gpus or ()]
    return sum(values) if values and None not in values else None


# Of the table: its columns, and which go first where it is too wide (the highest number; 0 stays).
_COLUMNS = (
    ("HOST", 0),
    ("STATE", 0),
    ("ENGINE", 6),
    ("MODEL", 4),
    ("RUN", 1),
    ("WAIT", 2),
    ("TOK/S", 1),
    ("KV", 3),
    ("GPU%", 5),
    ("GiB", 7),
    ("°C", 8),
    ("W", 9),
)
_MODEL_LEAST = 10  # columns of a model's name that still say something
_RIGHT = {"RUN", "WAIT", "TOK/S", "KV", "GPU%", "GiB", "°C", "W"}


def _rows(name: str, view: View, now: float, interval_s: float) -> Iterator[dict[str, Part]]:
    old = _old(view, now, interval_s)
    if view.problem or view.look is None:
        said = Part(one_line(view.problem), "bad") if view.problem else _connecting(view, now)
        yield {"HOST": Part(one_line(name)), "STATE": said}
        return
    look = view.look
    gpus = look["gpus"]
    busy = sum_of(gpus, "utilization")
    heat = [gpu["temperature_c"] for gpu in gpus or () if gpu["temperature_c"] is not None]
    cards = {
        "GPU%": known(busy / len(gpus) if busy is not None else None) if gpus != [] else "",
        "GiB": known(_gib(sum_of(gpus, "memory_mib"))) if gpus != [] else "",
        "°C": known(max(heat, default=None)) if gpus != [] else "",
        "W": known(sum_of(gpus, "power_w")) if gpus != [] else "",
    }
    first = {name_: Part(value) for name_, value in cards.items()}
    for found in look["deployments"] or [None]:
        if found is None:
            yield {
                "HOST": Part(one_line(name)),
                "STATE": Part(old or "nothing deployed", "bad" if old else "dim"),
                **first,
            }
            return
        ready = found["ready"]
        yield {
            "HOST": Part(one_line(name)),
            "STATE": Part(old, "bad") if old else state(found),
            "ENGINE": Part(one_line(found["engine"])),
            "MODEL": Part(one_line(found["model"] or "?")),
            "RUN": Part(known(found["running"]) if ready else ""),
            "WAIT": Part(known(found["waiting"]) if ready else "", "warn" if found["waiting"] else ""),
            "TOK/S": Part(known(found["generated_s"]) if ready else ""),
            "KV": Part(share(found["kv_use"]) if ready else ""),
            **first,
        }
        first = {}


def _trouble(view: View, now: float, interval_s: float) -> bool:
    if view.problem or view.look is None or _old(view, now, interval_s):
        return True
    return any(not found["ready"] and not found["stopped_on_purpose"] for found in view.look["deployments"])


def table(views: Mapping[str, View], now: float, interval_s: float, width: int, height: int) -> Iterator[Line]:
    """A row for each deployment; where they do not all fit, those with trouble first, and how many are left out."""
    names = list(views)
    rows = {name: list(_rows(name, views[name], now, interval_s)) for name in names}
    if sum(map(len, rows.values())) + 1 > height:
        names.sort(key=lambda name: not _trouble(views[name], now, interval_s))
    shown: list[dict[str, Part]] = []
    left_out = 0
    for name in names:
        if left_out or len(shown) + len(rows[name]) > height - 2 + (name == names[-1]):
            left_out += 1
        else:
            shown += rows[name]
    told = [row for row in shown if _tells(row)]
    widths = {
        column: max([cells(column)] + [cells(row[column].text) for row in told if column in row])
        for column, _rank in _COLUMNS
        if any(row.get(column, Part("")).text for row in told) or column in ("HOST", "STATE")
    }
    widths["HOST"] = max([widths["HOST"]] + [cells(row["HOST"].text) for row in shown])
    ranks = dict(_COLUMNS)
    widths["HOST"] = min(widths["HOST"], max(12, width // 3))

    def wide() -> int:
        return sum(widths.values()) + 2 * (len(widths) - 1)

    if "MODEL" in widths and wide() > width:
        widths["MODEL"] = max(_MODEL_LEAST, widths["MODEL"] - (wide() - width))
    while wide() > width and len(widths) > 2:
        del widths[max(widths, key=lambda column: ranks[column])]
        if "MODEL" in widths:
            longest = max(cells(row["MODEL"].text) for row in shown if "MODEL" in row)
            widths["MODEL"] = min(max(5, longest), widths["MODEL"] + max(0, width - wide()))
    yield [Part(_row({column: Part(column) for column in widths}, widths, width), "dim")]
    for row in shown:
        yield _styled(row, widths)
    if left_out:
        yield [Part(f"and {left_out} more host{'' if left_out == 1 else 's'}: make the terminal higher", "dim")]


def _padded(column: str, text: str, width: int) -> str:
    text = cut(text, width)
    space = " " * (width - cells(text))
    return space + text if column in _RIGHT else text + space


def _row(row: Mapping[str, Part], widths: Mapping[str, int], width: int) -> str:
    return "  ".join(_padded(column, row[column].text, size) for column, size in widths.items())


def _tells(row: Mapping[str, Part]) -> bool:
    """Whether the host tells anything of itself; else the row says why not, at its full length."""
    return "ENGINE" in row or "GPU%" in row


def _styled(row: Mapping[str, Part], widths: Mapping[str, int]) -> Line:
    if not _tells(row):
        return [Part(_padded("HOST", row["HOST"].text, widths["HOST"]) + "  "), row["STATE"]]
    line: Line = []
    for column, size in widths.items():
        text, style = row.get(column, Part(""))
        line.append(Part(_padded(column, text, size), style))
        line.append(Part("  "))
    return line[:-1]
