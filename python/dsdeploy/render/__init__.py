"""What the user sees: bars on a terminal, plain lines elsewhere, one JSON object per line with `--json`.

What was asked for (summary, table, answer, log) goes to stdout, everything about the way there to stderr.
"""

from __future__ import annotations

import os
import sys
from typing import Protocol

from dsdeploy.events import Event
from dsdeploy.tracker import Tracker


class Renderer(Protocol):
    def event(self, event: Event) -> None:
        """One event, in order; the last is the Summary."""

    def tick(self, tracker: Tracker, now: float) -> None:
        """Called some times a second while the run lasts."""

    def note(self, text: str) -> None:
        """A word of the command itself."""

    def close(self) -> None:
        """Gives the terminal back; also after an error."""


def choose(json: bool, verbose: int, reasoning: bool) -> Renderer:
    if json:
        from dsdeploy.render.ndjson import JsonRenderer

        return JsonRenderer()
    # With -v Ansible's own lines scroll by: no place for a live view.
    if sys.stderr.isatty() and not verbose and os.environ.get("TERM", "dumb") != "dumb":
        from dsdeploy.render.live import LiveRenderer

        return LiveRenderer(reasoning)
    from dsdeploy.render.plain import PlainRenderer

    return PlainRenderer(reasoning, verbose)
