# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Damage for property tests: a real answer, changed at random, in its JSON or in its bytes.

`COUNT` is how many a test tries: 500, or what DSDEPLOY_MUTATIONS says (the slow set: 20000).
"""

import copy
import json
import os
import random

COUNT = int(os.environ.get("DSDEPLOY_MUTATIONS", "500"))

ODD = [
    None, True, False, 0, -1, 1, 5, 2**31, 2**63, 2**200, 0.5, -0.0, 1e308, float("inf"), float("nan"),
    "", " ", "\0", "\x1b[2J", "a\nb", "null", "../x", "/etc/passwd", ".dsdeploy-manifest.json", "x.journal", "x" * 5000,
    "\ud800", "\u202e", "é", "e\u0301", "abort", "error", "https://[::1", "http://x/\r\nA: b", "0" * 40, "f" * 64,
    [], [[]], {}, {"": None}, {"error": {"message": ["x"]}}, [None], ["x"], [{}], {"a": {"b": {"c": 1}}},
]  # fmt: skip


def places(value, path=()):
    """The paths of all values inside a JSON value, itself among them."""
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, key))


def mutate_json(value, source):
    """A JSON value of which one to three parts are replaced, removed, doubled or moved."""
    value = copy.deepcopy(value)
    for _number in range(source.choice((1, 1, 1, 2, 3))):
        path = source.choice(list(places(value)))
        if not path:
            if source.random() < 0.05:
                return copy.deepcopy(source.choice(ODD))
            continue
        parent = value
        for key in path[:-1]:
            parent = parent[key]
        kind = source.choice(("odd", "odd", "odd", "gone", "twice", "swap"))
        if kind == "odd":
            parent[path[-1]] = copy.deepcopy(source.choice(ODD))
        elif kind == "gone":
            del parent[path[-1]]
        elif kind == "twice" and isinstance(parent, list):
            parent.insert(source.randrange(len(parent) + 1), copy.deepcopy(parent[path[-1]]))
        else:
            other = value
            for key in source.choice(list(places(value))):
                other = other[key]
            parent[path[-1]] = copy.deepcopy(other)
    return value


def mutate_bytes(data, source):
    """Bytes of which some are changed, cut out, put in or doubled."""
    data = bytearray(data)
    for _number in range(source.choice((1, 1, 2, 8))):
        at = source.randrange(len(data) + 1)
        end = min(len(data), at + source.choice((1, 1, 4, 64)))
        kind = source.choice(("flip", "cut", "insert", "double", "end"))
        if kind == "flip" and at < len(data):
            data[at] = source.randrange(256)
        elif kind == "cut":
            del data[at:end]
        elif kind == "insert":
            data[at:at] = source.choice(
                (
                    b"\xef\xbb\xbf",
                    b"\0",
                    b"[" * 3000,
                    b"9" * 5000,
                    b"NaN",
                    b"1e999",
                    b"\xff",
                    b"\n",
                    b"\r",
                    b"\n\n",
                    b'"',
                )
            )
        elif kind == "double":
            data[at:at] = data[at:end]
        elif kind == "end" and source.random() < 0.2:
            del data[at:]
    return bytes(data)


def mutations(value, seed):
    """`COUNT` damaged JSON texts (bytes) of a value, the same ones for the same seed."""
    whole = json.dumps(value).encode()
    for number in range(COUNT):
        source = random.Random(f"{seed}-{number}")
        if source.random() < 0.6:
            yield json.dumps(mutate_json(value, source)).encode()
        else:
            yield mutate_bytes(whole, source)


def assert_one_line(error):
    text = str(error)
    assert text.strip() and text.isprintable() and len(text) < 2000, repr(text)
