"""How the commands show a job that runs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.shared.progress import bar
from training.jobs.contract import Job
from training.jobs.progress import Step
from training.jobs.running import Running


def run_shown(running: Running, job: Job, what: str) -> None:
    """Does the job, with a bar of its steps on stderr. Raises TrainingError."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps, loss {task.fields[loss]}"),
        TimeElapsedColumn(),
        TextColumn("to go {task.fields[to_go]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(what, total=None, loss="...", to_go="...")

        def tell(step: Step) -> None:
            to_go = "..." if step.to_go is None else _time(step.to_go)
            shown.update(task, total=step.steps, completed=step.step, loss=f"{step.loss:.3f}", to_go=to_go)

        running.run(job, tell)


@contextmanager
def counting(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar that goes on by as much as it is told."""
    with bar() as shown:
        task = shown.add_task(what, total=total)
        yield lambda count: shown.advance(task, count)


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
