# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import time

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground import foreign
from ansible_collections.dsdeploy.llm.plugins.module_utils.ground.failure import Failure


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\xff\xfe", "not UTF-8 text"),
        (b"<html>\x1b[2J", "not JSON: it starts with '<html>\\x1b[2J'"),
        (b'{"a": 1', "not JSON: it starts with '{\"a\": 1'"),
        (b"[" * 100 + b"]" * 100, "nested too deeply"),
        (b"[" * 100000, "nested too deeply"),
        (b'{"a":' * 50000 + b"1" + b"}" * 50000, "nested too deeply"),
        (b"[" + b"1," * 2000000 + b"1]", "more than 1000000 values"),
        (b"9" * 1000000, "a number of 1000000 digits"),
        (b'"' + b"x" * 33 * 1024 * 1024 + b'"', "more than 33554432 bytes"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_what_is_no_document_is_said_in_a_few_words(text, words):
    started = time.monotonic()
    with pytest.raises(Failure) as caught:
        foreign.parse(text, "https://hub/x")
    assert str(caught.value) == f"https://hub/x: {words}"
    assert time.monotonic() - started < 15


def test_a_byte_order_mark_and_what_is_no_number():
    assert foreign.loads(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
    # Unknown is never a number.
    assert foreign.loads(b'{"a": NaN, "b": 1e999, "c": -Infinity}') == {"a": None, "b": None, "c": None}


DOCUMENT = {"name": "x", "size": 3, "on": True, "null": None, "deep": {"list": [{"a": 1}, 5]}, "texts": ["a", 1]}


@pytest.mark.parametrize(
    ("ask", "line"),
    [
        (lambda d: d.text("size"), "size: a text expected, found 3"),
        (lambda d: d.text("null"), "null: a text expected, found nothing"),
        (lambda d: d.text("name", pattern="[0-9]+"), "name: a text like [0-9]+ expected, found 'x'"),
        (lambda d: d.text("name", most=0), "name: a text of at most 0 characters expected, found 'x'"),
        (lambda d: d.count("on"), "on: a whole number expected, found True"),
        (lambda d: d.count("size", most=2), "size: a whole number from 0 to 2 expected, found 3"),
        (lambda d: d.number("name"), "name: a number expected, found 'x'"),
        (lambda d: d.mapping("deep.list"), "deep.list: a mapping expected, found a list of 2"),
        (lambda d: d.text("name.first"), "name: a mapping expected, found 'x'"),
        (lambda d: list(d.items("deep.list")), "deep.list[1]: a mapping expected, found 5"),
        (lambda d: list(d.values("deep")), "deep: a list expected, found a mapping with 'list'"),
        (lambda d: list(d.values("deep.list", most=1)), "deep.list: a list of at most 1 items expected, found a list"),
        (lambda d: d.texts("texts"), "texts[1]: a text expected, found 1"),
        (lambda d: d.flag("size"), "size: true or false expected, found 3"),
    ],
)  # fmt: skip
def test_a_wrong_shape_is_one_line_with_its_place(ask, line):
    with pytest.raises(Failure) as caught:
        ask(foreign.Foreign(DOCUMENT, "FILE"))
    assert str(caught.value).startswith("FILE: " + line)


def test_null_is_what_is_missing():
    document = foreign.Foreign(DOCUMENT, "FILE")
    assert document.text("null", "default") == document.text("gone", "default") == "default"
    assert document.count("gone.further", None) is None
    assert document.mapping("gone", None) is None
    assert list(document.items("null", ())) == []
    assert (document.has("size"), document.has("null"), document.has("deep.list")) == (True, False, True)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"error": {"message": "no\nsuch"}}, "no such"),
        ({"error": "no such"}, "no such"),
        ({"message": "no such"}, "no such"),
        ({"Code": 1, "Message": "no such"}, "no such"),
        ({"detail": [{"loc": ["body"], "msg": "field required"}]}, "field required"),
        ({"error": {"error": {"error": "no such"}}}, "no such"),
        ({"error": {"code": 5}}, '{"code": 5}'),
        (5, "5"),
        ([None], "[null]"),
        # ModelScope's newer answers (claude-code-router issue 462), and of servers in Java.
        ({"errors": {"message": "Request limit exceeded.", "request_id": "30da26a6"}}, "Request limit exceeded."),
        ({"code": 500, "msg": "no such thing"}, "no such thing"),
    ],
)
def test_error_bodies(body, text):
    assert foreign.error_text(body) == text
