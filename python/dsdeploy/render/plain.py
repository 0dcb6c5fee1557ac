"""One line per stage, and of a long task's progress: for pipes, CI logs and `-v`."""

from __future__ import annotations

import sys

from dsdeploy import events
from dsdeploy.render import text
from dsdeploy.tracker import Tracker, plain_text

# A long task's progress is worth a line every so many seconds.
PROGRESS_EVERY = 10.0
# A stage is told when it is over; one that lasts this long (s) without a word meanwhile is told as running.
SILENCE = 10.0
# Verbs that change hosts: their way is told.
CHANGING = ("up", "prepare", "down", "rollback", "model prune", "key revoke")


class PlainRenderer:
    def __init__(self, reasoning: bool = False, verbose: int = 0) -> None:
        self._reasoning = reasoning
        self._verbose = verbose
        self._logs: list[events.ServiceLog] = []
        self._progress_told: dict[tuple[str, str], float] = {}
        self._stage = ""  # that runs
        self._silent_since = 0.0
        self._now = 0.0
        self._verb = ""

    def event(self, event: events.Event) -> None:
        match event:
            case events.Start():
                self._verb = event.verb
                what = f"dsdeploy {event.verb}{' --check' if event.check else ''}"
                if event.verb in CHANGING:
                    self.note(f"{what}: inventory {', '.join(map(text.shortened_paths, event.inventory))}")
            case events.Stage(status="started"):
                self._stage, self._silent_since = event.stage, self._now
            case events.Stage():
                self._stage = ""
                if self._tells_the_way():
                    self.note(text.stage(event))
            case events.Task(status="changed"):
                if self._verbose:
                    self.note(f"  {event.host}: changed: {event.msg or event.task}")
            case events.Task():
                if self._tells_the_way():
                    self.note(f"  {event.host}: {event.status}: {event.task}: {plain_text(event.msg)}")
            case events.Progress():
                key = (event.host, event.what)
                finished = event.total is not None and event.done >= event.total
                if finished or self._now - self._progress_told.get(key, -PROGRESS_EVERY) >= PROGRESS_EVERY:
                    self._progress_told[key] = self._silent_since = self._now
                    self.note(f"  {event.host}: {plain_text(text.progress(event))}")
            case events.Warn():
                self.note(f"  {event.host}: warning: {event.text}" if event.host else f"  warning: {event.text}")
            case events.Diff() | events.Log():
                self.note(event.text.rstrip("\n"))
            case events.Answer():
                if self._verb == "ask":
                    self.note(text.answer_details(event))
            case events.ServiceLog():
                self._logs.append(event)
            case events.Summary():
                self._summary(event)

    def _tells_the_way(self) -> bool:
        """The verbs that only read are over in a moment: their result says it all."""
        return self._verb in CHANGING or bool(self._verbose)

    def _summary(self, summary: events.Summary) -> None:
        try:
            for line in text.result(summary, self._reasoning, self._logs, bool(self._verbose)):
                print(plain_text(line), flush=True)
        finally:  # also where nobody reads stdout
            for failure in summary.failures:
                for line in text.failure(failure):
                    self.note(line)
            if summary.exit_code == 130:
                for line in text.interrupted(summary):
                    self.note(line)

    def tick(self, tracker: Tracker, now: float) -> None:
        self._now = now
        if self._stage and now - self._silent_since >= SILENCE and self._tells_the_way():
            self.note(f"{self._stage} ...")
            self._stage = ""

    def note(self, text: str) -> None:
        print(plain_text(text), file=sys.stderr, flush=True)

    def close(self) -> None:
        pass
