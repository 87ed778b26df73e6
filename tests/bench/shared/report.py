"""What a benchmark shows: progress on stderr, tables in Markdown, and its place in the README."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.e2e.stack import PROJECT
from training.demo.statistics import Figure

README = PROJECT / "README.md"
RESULTS = Path(__file__).resolve().parents[1] / "results"


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr; what it gives is called once a round."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [" | ".join(heads), " | ".join("---" for _ in heads), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def told(figure: Figure, digits: int = 2) -> str:
    """Value, then its 95 % interval."""
    return f"{figure.value:.{digits}f} ({figure.low:.{digits}f} to {figure.high:.{digits}f})"


def percent(figure: Figure, digits: int = 0) -> str:
    """The same of a share."""
    value, low, high = (f"{100 * one:.{digits}f}" for one in (figure.value, figure.low, figure.high))
    return f"{value} % ({low} to {high})"


def show(name: str, markdown: str, found: dict[str, Any], *, write: bool) -> None:
    """Print both; with `write`, also keep them: the table between its markers in the README, the rest as JSON."""
    print(markdown)
    print(json.dumps(found, indent=1))
    if not write:
        return
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    try:
        README.write_text(replaced(readme, name, markdown), encoding="utf-8")
    except ValueError as error:
        print(f"{README.name} stays as it is: {error}", file=sys.stderr)


def replaced(readme: str, name: str, markdown: str) -> str:
    """The text with `markdown` between its markers. Raises ValueError where it has none."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    head, found, rest = readme.partition(begin)
    _, ended, tail = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"it has no {begin} ... {end}")
    return f"{head}{begin}\n\n{markdown}\n\n{end}{tail}"
