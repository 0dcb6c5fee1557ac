# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One word of a command line or environment, as systemd and supervisor read it."""

from __future__ import annotations

import re
import shlex


def _one_line(word: str, where: str) -> str:
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", word):
        raise ValueError("%s cannot hold a line break or another control character" % where)
    return word


def _double_quoted(word: str, special: str) -> str:
    return '"%s"' % re.sub("([%s])" % re.escape(special), r"\\\1", word)


def systemd_word(word: str) -> str:
    """A word of ExecStart= or ReadWritePaths=: specifiers and variables stay what they look like.

    Source: systemd.service(5) "COMMAND LINES", systemd.syntax(7) "QUOTING".

    :raises ValueError: on control characters.
    """
    return _double_quoted(_one_line(word, "a unit file"), '"\\').replace("%", "%%").replace("$", "$$")


def systemd_text(text: str) -> str:
    """A whole value that is not read by words, as Description= or WorkingDirectory=: no specifier, no continued line.

    :raises ValueError: on control characters.
    """
    return re.sub(r"\\+\Z", "", _one_line(text, "a unit file")).replace("%", "%%")


def systemd_assignment(name: str, value: str) -> str:
    """A variable in Environment=, where `$` is a letter like others (systemd.exec(5)).

    :raises ValueError: on control characters.
    """
    return _double_quoted(_one_line("%s=%s" % (name, value), "a unit file"), '"\\').replace("%", "%%")


def environment_value(value: str) -> str:
    """A value in a file of NAME=value lines that systemd (EnvironmentFile=) and the shell (`.`) read alike.

    Source: systemd.exec(5), which follows the shell's double quotes.

    :raises ValueError: on control characters.
    """
    return _double_quoted(_one_line(value, "an environment file"), '"\\$`')


def supervisor_word(word: str) -> str:
    """A word of command= in a [program:x] section: shell-like quoting, `%` doubled.

    :raises ValueError: on control characters and what supervisor would read as a comment.
    """
    # Its parser takes " ;" and " #" for the start of a comment, whatever quotes stand around them.
    if re.search(r"\s[;#]", word):
        raise ValueError("supervisor's configuration cannot hold a space followed by ';' or '#'")
    return shlex.quote(_one_line(word, "supervisor's configuration")).replace("%", "%%")
