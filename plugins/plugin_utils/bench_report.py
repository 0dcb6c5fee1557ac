# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A measurement as one HTML file that opens offline: nothing is fetched, no script runs. Pure.

Every text of the measurement is foreign (model names are the user's) and is escaped.
"""

from __future__ import annotations

import json
import shlex
from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import Any

from ansible_collections.dsdeploy.llm.plugins.plugin_utils.bench_words import WORDS
from ansible_collections.dsdeploy.llm.plugins.plugin_utils.svg_plot import Series, plot

STYLE = """
:root{--bg:#fff;--fg:#1d2330;--soft:#5b6472;--grid:#dde1e8;--card:#f6f7f9;--warn:#9a5b00;
--c0:#1f6fd6;--c1:#d9541e;--c2:#1a8f5a;--c3:#8a45c9;--c4:#b38300;--c5:#c22f6a}
@media screen and (prefers-color-scheme:dark){
:root{--bg:#14171d;--fg:#e7eaf0;--soft:#9aa4b2;--grid:#323944;--card:#1d222b;
--warn:#f0b35a;--c0:#6aa9ff;--c1:#ff8f61;--c2:#5fd19a;--c3:#c39bf5;--c4:#e3bf4d;--c5:#ff86ae}}
body{margin:0 auto;max-width:1180px;padding:24px;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,-apple-system,"Segoe UI","Noto Sans CJK SC","PingFang SC","Microsoft YaHei",sans-serif}
h1{font-size:22px;margin:0 0 4px;overflow-wrap:anywhere}h2{font-size:16px;margin:28px 0 8px}.soft{color:var(--soft)}
.verdict{font-size:18px;margin:16px 0;overflow-wrap:anywhere}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(430px,1fr));gap:16px}
figure{margin:0;background:var(--card);border-radius:8px;padding:10px}figcaption{font-weight:600;font-size:14px}
svg{width:100%;height:auto}
.grid{stroke:var(--grid)}.tick{fill:var(--soft);font-size:11px}.axis{fill:var(--fg);font-size:12px}
.limit{stroke:var(--fg);stroke-dasharray:5 4}.line{fill:none;stroke-width:2}
.s0{stroke:var(--c0)}.s1{stroke:var(--c1)}.s2{stroke:var(--c2)}
.s3{stroke:var(--c3)}.s4{stroke:var(--c4)}.s5{stroke:var(--c5)}
.dot.s0,.key.s0{fill:var(--c0)}.dot.s1,.key.s1{fill:var(--c1)}.dot.s2,.key.s2{fill:var(--c2)}
.dot.s3,.key.s3{fill:var(--c3)}.dot.s4,.key.s4{fill:var(--c4)}.dot.s5,.key.s5{fill:var(--c5)}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums}
th,td{padding:4px 8px;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap}
th{white-space:normal;vertical-align:bottom}
th:first-child,td:first-child{text-align:left}
.facts td{text-align:left;vertical-align:top;white-space:normal;overflow-wrap:anywhere}
.facts td:first-child{white-space:nowrap}code{font:13px ui-monospace,monospace}
.warn{color:var(--warn);overflow-wrap:anywhere}
@media print{body{max-width:none;padding:0;background:#fff;color:#000}figure{break-inside:avoid;background:none}
.plots{grid-template-columns:1fr 1fr}table{font-size:10px}code{font-size:9px}th,td{padding:2px 4px}
.wide{overflow:visible}}
@page{margin:14mm}
""".strip()
_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()
CSP = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"


def figure(value: float | None, digits: int = 1) -> str:
    """A number, or the sign that it is not known."""
    if value is None:
        return "–"
    return f"{value:,.{digits}f}" if abs(value) < 1000 or digits == 0 else f"{value:,.0f}"


def verdict(result: dict[str, Any], words: dict[str, str], expected: dict[str, Any] | None = None) -> str:
    """The best rate, the service level, and how it stands to what was expected (see `bench_expected`)."""
    points = result["points"]
    rated = [point for point in points if point.get("output_throughput") is not None]
    first = points[0]
    if not rated:
        return words["not_counted"]
    best = max(rated, key=lambda point: point["output_throughput"])
    said = words["verdict"].format(
        first=figure(first.get("output_throughput")),
        streams=first["max_concurrency"],
        best=figure(best["output_throughput"]),
        best_streams=best["max_concurrency"],
    )
    level = [point for point in points if _in_level(point)]
    said += " " + (
        words["level"].format(streams=max(point["max_concurrency"] for point in level)) if level else words["no_level"]
    )
    if expected:
        low, high, rate = expected["low"], expected["high"], expected["measured"]
        key = "below" if rate < low else "above" if rate > high else "inside"
        said += " " + words[key].format(
            low=figure(low),
            high=figure(high),
            rate=figure(rate),
            streams=expected["streams"],
            sources="; ".join(expected["sources"]),
        )
    return said


def _in_level(point: dict[str, Any]) -> bool:
    """Whether the medians of a point meet its service level; a level that was not measured is not met."""
    level = point.get("slo_ms") or {}
    values = {name: point.get(f"median_{name}_ms") for name in level}
    return bool(level) and all(value is not None and value <= level[name] for name, value in values.items())


def _plots(result: dict[str, Any], words: dict[str, str]) -> list[tuple[str, str]]:
    """(caption, svg) of each plot that there is something to draw for."""
    points = [point for point in result["points"] if point["completed"]]
    if not points:
        return []
    gpus = len(result["environment"].get("gpus") or ()) or 1
    found = []
    pareto = [
        (1000.0 / point["median_tpot_ms"], point["output_throughput"] / gpus, str(point["max_concurrency"]))
        for point in points
        if point.get("median_tpot_ms") and point.get("output_throughput")
    ]
    line = Series("", [(x, y) for x, y, _label in pareto], [label for _x, _y, label in pareto])
    y_label = words["tokens_s_gpu"] if result["environment"].get("gpus") else words["tokens_s"]
    found.append((words["pareto"], plot([line], words["tokens_s_user"], y_label)))
    for name in ("ttft", "tpot"):
        lines = [
            Series(
                words.get(key, key),
                [(p["max_concurrency"], p[f"{key}_{name}_ms"]) for p in points if p.get(f"{key}_{name}_ms")],
            )
            for key in ("median", "p90", "p99")
        ]
        level = (points[0].get("slo_ms") or {}).get(name)
        limit = (level, f"{words['slo']} {level:g} ms") if level else None
        caption = words[f"{name}_caption"]
        found.append((caption, plot(lines, words["streams"], f"{name.upper()}, ms", True, limit)))
    rated = [point for point in points if point.get("output_throughput") is not None] or points
    best = max(rated, key=lambda point: point.get("output_throughput") or 0)
    steps, at = best.get("timeline") or [], {"streams": best["max_concurrency"]}
    found.append(
        (
            words["timeline"].format(**at),
            plot(
                [Series("", [(step["at_s"], step["tokens_s"]) for step in steps])], words["seconds"], words["tokens_s"]
            ),
        )
    )
    queue = best.get("queue") or []
    lines = [
        Series(words[name], [(item["at_s"], item[name]) for item in queue if item.get(name) is not None])
        for name in ("running", "waiting")
    ]
    if not lines[0].points:
        lines = [Series(words["in_flight"], [(step["at_s"], step["running"]) for step in steps])]
    found.append((words["queue"].format(**at), plot(lines, words["seconds"], words["requests"])))
    strip = best.get("gpu_strip") or []
    for key, label in (("power_w", words["power"]), ("sm_mhz", words["clock"]), ("temperature_c", words["heat"])):
        values = [(item["at_s"], item[key]) for item in strip if item.get(key) is not None]
        found.append((label, plot([Series("", values)], words["seconds"], label)))
    return [(caption, svg) for caption, svg in found if svg]


def _table(result: dict[str, Any], words: dict[str, str]) -> str:
    columns = (
        ("max_concurrency", words["streams"], 0),
        ("completed", words["completed"], 0),
        ("failed", words["failed"], 0),
        ("output_throughput", words["tokens_s"], 1),
        ("request_throughput", words["requests_s"], 2),
        ("median_ttft_ms", "TTFT p50, ms", 1),
        ("p99_ttft_ms", "TTFT p99, ms", 1),
        ("median_tpot_ms", "TPOT p50, ms", 2),
        ("p99_tpot_ms", "TPOT p99, ms", 2),
        ("p99_e2el_ms", "E2EL p99, ms", 0),
        ("request_goodput", words["goodput"], 2),
        ("client_lag_p99_ms", words["lag"], 1),
    )
    head = "".join(f"<th>{escape(name)}</th>" for _key, name, _digits in columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{figure(point.get(key), digits)}</td>" for key, _name, digits in columns) + "</tr>"
        for point in result["points"]
    )
    return _grid(head, rows)


def _grid(head: str, rows: str) -> str:
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


_AGAINST = (
    # The others are in the JSON.
    ("output_throughput", "tokens_s", 1),
    ("median_ttft_ms", "TTFT p50, ms", 1),
    ("median_tpot_ms", "TPOT p50, ms", 2),
    ("median_e2el_ms", "E2EL p50, ms", 0),
)


def _against(result: dict[str, Any], words: dict[str, str]) -> str:
    """What the engine's own tool measured in turns with ours; "" where it was not asked for."""
    rows, told = [], []
    for point in result["points"]:
        found = point.get("against") or {}
        if not found.get("rounds"):
            continue
        whole, spreads = found["whole"], found["spread"]
        streams = figure(point["max_concurrency"], 0)
        for key, label, digits in _AGAINST:
            ratio, within = found["ratio"].get(key), found["within"].get(key)
            rows.append(
                (
                    streams,
                    f"{whole['ours']}, {whole['tool']}",
                    words.get(label, label),
                    figure(found["ours"].get(key), digits),
                    _percent(spreads["ours"].get(key)),
                    figure(found["figures"].get(key), digits),
                    _percent(spreads["tool"].get(key)),
                    _percent(None if ratio is None else ratio - 1, "+"),
                    words["unknown"] if within is None else words["within" if within else "beyond"],
                )
            )
        ours, its = (
            f"{figure(client.get('cpus'), 2)}, {figure(client.get('lag_p99_ms'), 1)}"
            for client in (found["client"]["ours"], found["client"]["tool"])
        )
        rows.append((streams, f"{whole['ours']}, {whole['tool']}", words["client"], ours, "", its, "", "", ""))
        told += [*found["notes"], *filter(None, [found.get("problem")])]
    if not rows:
        return ""
    tools = ", ".join(dict.fromkeys(point["against"]["tool"] for point in result["points"] if point.get("against")))
    names = ("streams", "rounds", "figure", "ours", "spread", "its", "spread", "difference", "reading")
    head = "".join(f"<th>{escape(words[name])}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    lines = "".join(f"<li>{escape(str(line))}</li>" for line in told)
    return (
        f"<h2>{escape(words['against'])}: {escape(tools)}</h2>"
        + (f'<ul class="warn">{lines}</ul>' if told else "")
        + _grid(head, body)
        + f'<p class="soft">{escape(words["turns"])}</p>'
    )


def _percent(share: float | None, sign: str = "") -> str:
    return "–" if share is None else format(100 * share, f"{sign}.1f") + " %"


def _facts(result: dict[str, Any], words: dict[str, str]) -> str:
    environment, profile = result["environment"], result["profile"]
    record = environment.get("record") or {}
    served, files = environment.get("served") or {}, environment.get("model") or {}
    names = environment.get("gpus")
    around = f" ± {100 * profile['range_ratio']:g} %" if profile.get("range_ratio") else ""
    gpus = words["unknown"] if names is None else f"{len(names)} × {names[0]}" if names else words["none"]
    rows = [
        (words["engine"], f"{record.get('engine')} {record.get('version')}"),
        (words["model"], record.get("model")),
        (words["host"], f"{result.get('inventory_hostname') or ''} ({environment.get('host')})"),
        (words["measured_from"], environment.get("measured_from") or words["unknown"]),
        ("GPU", gpus),
        (words["driver"], environment.get("driver") or words["unknown"]),
        (words["command"], shlex.join(served["command"]) if served.get("command") else words["unknown"]),
        (words["variables"], " ".join(f"{name}={value}" for name, value in (served.get("variables") or {}).items())),
        (
            words["files"],
            " ".join(str(value) for value in (files.get("revision"), files.get("manifest_sha256")) if value),
        ),
        (words["kernel"], f"{environment.get('kernel')}, {environment.get('cpus')} CPU"),
        (
            words["asked"],
            f"{profile['prompt_tokens']} + {profile['output_tokens']} tokens{around}, {profile['prompts']}",
        ),
        (words["ended"], result.get("ended")),
        (words["taken"], result.get("taken")),
    ]
    typed = (words["command"], words["variables"], words["files"])
    cells = ""
    for name, value in rows:
        if value != "":
            said = escape(str(value))
            cells += f"<tr><td>{escape(name)}</td><td>{f'<code>{said}</code>' if name in typed else said}</td></tr>"
    return f'<table class="facts"><tbody>{cells}</tbody></table>'


def render(result: dict[str, Any], language: str = "en", expected: dict[str, Any] | None = None) -> str:
    """The page. `language`: en or zh; `expected`: see `bench_expected`, None where nobody knows."""
    words = WORDS[language]
    record = result["environment"].get("record") or {}
    title = f"dsdeploy bench: {record.get('model')} – {record.get('engine')}"
    plots = "".join(
        f"<figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>" for caption, svg in _plots(result, words)
    )
    told = result.get("warnings") or []
    warnings = "".join(f"<li>{escape(str(line))}</li>" for line in told)
    # Inside a script element only "<" could end it; its JSON escape is the same value.
    raw = json.dumps(result, ensure_ascii=False).replace("<", "\\u003c").encode("utf-8", "backslashreplace").decode()
    page = (
        f'<!doctype html>\n<html lang="{"zh-CN" if language == "zh" else "en"}"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{CSP}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1>"
        f'<p class="verdict">{escape(verdict(result, words, expected))}</p>'
        + (f'<h2>{escape(words["warnings"])}</h2><ul class="warn">{warnings}</ul>' if told else "")
        + f'<div class="plots">{plots}</div><h2>{escape(words["figures"])}</h2>{_table(result, words)}'
        f"{_against(result, words)}"
        f"<h2>{escape(words['environment'])}</h2>{_facts(result, words)}"
        f'<p class="soft">{escape(words["definitions"])}</p>'
        f'<script type="application/json" id="result">{raw}</script></body></html>\n'
    )
    return page.encode("utf-8", "replace").decode()  # half a character is none
