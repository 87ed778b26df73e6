"""What the calibrate commands share: options, progress, and how they run and fail."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import aiohttp
import typer
from redis.exceptions import RedisError

from gateway.config import Config, load
from gateway.errors import BestowError, ConfigError, StartError
from gateway.launch.parts import filled_in
from gateway.log.source import DEFAULT_CONFIGS
from gateway.shared.progress import bar

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Configuration file.  (default: .bestow/run.yaml, else bestow.yaml)"),
]
KeyOption = Annotated[str | None, typer.Option("--api-key", envvar="BESTOW_API_KEY", help="An API key.")]


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr, a step further with each call."""
    with bar() as shown:
        task = shown.add_task(what, total=total)
        yield lambda: shown.advance(task)


def run(config: Path | None, work: Callable[[Config, aiohttp.ClientSession], Coroutine[Any, Any, None]]) -> None:
    """Run with every address filled in; a failure is one sentence on stderr and exit code 1."""

    async def with_session() -> None:
        path = config or next((path for path in DEFAULT_CONFIGS if path.exists()), None)
        if path is None:
            raise ConfigError("There is neither .bestow/run.yaml nor bestow.yaml here: name a file with --config.")
        settings = load(path)
        # A file without addresses is of a stack that `bestow up` started.
        full = filled_in(settings, settings.data_dir.expanduser().absolute())
        async with aiohttp.ClientSession() as session:
            await work(full, session)

    try:
        asyncio.run(with_session())
    except BestowError as error:
        fail(error)
    except RedisError as error:
        fail(StartError(f"Redis does not answer: {' '.join(str(error).split())}"))


def fail(error: BestowError) -> NoReturn:
    """Exit code 1."""
    typer.echo(str(error), err=True)
    raise typer.Exit(1)
