"""`bestow log archive` and `bestow log export`."""

import uuid
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, cast

import typer
from redis.asyncio import Redis

from gateway.config import Config, load
from gateway.errors import BadRequest, BestowError, ConfigError
from gateway.feedback.reading import assessment
from gateway.feedback.settings import TrustConfig
from gateway.log import audit, streams
from gateway.log.archive.lock import ArchiverLock
from gateway.log.archive.opening import MISSING, archive_url, archives
from gateway.log.archive.retention import models_retention
from gateway.log.export import RowWriter, moment, open_writer, row
from gateway.log.query import Query
from gateway.log.records import Interaction
from gateway.log.source import (
    DEFAULT_CONFIGS,
    ArchiveOption,
    ConfigOption,
    RedisOption,
    ShardOption,
    Source,
    fail,
    run,
    source_of,
    whole_source_of,
)
from gateway.shared.progress import bar

_CHUNK = 500


def archive(
    everything: Annotated[bool, typer.Option("--all", help="Move all that is there, however young.")] = False,
    compact: Annotated[bool, typer.Option("--compact", help="Then merge the small files of each past day.")] = False,
    config: ConfigOption = None,
) -> None:
    """Move old records from Redis to the archive now, as gateways do by themselves (log.archive).

    Records beyond their retention (log.archive.retain_days, models.NAME.log.retain_days, and bestow tenants set
    --retain-days) are removed from both.

    \b
    Example:
      bestow log archive --config bestow.yaml
      bestow log archive --all          before Redis is moved or taken down
      bestow log archive --compact      few large files instead of many small ones
    """
    settings = _settings(config)
    if not settings.log.archive.enabled:
        fail("log.archive.enabled is false: there is no archive.")
    if not archives(settings.log.archive):
        fail(f"Nothing can be archived: {MISSING}.")
    source = source_of(config, None, None)
    run(source, lambda client: _archive(client, settings, everything, compact))


def export(
    to: Annotated[Path, typer.Option(metavar="FILE", help="What to write: FILE.jsonl or FILE.parquet.")],
    since: Annotated[str | None, typer.Option(metavar="TIME", help="From this day or time on (ISO 8601, UTC).")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before this day or time.")] = None,
    model: Annotated[str | None, typer.Option(help="Of this model only.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant only.")] = None,
    training: Annotated[
        str | None,
        typer.Option(
            metavar="SCOPE",
            help="Only what may train: the models of its tenant (tenant), or those that all share (shared).",
        ),
    ] = None,
    config: ConfigOption = None,
    redis: RedisOption = None,
    shard: ShardOption = None,
    archive: ArchiveOption = None,
) -> None:
    """Write answers with their conversation, scores and votes to a file, in Hugging Face's chat format.

    \b
    Redis and the archive are read as one; the audit log notes who did it. What may train what was said by the tenant's
    policy when it was logged (bestow tenants set --training), of votes too; without --training all is written, for
    analysis, and each row says its scope. Example:
      bestow log export --to answers.jsonl --since 2027-03-01 --model bestow-demo
      bestow log export --to train.parquet --tenant acme --training tenant
    """
    try:
        begin, end = moment(since) if since else None, moment(until) if until else None
        wanted = Query(since=begin, until=end, model=model, tenant=tenant, training=_scope(training))
    except ValueError as error:
        fail(f"--since and --until are a day or a time, such as 2027-03-01 or 2027-03-01T12:00: {error}.")
    except BadRequest as error:
        fail(f"{error.message}.")
    if to.suffix == ".parquet" and find_spec("pyarrow") is None:
        fail(f"Parquet cannot be written: {MISSING}.")
    source = whole_source_of(config, redis, shard, archive)
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


async def _archive(redis: Redis, settings: Config, everything: bool, compact: bool) -> None:
    from gateway.log.archive.archiver import keeping  # noqa: PLC0415  # pyarrow: 0.3 s
    from gateway.log.archive.rounds import run_round  # noqa: PLC0415

    archiving, shard = settings.log.archive, settings.log.shard
    lock = ArchiverLock(redis, shard, uuid.uuid4().hex)
    if not await lock.take():
        fail("Somebody is archiving at this moment; a gateway, most likely. Try again when it has finished.")
    async with keeping(lock):
        models = models_retention(settings)
        report = await run_round(redis, settings, lock, models, everything=everything, compact=compact)
    where = archive_url(archiving, settings.data_dir)
    print(f"Moved to {where}: {_counted(report.records)} ({report.parts} files, {report.bytes} bytes).")
    if report.retired:
        print(f"Removed, beyond their retention: {_counted(report.retired)}.")
    if compact:
        print(f"Merged {report.merged} files into {report.merged_into}.")
    if report.unreadable:
        fail(f"{report.unreadable} times a file of the archive could not be read, and is left as it is; see above.")


def _counted(records: dict[str, int]) -> str:
    return ", ".join(f"{count} of {stream}" for stream, count in records.items()) or "nothing"


async def _export(redis: Redis, source: Source, wanted: Query, writer: RowWriter) -> None:
    reader = streams.interactions(redis, source.shard, source.archive)
    total = await reader.length() + await reader.archived(wanted.day)
    trust = source.settings.feedback.trust if source.settings else TrustConfig()
    # Of all votes: who is to be believed shows in what they said at other times.
    assessed, _ = await assessment(redis, source.shard, source.archive, trust)
    written = without_answer = untrainable = 0
    with bar() as progress:
        task = progress.add_task("exporting", total=total)
        chunk: list[Interaction] = []

        async def flush() -> None:
            nonlocal written, without_answer, untrainable
            votes = await streams.votes_of_all(redis, source.shard, [one.id for one in chunk], source.archive)
            allowed = [[vote for vote in its if wanted.allows(vote)] for its in votes]
            rows = [found for one, its in zip(chunk, allowed, strict=True) if (found := row(one, its, assessed))]
            untrainable += sum(one["training"] == "none" for one in rows)
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
    await audit.note(
        redis, source.shard, audit.typed("export", target=wanted.described, tenant=wanted.tenant, count=written)
    )
    print(f"{written} answers; {without_answer} interactions had none to export (refused, failed, cancelled).")
    if untrainable:
        print(f"{untrainable} of the answers may train nobody's models (scope none); --training leaves them out.")


def _scope(given: str | None) -> Literal["tenant", "shared"] | None:
    if given not in (None, "tenant", "shared"):
        fail("--training is tenant or shared.")
    return cast("Literal['tenant', 'shared'] | None", given)


def _settings(config: Path | None) -> Config:
    path = config or next((path for path in DEFAULT_CONFIGS if path.exists()), None)
    try:
        if path is None:
            raise ConfigError("There is neither .bestow/run.yaml nor bestow.yaml here: name one with --config.")
        return load(path)
    except BestowError as error:
        fail(str(error))
