# Copyright (c) 2026 The dsdeploy developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which engine a name means."""

from __future__ import annotations

import difflib
from typing import Any, Dict


class UnknownEngine(Exception):
    """`hint` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def resolve_engine(engines: Dict[str, Dict[str, Any]], name: str) -> Dict[str, Any]:
    """The engine's entry of the table `dsdeploy_engines`, with its `name` filled in.

    Hyphens and case do not matter: `llama-cpp`, `llama.cpp` and `LLAMA_CPP` mean `llama_cpp`.

    :raises UnknownEngine: no such engine.
    """
    known = {key.replace("_", ""): key for key in engines}
    plain = str(name).lower().replace("-", "").replace(".", "").replace("_", "")
    if plain in known:
        return dict(engines[known[plain]], name=known[plain])
    near = difflib.get_close_matches(plain, list(known), 1, 0.5)
    guess = "; did you mean %s?" % known[near[0]] if near else ""
    raise UnknownEngine(
        "there is no engine %s%s" % (name, guess), "Engines of this dsdeploy: %s." % ", ".join(sorted(engines))
    )
