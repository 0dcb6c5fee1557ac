# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a check is, and how one is judged. Pure.

A check is data and a function from facts to verdicts. The facts of a host are plain values by section (look.py
documents them), each of which is read when the first check asks for it: what no check asks for is not read.
A function says `ok`, `warn` or `fail`, or raises `Skip` (it does not apply here) or `Unknown` (it could not be read).
What could not be read is never a pass.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.foreign import one_line
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.words import did_you_mean

STATUSES = ("pass", "warn", "fail", "skip", "unknown")
# The first that occurs is what a host as a whole is.
_WORST = ("fail", "warn", "unknown", "pass", "skip")
LONGEST = 300  # characters of a value: what a host says may be anything


class Skip(Exception):
    """The check does not apply to this host; the text says why."""


class Unknown(Exception):
    """It could not be read; the text says why."""


class Facts(Dict[str, Any]):
    """The sections of a host's facts; one that is not there is read. One that could not be read is `{"problem": why}`
    and raises Unknown."""

    def __init__(self, sections: Mapping[str, Any], read: Optional[Callable[[str], Any]] = None) -> None:
        super().__init__(sections)
        self._read = read

    def __getitem__(self, name: str) -> Any:
        if name not in self and self._read:
            self[name] = self._read(name)
        found = super().__getitem__(name)
        if isinstance(found, dict) and set(found) == {"problem"}:
            raise Unknown(found["problem"])
        return found


class Verdict(NamedTuple):
    """What a check found. `fix` is empty where the check's own is meant."""

    status: str
    value: str
    expected: str
    fix: str = ""


class Check(NamedTuple):
    """One check. `when`: besides `dsdeploy doctor`, what it is made at the end of (`up`, `prepare`)."""

    id: str
    group: str
    title: str  # what is looked at
    why: str  # what goes wrong otherwise
    fix: str  # a command, or what to do; a verdict may have a closer one
    source: str  # where the rule or the threshold is from
    when: Tuple[str, ...]
    deep: bool  # takes minutes and loads the GPUs
    rule: Callable[[Dict[str, Any]], Verdict]


GROUPS = ("gpu", "driver", "system", "disk", "network", "engine", "gang", "deep")
_REGISTRY: Dict[str, Check] = {}


def check(
    name: str,
    title: str,
    why: str,
    fix: str,
    source: str,
    when: Sequence[str] = (),
    deep: bool = False,
) -> Callable[[Callable[[Dict[str, Any]], Verdict]], Callable[[Dict[str, Any]], Verdict]]:
    """Makes a rule a check; its group is the name up to the first underscore."""

    def register(rule: Callable[[Dict[str, Any]], Verdict]) -> Callable[[Dict[str, Any]], Verdict]:
        group = name.partition("_")[0]
        if name in _REGISTRY or group not in GROUPS:
            raise ValueError(name)
        _REGISTRY[name] = Check(name, group, title, why, fix, source, tuple(when), deep, rule)
        return rule

    return register


def registry() -> List[Check]:
    """All checks that were imported, by group."""
    return sorted(_REGISTRY.values(), key=lambda one: GROUPS.index(one.group))


def ok(value: Any, expected: str = "") -> Verdict:
    return Verdict("pass", str(value), expected)


def warn(value: Any, expected: str, fix: str = "") -> Verdict:
    return Verdict("warn", str(value), expected, fix)


def fail(value: Any, expected: str, fix: str = "") -> Verdict:
    return Verdict("fail", str(value), expected, fix)


def judge(one: Check, facts: Facts) -> Dict[str, Any]:
    """The result of a check: `{id, group, status, value, expected, why, fix, source}`, all of them texts of one line.

    A rule that cannot make sense of its facts leaves the check unknown: what a host says may be anything, and one check
    must not take the others with it.
    """
    try:
        verdict = one.rule(facts)
    except Skip as reason:
        verdict = Verdict("skip", str(reason), "")
    except Unknown as reason:
        verdict = Verdict("unknown", str(reason), "")
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        verdict = Verdict(
            "unknown", "what the host says has an unknown form (%s: %s)" % (type(error).__name__, error), ""
        )
    told = verdict.status in ("warn", "fail")
    return {
        "id": one.id,
        "group": one.group,
        "status": verdict.status,
        "value": one_line(verdict.value, LONGEST),
        "expected": one_line(verdict.expected, LONGEST),
        "why": one.why,
        "fix": one_line(verdict.fix or one.fix, LONGEST) if told else "",
        "source": one.source,
    }


def selected(only: Iterable[str], moment: Optional[str], deep: bool) -> List[Check]:
    """The checks that are asked for.

    :param only: ids, groups or beginnings of ids that end with `*`; none for all.
    :param moment: `up` or `prepare`; None for all.
    :param deep: whether those that load the GPUs are among them. Named in `only`, they need it all the same.
    :raises Failure: a name that is none, or deep checks alone without `deep`.
    """
    checks = registry()
    wanted = []
    for name in only:
        found = [one.id for one in checks if name in (one.id, one.group) or _matches(one.id, name)]
        if not found:
            names = [one.id for one in checks] + list(GROUPS)
            raise Failure(
                "there is no check %s%s" % (one_line(name, 60), did_you_mean(name, names)),
                "`dsdeploy doctor --list` names them.",
                "usage",
            )
        wanted += found
    if wanted and not deep and all(one.deep for one in checks if one.id in wanted):
        raise Failure(
            "%s: only checks that load the GPUs, which are not made by themselves" % ", ".join(only),
            "Add --deep (deep: true), when nothing serves.",
            "usage",
        )
    return [
        one
        for one in checks
        if (not wanted or one.id in wanted) and (moment is None or moment in one.when) and (deep or not one.deep)
    ]


def _matches(name: str, pattern: str) -> bool:
    return pattern.endswith("*") and name.startswith(pattern[:-1])


def counts(results: Sequence[Dict[str, Any]]) -> Dict[str, int]:
    """How many there are of each status."""
    return {status: sum(result["status"] == status for result in results) for status in STATUSES}


def overall(results: Sequence[Dict[str, Any]]) -> str:
    """The status of a host by those of its checks; `skip` where nothing was checked."""
    found = {result["status"] for result in results}
    return next((status for status in _WORST if status in found), "skip")


def told(results: Sequence[Dict[str, Any]]) -> List[str]:
    """A line for each result that is to be told: what warns or fails."""
    return [
        "%s: %s%s; %s"
        % (
            result["id"],
            result["value"],
            " (expected: %s)" % result["expected"] if result["expected"] else "",
            result["fix"],
        )
        for result in results
        if result["status"] in ("fail", "warn")
    ]
