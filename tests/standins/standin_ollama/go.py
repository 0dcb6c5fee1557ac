# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values as Go writes and reads them: JSON, `%#v`, `%v`, durations, instants."""

from __future__ import annotations

import datetime
import json
import re
from decimal import Decimal

FOREVER = (1 << 63) - 1  # ns, Go's longest duration
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
            "\\": "\\\\", '"': '\\"'}  # fmt: skip


def dumps(value):
    """json.Marshal: compact, keys of maps in order, `<`, `>` and `&` escaped. A dict is a struct: order as it is."""
    if isinstance(value, dict):
        return "{" + ",".join(dumps(str(name)) + ":" + dumps(one) for name, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(dumps, value)) + "]"
    if isinstance(value, float):
        return _json_float(value)
    text = json.dumps(value, ensure_ascii=False)
    if isinstance(value, str):
        for char in "<>&\u2028\u2029":
            text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _json_float(value):
    if value == 0 or 1e-6 <= abs(value) < 1e21:
        return _positional(value)
    mantissa, _e, exponent = repr(value).partition("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent):+d}"


def _positional(value):
    return format(Decimal(repr(value)), "f").removesuffix(".0")


def general(value):
    """`%v` of a float64: its shortest digits, with an exponent from 1e6 on and below 1e-4."""
    exponent = Decimal(repr(value)).adjusted()
    if value == 0 or -4 <= exponent < 6:
        return _positional(value)
    mantissa = format(Decimal(repr(value)).normalize(), "e").partition("e")[0]
    return f"{mantissa}e{exponent:+03d}"


def quote(text):
    """strconv.Quote."""
    out = []
    for char in text:
        code = ord(char)
        if char in _ESCAPES:
            out.append(_ESCAPES[char])
        elif char == " " or (char.isprintable() and not char.isspace()):
            out.append(char)
        elif code < 0x80:
            out.append(f"\\x{code:02x}")
        else:
            out.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return '"' + "".join(out) + '"'


def sharp(value):
    """`%#v` of what encoding/json decoded into `any`: every number is a float64."""
    return quote(value) if isinstance(value, str) else plain(value)


def plain(value):
    """`%v` of the same."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "<nil>"
    return value if isinstance(value, str) else general(float(value))


def duration(text):
    """ns of a Go duration. Raises ValueError with Go's words."""
    if re.fullmatch(r"[+-]?0", text):
        return 0
    if not re.fullmatch(r"[+-]?((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+", text):
        missing = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", text)
        raise ValueError(f"time: {'missing unit in' if missing else 'invalid'} duration {quote(text)}")
    parts = re.findall(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", text)
    total = int(sum(float(count) * _UNITS[unit] for count, unit in parts))
    return -total if text.startswith("-") else total


def setting_duration(text, default):
    """ns of an environment variable that holds a duration or seconds; anything else is silently the default."""
    try:
        total = duration(text or "")
    except ValueError:
        total = int(text) * 10**9 if re.fullmatch(r"[+-]?\d+", text or "") else default
    return FOREVER if total < 0 else total


def instant(nanoseconds):
    """RFC 3339 of a time in ns since 1970."""
    seconds, rest = divmod(int(nanoseconds), 10**9)
    when = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    return when.isoformat() + (f".{rest:09d}".rstrip("0") if rest else "") + "Z"


def human_number(count):
    for scale, letter, digits in ((10**9, "B", 1), (10**6, "M", 2)):
        if count >= scale:
            number = count / scale
            return f"{number:.0f}{letter}" if number == int(number) else f"{number:.{digits}f}{letter}"
    return f"{count / 1000:.0f}K" if count >= 1000 else str(count)


def template_error(text):
    """What template.Parse says of a broken template; None: nothing. Actions are not parsed further than their ends."""
    rest = text
    opened = []
    line = 1
    while "{{" in rest:
        before, _mark, rest = rest.partition("{{")
        line += before.count("\n")
        action, mark, rest = rest.partition("}}")
        if not mark:
            return f"template error: template: :{line}: unclosed action"
        word = action.strip("- \n").split(" ", 1)[0]
        if word in ("if", "range", "with", "block", "define"):
            opened.append(word)
        elif word == "end":
            if not opened:
                return f"template error: template: :{line}: unexpected {{{{end}}}}"
            opened.pop()
        line += action.count("\n")
    if opened:
        return f"template error: template: :{line + rest.count(chr(10))}: unexpected EOF"
    return None
