"""`--json`: every event as one line on stdout; see dsdeploy.events for their shape."""

from __future__ import annotations

import sys

from dsdeploy.events import Event
from dsdeploy.tracker import Tracker, json_line, plain_text


class JsonRenderer:
    def event(self, event: Event) -> None:
        print(json_line(event.as_json()), flush=True)

    def tick(self, tracker: Tracker, now: float) -> None:
        pass

    def note(self, text: str) -> None:
        print(plain_text(text), file=sys.stderr, flush=True)

    def close(self) -> None:
        pass
