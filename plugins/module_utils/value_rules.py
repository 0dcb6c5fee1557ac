# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which values a variable can have, beyond its type: the kinds that engines share. Pure functions."""

from __future__ import annotations

import difflib
import re
from typing import Any, List, NamedTuple, Optional, Sequence


class Kind(NamedTuple):
    """A number in a range, both ends included; `most` None: no upper end. `whole`: no fractions."""

    least: float
    most: Optional[float] = None
    whole: bool = True


KINDS = {
    "port": Kind(1, 65535),
    "connections": Kind(1, 16),
    "count": Kind(1),
    "count_or_zero": Kind(0),
    "tokens": Kind(1),
    "seconds": Kind(1),
    "seconds_or_zero": Kind(0),
    "share": Kind(0.01, 1, whole=False),
}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)\Z")


def value_problem(name: str, value: Any, kind: Optional[str], words: Sequence[str] = ()) -> Optional[str]:
    """What is wrong with the value of a variable, in one line; None for a good one.

    :param value: a number, or text as `-e name=value` gives it.
    :param kind: one of KINDS; None: no number is meant, but one of the words.
    :param words: words that are good besides the numbers.
    """
    text = str(value).strip()
    if text in words or (kind and _in_range(text, KINDS[kind])):
        return None
    near = difflib.get_close_matches(text, list(words), 1)
    guess = " (did you mean %s?)" % near[0] if near else ""
    return "%s is %r%s, expected %s" % (name, value, guess, _expected(kind, words))


def _in_range(text: str, kind: Kind) -> bool:
    if not _NUMBER.match(text) or (kind.whole and "." in text):
        return False
    return kind.least <= float(text) <= (float("inf") if kind.most is None else kind.most)


def _expected(kind: Optional[str], words: Sequence[str]) -> str:
    good: List[str] = list(words)
    if kind:
        rule = KINDS[kind]
        upto = "up" if rule.most is None else "to %g" % rule.most
        good.insert(0, "a %snumber from %g %s" % ("whole " if rule.whole else "", rule.least, upto))
    if len(good) < 2:
        return good[0] if good else "nothing: there is none"
    return "%s or %s" % (", ".join(good[:-1]), good[-1])
