"""`bestow log search` and `bestow log audit`."""

import json
from datetime import datetime
from typing import Annotated, Any, get_args

import msgspec
import typer
from redis.asyncio import Redis
from rich.console import Console

from gateway.config import Config
from gateway.errors import BadRequest, BestowError
from gateway.log import audit, search, streams
from gateway.log.archive import audit_files
from gateway.log.audit import AuditEntry
from gateway.log.export import moment
from gateway.log.printer import JsonOption, Printer
from gateway.log.query import Query, Said
from gateway.log.records import Outcome
from gateway.log.source import (
    ArchiveOption,
    ConfigOption,
    RedisOption,
    ShardOption,
    Source,
    fail,
    run,
    whole_source_of,
)
from gateway.log.tail import clean, clock
from gateway.shared.progress import bar
from gateway.signing import signer_of

MOST_FOUND = 10_000

SinceOption = Annotated[str | None, typer.Option(metavar="TIME", help="From this day or time on (ISO 8601, UTC).")]
UntilOption = Annotated[str | None, typer.Option(metavar="TIME", help="Before this day or time.")]


def search_command(
    text: Annotated[str | None, typer.Argument(help="Words, all of which must occur, in whatever case.")] = None,
    regex: Annotated[str | None, typer.Option(help="A regular expression (RE2), in whatever case.")] = None,
    model: Annotated[str | None, typer.Option(help="Of this model.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant.")] = None,
    user: Annotated[str | None, typer.Option(help="Of this user, as the application names them.")] = None,
    user_hash: Annotated[str | None, typer.Option(help="Of this user, as the log names them.")] = None,
    profile: Annotated[str | None, typer.Option(help="By this profile: name or name@N.")] = None,
    policy: Annotated[str | None, typer.Option(help="By this policy: name or name@N.")] = None,
    outcome: Annotated[str | None, typer.Option(help=f"One of {', '.join(get_args(Outcome))}.")] = None,
    degraded: Annotated[
        bool | None, typer.Option("--degraded/--no-degraded", help="Only, or none, that was degraded.")
    ] = None,
    flagged: Annotated[str | None, typer.Option(metavar="CATEGORY", help="What a guard flagged in it.")] = None,
    feedback: Annotated[
        str | None, typer.Option(help="What people said: up or down (thumbs), flag, or none where nobody did.")
    ] = None,
    min_reward: Annotated[float | None, typer.Option(help="Least reward of the delivered answer.")] = None,
    max_reward: Annotated[float | None, typer.Option(help="Most.")] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST_FOUND, help="How many to print; more: bestow log export.")] = 20,
    as_lines: JsonOption = False,
    config: ConfigOption = None,
    redis: RedisOption = None,
    shard: ShardOption = None,
    archive: ArchiveOption = None,
) -> None:
    """Find interactions by what was asked, answered or said of them, newest first, in Redis and the archive.

    \b
    All that is given must hold. What is searched for is noted in the audit log. Example:
      bestow log search refund --feedback down --since 2027-03-01
      bestow log search --regex 'order #\\d{6}' --model bestow-demo --max-reward 0
      bestow log search --user alice@example.org --json
    """
    printer = Printer(as_lines)
    source = whole_source_of(config, redis, shard, archive)
    try:
        query = Query(
            text=text,
            regex=regex,
            model=model,
            tenant=tenant,
            user=hashed(source.settings, user, user_hash),
            profile=profile,
            policy=policy,
            outcome=_one_of("outcome", outcome, get_args(Outcome)),
            degraded=degraded,
            flagged=flagged,
            feedback=_one_of("feedback", feedback, get_args(Said)),
            min_reward=min_reward,
            max_reward=max_reward,
            since=_moment("since", since),
            until=_moment("until", until),
        )
    except BadRequest as error:
        param = error.param or ""
        option = "TEXT" if param == "text" else f"--{param.replace('_', '-')}"
        fail(f"{option}{error.message.removeprefix(param)}.")
    run(source, lambda client: _search(client, source, query, limit, printer))


def audit_command(
    since: SinceOption = None,
    as_lines: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    config: ConfigOption = None,
    redis: RedisOption = None,
    shard: ShardOption = None,
    archive: ArchiveOption = None,
) -> None:
    """Print who read, exported or erased what, oldest first. Nothing takes an entry out of it.

    \b
    People stand in it as the log names them, by a hash. Example:
      bestow log audit --since 2027-03-01
      bestow log audit --json | jq 'select(.action == "export")'
    """
    source = whole_source_of(config, redis, shard, archive)
    begin = _moment("since", since)
    run(source, lambda client: _audit(client, source, begin, as_lines))


def hashed(settings: Config | None, user: str | None, user_hash: str | None) -> str | None:
    """The user as the log names them; None where nobody was named. Exit code 1 where the secret is not known."""
    if user is not None and user_hash is not None:
        fail("--user and --user-hash name the same thing: give one of them.")
    if user is None:
        return user_hash
    if settings is None:
        fail("--user needs a configuration file: with its secret the log hashes users. Or give --user-hash.")
    try:
        found = signer_of(settings).hash_user(user)
    except BestowError as error:
        fail(str(error))
    return found if found else fail("--user is empty.")


async def _search(redis: Redis, source: Source, query: Query, limit: int, printer: Printer) -> None:
    console = Console(stderr=True)
    with bar(console, transient=True, disable=not console.is_terminal) as progress:
        total = await _total(redis, source, query) if console.is_terminal else None
        task = progress.add_task("searching", total=total)
        found = await search.first(
            redis, source.shard, source.archive, query, limit, lambda looked: progress.advance(task, looked)
        )
    entry = audit.typed("search", target=query.described, tenant=query.tenant, count=len(found))
    await audit.note(redis, source.shard, entry)
    for one in found:
        printer.interaction(one.record, one.votes)
    if not found:
        fail("Nothing in the log is like that.")


async def _total(redis: Redis, source: Source, query: Query) -> int:
    reader = streams.interactions(redis, source.shard, source.archive)
    return await reader.length() + await reader.archived(query.day)


async def _audit(redis: Redis, source: Source, since: datetime | None, as_lines: bool) -> None:
    held = [data async for _, data in audit.entries(redis, source.shard)]
    archive = source.archive
    copied = await archive.in_thread(archive.audited) if archive else []
    begin = since.timestamp() if since else 0.0
    shown = [entry for entry in audit_files.merged(copied, held) if entry.at >= begin]
    for entry in shown:
        print(_json(entry) if as_lines else _line(entry))
    if not shown:
        fail("The audit log is empty." if since is None else "The audit log has nothing from then on.")


def _line(entry: AuditEntry) -> str:
    count = "" if entry.count is None else f"{entry.count} records"
    whose = f"tenant {entry.tenant}" if entry.tenant else ""
    said = (clock(entry.at), entry.actor, entry.action, whose, count, entry.target, entry.detail)
    return "  ".join(clean(one) for one in said if one)


def _json(entry: AuditEntry) -> str:
    return json.dumps(msgspec.to_builtins(entry))


def _moment(name: str, text: str | None) -> datetime | None:
    try:
        return moment(text) if text else None
    except ValueError as error:
        fail(f"--{name} is a day or a time, such as 2027-03-01 or 2027-03-01T12:00: {error}.")


def _one_of(name: str, given: str | None, allowed: tuple[str, ...]) -> Any:
    if given is not None and given not in allowed:
        fail(f"--{name} is one of {', '.join(allowed)}.")
    return given
