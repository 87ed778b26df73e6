"""The bar of long work on a terminal: what it is, how far it is, how long it takes yet."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def bar(console: Console | None = None, *, transient: bool = False, disable: bool = False) -> Progress:
    """On stderr, where no console is named. transient: it goes when it is done. disable: it is not shown."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console or Console(stderr=True), transient=transient, disable=disable)
