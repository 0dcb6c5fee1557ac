"""Words as systemd, supervisor and the shell read them."""

from __future__ import annotations

import configparser
import re
import shlex

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils import quoting
from hypothesis import given
from hypothesis import strategies as st

WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]))


def unquoted(quoted):
    """The rule of systemd.syntax(7) and of the shell for what is inside double quotes."""
    assert quoted[0] == quoted[-1] == '"'
    return re.sub(r"\\(.)", r"\1", quoted[1:-1])


@given(WORDS)
def test_systemd_word(word):
    quoted = quoting.systemd_word(word)
    assert unquoted(quoted).replace("%%", "%").replace("$$", "$") == word


@given(WORDS)
def test_systemd_environment(value):
    assert unquoted(quoting.systemd_environment(value)) == value


@given(WORDS)
def test_supervisor_reads_the_same_word_again_or_it_is_refused(word):
    try:
        quoted = quoting.supervisor_word(word)
    except ValueError:
        assert re.search(r"\s[;#]", word)
        return
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    parser.read_string(f"[program:x]\ncommand=x {quoted}\n")
    assert shlex.split(parser["program:x"]["command"].replace("%%", "%")) == ["x", word]


@pytest.mark.parametrize(
    "quote",
    [
        quoting.systemd_word,
        quoting.systemd_environment,
        quoting.supervisor_word,
        quoting.supervisor_environment,
    ],
)
@pytest.mark.parametrize("bad", ["two\nlines", "a\0b", "\x1b[1m"])
def test_control_characters_are_refused(quote, bad):
    with pytest.raises(ValueError, match="line break"):
        quote(bad)
