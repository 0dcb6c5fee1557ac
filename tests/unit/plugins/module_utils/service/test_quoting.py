"""Words as systemd, supervisor and the shell read them."""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess

import pytest
from ansible_collections.dsdeploy.llm.plugins.module_utils.service import quoting
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
def test_environment_value(value):
    assert unquoted(quoting.environment_value(value)) == value


def test_the_shell_reads_an_environment_value_as_it_is(tmp_path):
    value = """it's $HOME, 100% "quoted", `id` and a \\ ; # all of it"""
    (tmp_path / "env").write_text(f"X={quoting.environment_value(value)}\n")
    script = '. ./env; printf %s "$X"'
    assert subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True).stdout == value


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
    [quoting.systemd_word, quoting.environment_value, quoting.supervisor_word],
)
@pytest.mark.parametrize("bad", ["two\nlines", "a\0b", "\x1b[1m"])
def test_control_characters_are_refused(quote, bad):
    with pytest.raises(ValueError, match="line break"):
        quote(bad)
