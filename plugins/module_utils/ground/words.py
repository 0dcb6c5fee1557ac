# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words of messages that several rules say. Pure."""

from __future__ import annotations

from typing import Iterable, Optional


def nearest(word: object, known: Iterable[str], cutoff: float = 0.6) -> Optional[str]:
    """The known word that is most like `word`; None where none is.

    :param cutoff: least likeness, from 0 to 1 (difflib's ratio).
    """
    import difflib  # 10 ms, which only a wrong word costs

    near = difflib.get_close_matches(str(word), sorted(set(known)), 1, cutoff)
    return near[0] if near else None


def did_you_mean(word: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`; did you mean NEAREST?` for the end of a message; empty where no known word is like it."""
    near = nearest(word, known, cutoff)
    return "; did you mean %s?" % near if near else ""
