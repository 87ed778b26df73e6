"""`bestow log archive` and `bestow log export`."""

import time
import uuid
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from redis.asyncio import Redis
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gateway.config import Config, load
from gateway.errors import BestowError, ConfigError
from gateway.log import streams
from gateway.log.archive.lock import ArchiverLock
from gateway.log.archive.opening import MISSING, archive_url, archives, store_of
from gateway.log.archive.redaction import redaction
from gateway.log.export import RowWriter, Wanted, moment, open_writer, row
from gateway.log.records import Interaction
from gateway.log.source import DEFAULT_CONFIGS, ConfigOption, RedisOption, ShardOption, Source, fail, run, source_of

_CHUNK = 500


def archive(
    everything: Annotated[bool, typer.Option("--all", help="Move all that is there, however young.")] = False,
    config: ConfigOption = None,
) -> None:
    """Move old records from Redis to the archive now, as gateways do by themselves (log.archive).

    \b
    Example:
      bestow log archive --config bestow.yaml
      bestow log archive --all          before Redis is moved or taken down
    """
    settings = _settings(config)
    if not settings.log.archive.enabled:
        fail("log.archive.enabled is false: there is no archive.")
    if not archives(settings.log.archive):
        fail(f"Nothing can be archived: {MISSING}.")
    source = source_of(config, None, None)
    run(source, lambda client: _archive(client, settings, everything))


def export(
    to: Annotated[Path, typer.Option(metavar="FILE", help="What to write: FILE.jsonl or FILE.parquet.")],
    since: Annotated[str | None, typer.Option(metavar="TIME", help="From this day or time on (ISO 8601, UTC).")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before this day or time.")] = None,
    model: Annotated[str | None, typer.Option(help="Of this model only.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant only.")] = None,
    config: ConfigOption = None,
    redis: RedisOption = None,
    shard: ShardOption = None,
) -> None:
    """Write answers with their conversation, scores and votes to a file, in Hugging Face's chat format.

    \b
    Redis and the archive are read as one. Example:
      bestow log export --to answers.jsonl --since 2027-03-01 --model bestow-demo
      bestow log export --to answers.parquet
    """
    try:
        wanted = Wanted(moment(since) if since else None, moment(until) if until else None, model, tenant)
    except ValueError as error:
        fail(f"--since and --until are a day or a time, such as 2027-03-01 or 2027-03-01T12:00: {error}.")
    if to.suffix == ".parquet" and find_spec("pyarrow") is None:
        fail(f"Parquet cannot be written: {MISSING}.")
    source = source_of(config, redis, shard)
    unfinished = to.with_name(f".{uuid.uuid4().hex}{to.suffix}")
    try:
        writer = open_writer(unfinished)
    except (ValueError, OSError) as error:
        fail(
            f"{to} cannot be written: {error}" if isinstance(error, OSError) else "--to must end in .jsonl or .parquet."
        )
    try:
        unfinished.chmod(0o600)
        run(source, lambda client: _export(client, source, wanted, writer))
        writer.close()
        unfinished.replace(to)
    finally:
        unfinished.unlink(missing_ok=True)


async def _archive(redis: Redis, settings: Config, everything: bool) -> None:
    from gateway.log.archive.archiver import Archiver, keeping  # noqa: PLC0415  # pyarrow: 0.3 s

    archiving, shard = settings.log.archive, settings.log.shard
    store = store_of(archiving, settings.data_dir)
    treat = redaction(settings)
    lock = ArchiverLock(redis, shard, uuid.uuid4().hex)
    if not await lock.take():
        fail("Somebody is archiving at this moment; a gateway, most likely. Try again when it has finished.")
    async with keeping(lock):
        archiver = Archiver(redis, shard, store, archiving, lock, clock=time.time, treat=treat)
        report = await archiver.round(everything=everything)
    moved = ", ".join(f"{count} of {stream}" for stream, count in report.records.items()) or "nothing"
    where = archive_url(archiving, settings.data_dir)
    print(f"Moved to {where}: {moved} ({report.parts} files, {report.bytes} bytes).")


async def _export(redis: Redis, source: Source, wanted: Wanted, writer: RowWriter) -> None:
    reader = streams.interactions(redis, source.shard, source.archive)
    total = await reader.length() + await reader.archived(wanted.day)
    columns = (TextColumn("exporting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    written = without_answer = 0
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("exporting", total=total)
        chunk: list[Interaction] = []

        async def flush() -> None:
            nonlocal written, without_answer
            votes = await streams.votes_of_all(redis, source.shard, [one.id for one in chunk], source.archive)
            rows = [found for one, its in zip(chunk, votes, strict=True) if (found := row(one, its)) is not None]
            writer.write(rows)
            written, without_answer = written + len(rows), without_answer + len(chunk) - len(rows)
            chunk.clear()

        async for logged in reader.after(days=wanted.day):
            progress.advance(task)
            if wanted.takes(logged.record):
                chunk.append(logged.record)
            if len(chunk) >= _CHUNK:
                await flush()
        await flush()
        progress.update(task, completed=total)
    print(f"{written} answers; {without_answer} interactions had none to export (refused, failed, cancelled).")


def _settings(config: Path | None) -> Config:
    path = config or next((path for path in DEFAULT_CONFIGS if path.exists()), None)
    try:
        if path is None:
            raise ConfigError("There is neither .bestow/run.yaml nor bestow.yaml here: name one with --config.")
        return load(path)
    except BestowError as error:
        fail(str(error))
