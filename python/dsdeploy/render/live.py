"""The live view on a terminal: the stage that runs, a line per host with its task, a bar per long task; stages that are
over scroll above."""

from __future__ import annotations

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from dsdeploy import events
from dsdeploy.render import text
from dsdeploy.render.plain import PlainRenderer
from dsdeploy.tracker import Host, Tracker, one_line, plain_text

# Seconds between two drawings; events come in bursts.
REFRESH = 0.1
# Hosts with a line of their own; a view higher than the terminal cannot be drawn.
HOSTS_SHOWN = 12


class LiveRenderer(PlainRenderer):
    """The plain lines without those that the view itself shows, above the view."""

    def __init__(self, reasoning: bool = False) -> None:
        super().__init__(reasoning)
        self._console = Console(stderr=True, highlight=False)
        # Refreshed by tick() alone: no second thread reads what the tracker writes.
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._spinner = Spinner("dots")
        self._drawn = 0.0
        self._live.start()

    def event(self, event: events.Event) -> None:
        if isinstance(event, events.Summary):
            self.close()
        if not (isinstance(event, events.Progress) or (isinstance(event, events.Stage) and event.status == "started")):
            super().event(event)

    def tick(self, tracker: Tracker, now: float) -> None:
        self._now = now
        if now - self._drawn >= REFRESH:
            self._drawn = now
            self._live.update(self._view(tracker, now), refresh=True)

    def note(self, text: str) -> None:
        # Text, not markup: what a host says may hold brackets.
        self._console.print(Text(plain_text(text)), soft_wrap=True)

    def close(self) -> None:
        self._live.stop()

    def _view(self, tracker: Tracker, now: float) -> Group:
        running = [(name, host) for name, host in tracker.hosts.items() if host.running]
        stage, seconds = tracker.running_stage(now)
        head = Text.assemble(" ", (f"{stage:<{text.STAGE_WIDTH}}", "cyan"), f" {text.duration(seconds):>9}")
        if not tracker.hosts:
            head.append("  starting Ansible")
        self._spinner.update(text=head)
        table = Table.grid(padding=(0, 1))
        for name, host in running[:HOSTS_SHOWN]:
            table.add_row(*_row(name, host, now))
        if len(running) > HOSTS_SHOWN:
            table.add_row("", Text(f"and {len(running) - HOSTS_SHOWN} more hosts", style="dim"))
        bars = [_bar(host.progress) for _name, host in running if host.progress]
        return Group(self._spinner, table, *bars[:HOSTS_SHOWN])


def _row(name: str, host: Host, now: float) -> tuple[Text, Text, Text]:
    since = text.duration(now - host.since)
    return Text(f"  {one_line(name)}", style="bold"), Text(host.task), Text(since, style="dim")


def _bar(progress: events.Progress) -> Table:
    table = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=progress.total, completed=progress.done, width=30, pulse=progress.total is None)
    table.add_row(Text(f"  {one_line(progress.host)}"), bar, Text(text.progress(progress)))
    return table
