"""`bestow log`: look at what was logged, archive it, export it. Thin shells around `streams`, `tail` and `archive`."""

import asyncio
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Annotated

import typer
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.ids import interaction_id
from gateway.log import archive_commands, audit, search_commands, session_commands, streams
from gateway.log.keys import interactions_key
from gateway.log.printer import JsonOption, Printer
from gateway.log.records import Feedback, Interaction
from gateway.log.source import ConfigOption, RedisOption, ShardOption, Source, fail, run, source_of
from gateway.log.tail import clean, comparisons_line, feedback_text
from gateway.tasks import being_cancelled

STATS_SAMPLE = 1000
RETRY_S = 0.5

log_app = typer.Typer(
    help="Look at what was logged: prompts, candidates, scores, verdicts and feedback.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@log_app.command()
def tail(
    count: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many of the last interactions.")] = 10,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what arrives, until Ctrl-C.")] = False,
    as_lines: JsonOption = False,
    config: ConfigOption = None,
    redis: RedisOption = None,
    shard: ShardOption = None,
) -> None:
    """Print the last interactions, each with its candidates and the feedback on it.

    \b
    The chosen candidate is marked with >. Example:
      bestow log tail -n 3 --follow
      bestow log tail --json | jq '.interaction.candidates[].reward'
    """
    printer = Printer(as_lines)
    source = source_of(config, redis, shard)
    run(source, lambda client: _tail(client, source, count, follow, printer))


@log_app.command()
def get(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="An answer's id: chatcmpl-..., cmpl-... or resp_...")],
    as_lines: JsonOption = False,
    config: ConfigOption = None,
    redis: RedisOption = None,
    shard: ShardOption = None,
) -> None:
    """Print one interaction by its answer's id.

    \b
    Example:
      bestow log get chatcmpl-0198c0de-0000-7000-8000-000000000000
    """
    printer = Printer(as_lines)
    source = source_of(config, redis, shard)
    run(source, lambda client: _get(client, source, identifier, printer))


@log_app.command()
def stats(config: ConfigOption = None, redis: RedisOption = None, shard: ShardOption = None) -> None:
    """Count what is in the log, and sum up the latest interactions.

    \b
    Example:
      bestow log stats --redis redis://127.0.0.1:8379
    """
    source = source_of(config, redis, shard)
    run(source, lambda client: _stats(client, source, Printer(False)))


log_app.command("search")(search_commands.search_command)
log_app.command("session")(session_commands.session_command)
log_app.command("audit")(search_commands.audit_command)
log_app.command()(archive_commands.archive)
log_app.command()(archive_commands.export)


async def _tail(redis: Redis, source: Source, count: int, follow: bool, printer: Printer) -> None:
    shard, archive = source.shard, source.archive
    interactions, feedback = streams.interactions(redis, shard, archive), streams.feedback(redis, shard, archive)
    # The positions come before the records: what arrives in between is found again and de-duplicated, not missed.
    positions = (await interactions.newest_entry(), await feedback.newest_entry())
    shown = [logged.record for logged in await interactions.last(count)]
    if not shown and not follow and count:
        fail(f"Nothing has been logged yet in {interactions_key(shard)}.")
    votes = await streams.votes_of_all(redis, shard, [one.id for one in shown], archive) if shown else []
    detail = "and all that came after, until it was ended" if follow else ""
    await audit.note(redis, shard, audit.typed("read", target=f"the last {count}", count=len(shown), detail=detail))
    for interaction, its_votes in zip(shown, votes, strict=True):
        printer.interaction(interaction, its_votes)
    if follow:
        follower = streams.Follower(redis, shard, interactions=interactions, feedback=feedback, after=positions)
        printed = {vote.id for its_votes in votes for vote in its_votes}
        await _follow(redis, shard, follower, printer, printed)


async def _follow(redis: Redis, shard: str, follower: streams.Follower, printer: Printer, printed: set[str]) -> None:
    away = False
    while not being_cancelled():
        try:
            arrived = await follower.next()
            fresh = [record for record in arrived if isinstance(record, Interaction)]
            votes = await streams.votes_of_all(redis, shard, [record.id for record in fresh]) if fresh else []
        except RedisError as error:
            if not away:
                print(f"Redis went away ({error}); waiting for it.", file=sys.stderr, flush=True)
            away = True
            await asyncio.sleep(RETRY_S)
            continue
        away = False
        for interaction, its_votes in zip(fresh, votes, strict=True):
            printer.interaction(interaction, its_votes)
            printed.update(vote.id for vote in its_votes)
        for record in arrived:
            if isinstance(record, Feedback):
                if record.id not in printed:
                    printer.late_feedback(record)
                printed.discard(record.id)


async def _get(redis: Redis, source: Source, identifier: str, printer: Printer) -> None:
    logged_as = interaction_id(identifier)
    if logged_as is None:
        fail(f"{clean(identifier)!r} is not the id of an answer; it looks like chatcmpl-0198c0de-....")
    logged = await streams.interactions(redis, source.shard, source.archive).find(logged_as)
    if logged is not None:
        votes = await streams.votes_of(redis, source.shard, logged_as, source.archive)
        tenant = logged.record.tenant
        await audit.note(redis, source.shard, audit.typed("read", target=logged_as, tenant=tenant, count=1))
        printer.interaction(logged.record, votes)
        return
    fail(f"There is no interaction {identifier} in the log.")


async def _stats(redis: Redis, source: Source, printer: Printer) -> None:
    shard, archive = source.shard, source.archive
    interactions, feedback = streams.interactions(redis, shard, archive), streams.feedback(redis, shard, archive)
    entries, feedback_entries = await interactions.length(), await feedback.length()
    archived, feedback_archived = await interactions.archived(), await feedback.archived()
    if not entries + feedback_entries + archived + feedback_archived:
        fail(f"Nothing has been logged yet in {interactions_key(shard)}.")
    latest = [logged.record for logged in await interactions.last(STATS_SAMPLE)]
    given = [logged.record for logged in await feedback.last(STATS_SAMPLE)]
    await audit.note(redis, shard, audit.typed("stats", count=len(latest) + len(given)))
    printer.line(f"interactions  {entries} entries in {interactions_key(shard)}, {archived} in the archive")
    printer.line(f"feedback      {feedback_entries} entries, {feedback_archived} in the archive")
    printer.line(f"of the last {len(latest)} interactions and {len(given)} records of feedback:")
    printer.line(f"  outcomes    {_tally(interaction.outcome for interaction in latest)}")
    printer.line(f"  degraded    {_tally(interaction.degraded for interaction in latest if interaction.degraded)}")
    printer.line(f"  policies    {_tally(interaction.policy for interaction in latest)}")
    printer.line(f"  candidates  {sum(len(interaction.candidates) for interaction in latest)}")
    printer.line(f"  feedback    {_tally(_short(vote) for vote in given if not vote.retracted)}")
    if line := comparisons_line(latest, given):
        printer.line(f"  comparisons {line}")
    passed_over = interactions.bad + feedback.bad
    printer.line(f"  duplicates  {interactions.duplicates + feedback.duplicates}, unreadable {passed_over}")


def _short(vote: Feedback) -> str:
    return feedback_text(Feedback("", "", 0.0, vote.kind, vote.value)).plain if vote.kind == "thumbs" else vote.kind


def _tally(values: Iterable[str]) -> str:
    counted = Counter(clean(value) for value in values)
    return ", ".join(f"{value} {count}" for value, count in counted.most_common(12)) or "none"
