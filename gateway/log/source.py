"""Where the log is, as a command line or a configuration file says it, for all commands that read the log."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.config import ArchiveConfig, Config, load
from gateway.errors import BestowError, ConfigError
from gateway.log import redis_url
from gateway.log.archive.opening import MISSING, archive_of, archives
from gateway.log.archive.reader import Archive
from gateway.log.connection import RedisAddress, connect, redis_address, without_password
from scorers.tls import tls_problem

DEFAULT_CONFIGS = (Path(".bestow/run.yaml"), Path("bestow.yaml"))

Action = Callable[[Redis], Coroutine[Any, Any, None]]

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", help="Configuration file with Redis's address.  [default: .bestow/run.yaml, else bestow.yaml]"
    ),
]
RedisOption = Annotated[str | None, typer.Option("--redis", help="Redis's address, instead of a configuration file.")]
ShardOption = Annotated[str | None, typer.Option("--shard", help="The log's shard.  [default: the configuration's]")]
ArchiveOption = Annotated[
    str | None,
    typer.Option(
        "--archive", metavar="URL", help="The archive: a folder or an fsspec URL.  [default: the configuration's]"
    ),
]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the log is. archive: None where there is none, or where nothing says. settings: None without a file."""

    address: RedisAddress
    shard: str
    archive: Archive | None = None
    settings: Config | None = None

    @property
    def url(self) -> str:
        return self.address.url


def source_of(config: Path | None, redis: str | None, shard: str | None) -> Source:
    """`find_source`, where a failure is one sentence on stderr and exit code 1."""
    try:
        return find_source(config, redis, shard)
    except BestowError as error:
        fail(str(error))


def whole_source_of(config: Path | None, redis: str | None, shard: str | None, archive: str | None) -> Source:
    """The same for what is to find everything: archive is where older records are; says so where nobody knows."""
    source = source_of(config, redis, shard)
    if archive is not None:
        settings = ArchiveConfig(url=archive)
        if not archives(settings):
            fail(f"The archive cannot be read: {MISSING}.")
        return replace(source, archive=archive_of(settings, Path()))
    if source.settings is None:
        print(
            "Only what is in Redis is read: without a configuration file the archive is not known. Name it with "
            "--archive.",
            file=sys.stderr,
        )
    return source


def find_source(config: Path | None, redis: str | None, shard: str | None) -> Source:
    """Where the log is: an address given wins over a file given, that over the default files.

    Raises ConfigError.
    """
    path = config or next((path for path in DEFAULT_CONFIGS if path.exists()), None)
    if redis is not None:
        try:
            redis_url.parse(redis)
        except ValueError as error:
            raise ConfigError(f"{without_password(redis)!r} is not an address of Redis: {error}.") from None
        settings = load(path) if path and shard is None else None
        if settings is None:
            return Source(RedisAddress(redis), shard or "0")
        archive = archive_of(settings.log.archive, settings.data_dir)
        return Source(RedisAddress(redis), settings.log.shard, archive, settings)
    if path is None:
        raise ConfigError(
            "There is neither .bestow/run.yaml nor bestow.yaml here: name one with --config, or Redis with --redis."
        )
    settings = load(path)
    archive = archive_of(settings.log.archive, settings.data_dir)
    return Source(redis_address(settings.redis), shard or settings.log.shard, archive, settings)


def run(source: Source, action: Action) -> None:
    """Run with a Redis client; a failure is one sentence on stderr and exit code 1."""
    try:
        client = connect(source.address)
    except ValueError as error:
        fail(f"Redis's address {source.address.shown!r} cannot be used: {error}")
    try:
        asyncio.run(_with_client(client, action))
    except BestowError as error:
        fail(str(error))
    except OSError as error:
        fail(f"The archive cannot be read: {error}")
    except RedisError as error:
        why = tls_problem(error)
        said = f"is refused, since TLS fails: {why}" if why else f"does not answer: {' '.join(str(error).split())}"
        fail(f"Redis at {source.address.shown} {said}")
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


async def _with_client(client: Redis, action: Action) -> None:
    async with client:
        await action(client)


def fail(sentence: str) -> NoReturn:
    """Exit code 1."""
    print(sentence, file=sys.stderr, flush=True)
    raise typer.Exit(1)
