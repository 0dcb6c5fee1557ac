# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which values a variable can have, beyond its type: the kinds that engines share. Pure functions."""

from __future__ import annotations

import json
import re
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Union

from ansible_collections.dsdeploy.llm.plugins.module_utils.engine import ollama
from ansible_collections.dsdeploy.llm.plugins.module_utils.gateway.keys import check_name
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.words import nearest


class Kind(NamedTuple):
    """A number in a range, both ends included; `most` None: no upper end. `whole`: no fractions."""

    least: float
    most: Optional[float] = None
    whole: bool = True


class Form(NamedTuple):
    """Text of a form that is not a number's; `said`: the form in words."""

    pattern: str
    said: str


class Rule(NamedTuple):
    """Values with a rule of their own: `problem(value)` is what is wrong, in one line, or None."""

    problem: Callable[[Any], Optional[str]]


def no_list(name: str, value: str) -> str:
    """What is said of a string where a list is meant. Ansible's own check takes it for one, cut at its commas, and a
    template makes an element of each letter."""
    return "%s is the string %r, not a list: %s: [%s] in an inventory, else -e '%s'" % (
        name, value, name, value, json.dumps({name: [value]}, ensure_ascii=False),
    )  # fmt: skip


def _ollama_parameters(value: Any) -> Optional[str]:
    """`value`: {parameters, version}."""
    try:
        ollama.typed_parameters(value["parameters"])
    except ValueError as error:
        return str(error).partition(": ")[2]
    return (ollama.too_new(value["parameters"], str(value["version"])) or "").partition(": ")[2] or None


def _ollama_name(value: Any) -> Optional[str]:
    try:
        ollama.check_name(str(value))
    except ValueError as error:
        return str(error).partition(": ")[2]
    return None


def _key_name(value: Any) -> Optional[str]:
    try:
        check_name(str(value))
    except Failure as error:
        return "%s. %s" % (error, error.hint)
    return None


# gin's cors, which Ollama uses, ends the server for any other: these schemes, or one `*`.
_ORIGIN = r"((https?|(chrome|safari|moz|ms-browser)-extension)://[^\s,*]*[*]?[^\s,*]*|[^\s,*]*[*][^\s,*]*)"

KINDS: Dict[str, Union[Kind, Form, Rule]] = {
    "port": Kind(1, 65535),
    "connections": Kind(1, 16),
    "gid_index": Kind(-1, 255),
    "count": Kind(1),
    "count_or_zero": Kind(0),
    "tokens": Kind(1),
    "seconds": Kind(1),
    "seconds_or_zero": Kind(0),
    "rate": Kind(0, whole=False),
    "share": Kind(0.01, 1, whole=False),
    "version": Form(r"[0-9]+([.][0-9]+)+([.+~-]?[A-Za-z0-9]+)*", "a version, such as 1.2.3"),
    # Of Go (time.ParseDuration), or seconds. Ollama takes five minutes for anything else, without a word.
    "duration": Form(
        r"[+-]?([0-9]+|(([0-9]+[.]?[0-9]*|[.][0-9]+)(ns|us|µs|ms|s|m|h))+)",
        "a duration such as 10m or 24h, seconds, or -1 for ever",
    ),
    "origins": Form(
        r"%s(,%s)*" % (_ORIGIN, _ORIGIN),
        "origins such as https://chat.example.org, or with one * such as http://10.0.0.*",
    ),
    "list": Rule(lambda value: None),  # a string is told above
    "ollama_name": Rule(_ollama_name),
    "key_name": Rule(_key_name),
    "ollama_parameters": Rule(_ollama_parameters),
    "cuda_version": Form(r"[0-9]+[.][0-9]+", 'two numbers in quotes, such as "12.4"'),
}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)\Z")


def value_problem(name: str, value: Any, kind: Optional[str], words: Sequence[str] = ()) -> Optional[str]:
    """What is wrong with the value of a variable, in one line; None for a good one.

    :param value: a number, or text as `-e name=value` gives it.
    :param kind: one of KINDS; None: no such value is meant, but one of the words.
    :param words: words that are good besides; an empty one is an empty value.
    """
    if kind == "list":
        return no_list(name, value) if isinstance(value, str) and value else None
    text = str(value).strip()
    rule = KINDS[kind] if kind else None
    if text in words:
        return None
    if isinstance(rule, Rule):
        wrong = rule.problem(value)
        return "%s: %s" % (name, wrong) if wrong else None
    if rule and _is(text, rule):
        return None
    near = nearest(text, words)
    guess = " (did you mean %s?)" % near if near else ""
    return "%s is %r%s, expected %s" % (name, value, guess, _expected(kind, words))


# The option `values` of the modules that check them.
VALUES: Dict[str, Any] = dict(
    type="list",
    elements="dict",
    default=[],
    options=dict(
        name=dict(type="str", required=True),
        value=dict(type="raw", required=True),
        kind=dict(type="str", choices=list(KINDS)),
        words=dict(type="list", elements="str", default=[]),
    ),
)


def value_problems(values: Sequence[Dict[str, Any]]) -> List[str]:
    """What is wrong with values in the form of the option `values`, a line each."""
    found = [value_problem(each["name"], each["value"], each["kind"], each["words"]) for each in values]
    return [problem for problem in found if problem]


def _is(text: str, kind: Union[Kind, Form]) -> bool:
    if isinstance(kind, Form):
        return bool(re.fullmatch(kind.pattern, text))
    if not _NUMBER.match(text) or (kind.whole and "." in text):
        return False
    return kind.least <= float(text) <= (float("inf") if kind.most is None else kind.most)


def _expected(kind: Optional[str], words: Sequence[str]) -> str:
    good: List[str] = [word or "nothing" for word in words]
    rule = KINDS[kind] if kind else None
    if isinstance(rule, Form):
        good.insert(0, rule.said)
    elif isinstance(rule, Kind):
        upto = "up" if rule.most is None else "to %g" % rule.most
        good.insert(0, "a %snumber from %g %s" % ("whole " if rule.whole else "", rule.least, upto))
    if len(good) < 2:
        return good[0] if good else "nothing: there is none"
    return "%s or %s" % (", ".join(good[:-1]), good[-1])
