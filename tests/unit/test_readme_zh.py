# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""README.zh-CN.md keeps step with README.md: what is no prose is the same in both."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8").splitlines() for name in ("README.md", "README.zh-CN.md"))
COLUMN_OF_COMMENTS = re.compile(r"\s{2,}#.*")


def headings(lines):
    """The level of each heading, outside code."""
    inside, found = False, []
    for line in lines:
        inside ^= line.startswith("```")
        if not inside and line.startswith("#"):
            found.append(len(line) - len(line.lstrip("#")))
    return found


def commands(lines):
    """The lines of code blocks without their comments, and how each block begins."""
    inside, found = False, []
    for line in lines:
        fence = line.startswith("```")
        inside ^= fence
        if inside or fence:
            found.append(COLUMN_OF_COMMENTS.sub("", line))
    return found


def links(lines):
    """Where links lead, in any order; the English page itself is linked by the Chinese one alone."""
    return sorted(set(re.findall(r"\]\(([^)]+)\)", "\n".join(lines))) - {"README.md"})


def codes(lines):
    """The first cell of each row of the table of exit codes."""
    return re.findall(r"^\| (\d+) \|", "\n".join(lines), re.M)


def names(lines):
    """What stands in backquotes, outside code blocks: options, variables, files, commands."""
    text = re.sub(r"^```.*?^```", "", "\n".join(lines), flags=re.M | re.S)
    return sorted(set(re.findall(r"`([^`]+)`", text)))


def rows(lines):
    return sum(line.startswith("|") for line in lines)


@pytest.mark.parametrize("part", [headings, commands, links, codes, names, rows])
def test_both_have_the_same(part):
    assert part(CHINESE) == part(ENGLISH)


def test_what_is_compared_is_there():
    assert len(commands(ENGLISH)) > 30 and len(links(ENGLISH)) > 20 and len(codes(ENGLISH)) == 7
    assert len(names(ENGLISH)) > 40 and len(headings(ENGLISH)) > 8
