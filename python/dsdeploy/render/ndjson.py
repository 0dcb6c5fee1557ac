"""`--json`: every event as one line on stdout; see dsdeploy.events for their shape."""

from __future__ import annotations

import json
import sys

from dsdeploy.events import Event
from dsdeploy.tracker import Tracker


class JsonRenderer:
    def event(self, event: Event) -> None:
        print(json.dumps(event.as_json(), ensure_ascii=False), flush=True)

    def tick(self, tracker: Tracker, now: float) -> None:
        pass

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        pass
