# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measurements that are kept on the controller: ``<directory>/<host>/<time>-<engine>-<profile>.json``."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure

SCHEMA = 1
# What must be the same for two measurements to say something of each other.
SHAPE = ("prompt_tokens", "output_tokens", "range_ratio", "shared_prefix", "api", "ignore_eos")
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
# What else of a point is a number, or not known; and what is drawn over time.
_NUMBERS = ("p90_ttft_ms", "p90_tpot_ms", "request_goodput", "client_lag_p99_ms")
_DRAWN = {
    "timeline": ("at_s", "tokens_s", "running"),
    "queue": ("at_s", "running", "waiting"),
    "gpu_strip": ("at_s", "power_w", "sm_mhz", "temperature_c"),
}
_LONGEST_WORD = 80  # of a host's name in a path; a file system takes 255 bytes
# File systems that know no hard links: FAT, some of networks.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class NotAResult(ValueError):
    """The file is no measurement; the text is one line."""


def default_directory() -> str:
    """Raises OSError where this user has no home directory."""
    state = os.environ.get("XDG_STATE_HOME") or ""
    # By its specification a relative one is none.
    state = state if os.path.isabs(state) else os.path.expanduser("~/.local/state")
    if not os.path.isabs(state):
        raise OSError(errno.ENOENT, "no home directory to keep measurements in: name one with --results", "$HOME")
    return os.path.join(state, "dsdeploy", "bench")


def _word(text: str) -> str:
    """`text` as a name of a file; where little of it is left, what tells it from others."""
    word = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._")
    if word and text.isascii() and len(word) <= _LONGEST_WORD:
        return word
    told = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{word[: _LONGEST_WORD - len(told) - 1] or 'host'}-{told}"


def _folder(directory: str, host: str) -> Path:
    folder = Path(os.path.expanduser(directory), _word(host))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # a file, or a link that leads nowhere
        raise OSError(errno.ENOTDIR, "is no directory", str(error.filename)) from None
    return folder


def require_place(directory: str, host: str) -> None:
    """That a measurement of `host` can be kept, as far as that is known before there is one. Raises OSError."""
    with tempfile.TemporaryFile(dir=_folder(directory, host), prefix=".bench-") as file:
        file.write(b" " * 4096)
        file.flush()


def save(directory: str, host: str, result: dict[str, Any], now: float | None = None) -> str:
    """Keep a result, whole or not at all; returns its path. Raises OSError."""
    taken = time.time() if now is None else now
    folder = _folder(directory, host)
    record = result["environment"]["record"]
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(taken))
    base = f"{stamp}-{_word(record['engine'])}-{_word(result['profile']['name'])}"
    kept = dict(result, inventory_hostname=host, taken=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(taken)))
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".bench-")
    try:
        # Half a character, as an engine's JSON can hold one, is written as JSON writes it.
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            json.dump(kept, file, ensure_ascii=False, indent=1)
        for number in range(100):  # two in one second have a number
            path = folder / (f"{base}-{number}.json" if number else f"{base}.json")
            try:
                _named(temporary, path)
            except FileExistsError:
                continue
            return str(path)
    finally:
        os.unlink(temporary)
    raise OSError(f"{folder} has 100 measurements of one second")


def _named(temporary: str, path: Path) -> None:
    """Give a file that is whole its name. Raises FileExistsError where another has it."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with open(temporary, "rb") as source, open(path, "wb") as target:
            target.write(source.read())


def load(path: str) -> dict[str, Any]:
    """A measurement; raises NotAResult with a line that names the file, OSError."""
    try:
        with open(path, "rb") as file:  # a pipe as well
            result = foreign.loads(file.read(foreign.MOST_BYTES + 1))
    except ValueError as error:
        raise NotAResult(f"{path} is not JSON ({error})") from None
    points = result.get("points") if isinstance(result, dict) else None
    whole = isinstance(points, list) and points and all(isinstance(point, dict) for point in points)
    if not whole or not isinstance(result.get("environment"), dict) or not isinstance(result.get("profile"), dict):
        raise NotAResult(f"{path} is not a measurement of dsdeploy bench")
    if result.get("schema") != SCHEMA:
        raise NotAResult(f"{path} has schema {result.get('schema')!r}; this dsdeploy reads {SCHEMA}")
    try:
        _check(foreign.Foreign(result, path))
    except Failure as error:
        raise NotAResult(str(error)) from None
    return result


def _check(result: foreign.Foreign) -> None:
    """That numbers are numbers: somebody may have changed the file. Raises Failure."""
    for point in result.items("points"):
        if point.count("max_concurrency", most=10**9) < 1:
            point.wrong("a max_concurrency of 1 at least expected")
        for name in ("completed", "failed"):
            point.count(name, most=10**12)
        for name in (*(key for key, _said, _more in COMPARED), *_NUMBERS):
            point.number(name, None)
        for series, names in _DRAWN.items():
            for step in point.items(series, []):
                step.number("at_s")
                for name in names:
                    step.number(name, None)
        if point.has("against"):
            _check_against(point.mapping("against"))
        for _name, level in point.mapping("slo_ms").entries() if point.has("slo_ms") else ():
            level.number("")
    environment = result.mapping("environment")
    for name in ("record", "served", "model"):
        environment.mapping(name, None)
    environment.texts("gpus", [])
    result.texts("warnings", [])


def _check_against(against: foreign.Foreign) -> None:
    """What `turns.compare` made. Raises Failure."""
    against.text("tool", most=80)
    against.text("problem", "")
    against.texts("notes")
    for _one in against.items("rounds"):
        pass
    for name in ("ours", "figures", "ratio", "spread.ours", "spread.tool", "client.ours", "client.tool"):
        for _key, value in against.mapping(name).entries():
            value.number("", None)
    for _key, value in against.mapping("within").entries():
        value.flag("", None)
    for who in ("ours", "tool"):
        against.count(f"whole.{who}", most=1000)


def listing(directory: str) -> list[dict[str, Any]]:
    """Path, host, time, engine, model, profile and best throughput of each measurement, oldest first."""
    rows = []
    for path, problem in _files(os.path.expanduser(directory)):
        try:
            if problem:
                raise NotAResult(f"{path}: {problem}")
            result = load(path)
        except NotAResult as error:
            rows.append({"path": path, "problem": str(error)})
            continue
        except OSError as error:
            rows.append({"path": path, "problem": f"{path}: {error.strerror}"})
            continue
        record = result["environment"].get("record")
        record = record if isinstance(record, dict) else {}
        rates = [point.get("output_throughput") for point in result["points"]]
        rows.append(
            {
                "path": path,
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


def _files(directory: str) -> Iterator[tuple[str, str]]:
    """(path, what is wrong with it) of each file that may be a measurement. Raises OSError for the directory itself."""
    try:
        hosts = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for host in hosts:
        try:
            found = sorted(os.scandir(host.path), key=lambda entry: entry.name)
        except NotADirectoryError:
            continue
        except OSError as error:
            yield host.path, str(error.strerror)
            continue
        for entry in found:
            if entry.name.endswith(".json") and not entry.name.startswith("."):
                # Nobody may ever write into a pipe.
                yield entry.path, "" if entry.is_file() else "not a file"


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
