# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measurements that are kept on the controller: ``<directory>/<host>/<time>-<engine>-<profile>.json``."""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign

SCHEMA = 1
# What must be the same for two measurements to say something of each other.
SHAPE = ("prompt_tokens", "output_tokens", "shared_prefix", "api", "ignore_eos")
# (key of a point, its name, whether more is better)
COMPARED = (
    ("output_throughput", "output tokens/s", True),
    ("request_throughput", "requests/s", True),
    ("median_ttft_ms", "median TTFT, ms", False),
    ("p99_ttft_ms", "p99 TTFT, ms", False),
    ("median_tpot_ms", "median TPOT, ms", False),
    ("p99_tpot_ms", "p99 TPOT, ms", False),
    ("p99_e2el_ms", "p99 E2EL, ms", False),
)


class NotAResult(ValueError):
    """The file is no measurement; the text is one line."""


def default_directory() -> str:
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(state, "dsdeploy", "bench")


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._") or "_"


def save(directory: str, host: str, result: dict[str, Any], now: float | None = None) -> str:
    """Keep a result, whole or not at all; returns its path. Raises OSError."""
    taken = time.time() if now is None else now
    folder = Path(os.path.expanduser(directory), _word(host))
    folder.mkdir(parents=True, exist_ok=True)
    record = result["environment"]["record"]
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(taken))
    base = f"{stamp}-{_word(record['engine'])}-{_word(result['profile']['name'])}"
    kept = dict(result, inventory_hostname=host, taken=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(taken)))
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".bench-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(kept, file, ensure_ascii=False, indent=1)
        for number in range(100):  # two in one second have a number
            path = folder / (f"{base}-{number}.json" if number else f"{base}.json")
            try:
                os.link(temporary, path)
            except FileExistsError:
                continue
            return str(path)
    finally:
        os.unlink(temporary)
    raise OSError(f"{folder} has 100 measurements of one second")


def load(path: str) -> dict[str, Any]:
    """A measurement; raises NotAResult with a line that names the file, OSError."""
    try:
        result = foreign.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError:
        raise NotAResult(f"{path} is not JSON") from None
    points = result.get("points") if isinstance(result, dict) else None
    whole = isinstance(points, list) and points and all(isinstance(point, dict) for point in points)
    if not whole or not isinstance(result.get("environment"), dict) or not isinstance(result.get("profile"), dict):
        raise NotAResult(f"{path} is not a measurement of dsdeploy bench")
    if result.get("schema") != SCHEMA:
        raise NotAResult(f"{path} has schema {result.get('schema')!r}; this dsdeploy reads {SCHEMA}")
    return result


def listing(directory: str) -> list[dict[str, Any]]:
    """Path, host, time, engine, model, profile and best throughput of each measurement, oldest first."""
    rows = []
    for path in sorted(Path(os.path.expanduser(directory)).glob("*/*.json")):
        try:
            result = load(str(path))
        except (NotAResult, OSError) as error:
            rows.append({"path": str(path), "problem": str(error)})
            continue
        record = result["environment"].get("record")
        record = record if isinstance(record, dict) else {}
        rates = [point.get("output_throughput") for point in result["points"]]
        rows.append(
            {
                "path": str(path),
                "host": result.get("inventory_hostname"),
                "taken": result.get("taken"),
                "engine": f"{record.get('engine')} {record.get('version')}",
                "model": record.get("model"),
                "profile": result["profile"].get("name"),
                "best_tokens_s": max((rate for rate in rates if isinstance(rate, (int, float))), default=None),
                "interrupted": bool(result.get("interrupted")),
            }
        )
    return sorted(rows, key=lambda row: str(row.get("taken") or ""))


def differences(one: dict[str, Any], two: dict[str, Any]) -> list[str]:
    """Why the two cannot be compared, a line each."""
    found = []
    for name in SHAPE:
        if one["profile"].get(name) != two["profile"].get(name):
            found.append(f"{name}: {one['profile'].get(name)} and {two['profile'].get(name)}")
    records = [result["environment"].get("record") or {} for result in (one, two)]
    for name in ("model",):
        if records[0].get(name) != records[1].get(name):
            found.append(f"{name}: {records[0].get(name)} and {records[1].get(name)}")
    places = [result["environment"].get("measured_from") for result in (one, two)]
    if places[0] != places[1]:
        found.append(f"measured from: {places[0]} and {places[1]}")
    files = [(result["environment"].get("model") or {}).get("manifest_sha256") for result in (one, two)]
    if all(files) and files[0] != files[1]:
        found.append("the model's files: other ones under the same name")
    gpus = [result["environment"].get("gpus") for result in (one, two)]
    if gpus[0] != gpus[1]:
        found.append(f"GPUs: {_gpus(gpus[0])} and {_gpus(gpus[1])}")
    return found


def _gpus(names: list[str] | None) -> str:
    if names is None:
        return "not known"
    return f"{len(names)} x {names[0]}" if names else "none"


def compare(one: dict[str, Any], two: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each figure of each number of streams that both have: ``{concurrency, name, one, two, ratio, better}``.

    ``better``: True or False where `two` is better or worse by more than 3 %, None in between or where it is not known.
    """
    by_streams = [{point["max_concurrency"]: point for point in result["points"]} for result in (one, two)]
    rows = []
    for streams in sorted(set(by_streams[0]) & set(by_streams[1])):
        for key, name, more in COMPARED:
            before, after = (points[streams].get(key) for points in by_streams)
            ratio = round(after / before, 3) if before and after is not None else None
            better = None
            if ratio is not None and abs(ratio - 1) > 0.03:
                better = (ratio > 1) == more
            rows.append(
                {"concurrency": streams, "name": name, "one": before, "two": after, "ratio": ratio, "better": better}
            )
    return rows
