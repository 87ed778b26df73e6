"""What `bestow up` shows while it works: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

HEARTBEAT_S = 15.0


@dataclass(frozen=True)
class Row:
    """One part as it is shown."""

    title: str
    stage: str
    hint: str
    ready: bool = False
    since: float = 0.0


class Progress:
    """Rows of parts and lines of text. Use it as a context manager; `say` works before and after too."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._begun = clock()
        self._rows: dict[str, Row] = {}
        self._spoken = self._begun
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(console=console, get_renderable=self._table, refresh_per_second=4, transient=True)

    def __enter__(self) -> "Progress":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def seconds(self) -> float:
        return self._clock() - self._begun

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(Text(f"[{self.seconds():4.0f} s] {text}"), soft_wrap=True)
        self._spoken = self._clock()

    def show(self, name: str, title: str, stage: str, hint: str = "") -> None:
        """What a part is doing now."""
        row = self._rows.get(name)
        if row and row.stage == stage and not row.ready:
            return
        self._rows[name] = Row(title, stage, hint, since=row.since if row else self._clock())
        if not self._live:
            self.say(_line(self._rows[name]))

    def ready(self, name: str) -> None:
        """A part has become ready."""
        row = self._rows[name]
        self._rows[name] = replace(row, ready=True)
        self.say(f"{row.title}: ready after {self._clock() - row.since:.0f} s")

    def heartbeat(self) -> None:
        """Where nothing moves on the screen: every now and then, what is still waited for."""
        if self._live or self._clock() - self._spoken < HEARTBEAT_S:
            return
        for row in self._rows.values():
            if not row.ready:
                self.say(f"{_line(row)} (for {self._clock() - row.since:.0f} s now)")

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for row in self._rows.values():
            if not row.ready:
                seconds = f"{self._clock() - row.since:3.0f} s"
                table.add_row(Spinner("dots"), Text(row.title), Text(f"{row.stage} …"), Text(seconds), Text(row.hint))
        return table


def _line(row: Row) -> str:
    return f"{row.title}: {row.stage} … {row.hint}".rstrip(" …")
