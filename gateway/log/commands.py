"""`bestow log`: look at what was logged. `tail`, `get` and `stats`; thin shells around `streams` and `tail`."""

import asyncio
import io
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from redis.asyncio import Redis
from redis.exceptions import RedisError
from rich.console import Console

from gateway.config import load
from gateway.errors import BestowError, ConfigError
from gateway.ids import interaction_id, unix_seconds
from gateway.log import streams
from gateway.log.connection import RedisAddress, connect, redis_address, without_password
from gateway.log.keys import interactions_key
from gateway.log.records import Feedback, Interaction
from gateway.log.tail import as_json, clean, feedback_text, interaction_text, late_feedback_json, late_feedback_text
from gateway.tasks import being_cancelled
from scorers.tls import tls_problem

DEFAULT_CONFIGS = (Path(".bestow/run.yaml"), Path("bestow.yaml"))
CLOCK_SKEW_S = 60.0
STATS_SAMPLE = 1000
RETRY_S = 0.5

Action = Callable[[Redis], Coroutine[Any, Any, None]]

log_app = typer.Typer(
    help="Look at what was logged: prompts, candidates, scores, verdicts and feedback.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", help="Configuration file with Redis's address.  [default: .bestow/run.yaml, else bestow.yaml]"
    ),
]
RedisOption = Annotated[str | None, typer.Option("--redis", help="Redis's address, instead of a configuration file.")]
ShardOption = Annotated[str | None, typer.Option("--shard", help="The log's shard.  [default: the configuration's]")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line: {interaction, feedback}.")]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the log is."""

    address: RedisAddress
    shard: str

    @property
    def url(self) -> str:
        return self.address.url


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
    source = _source(config, redis, shard)
    _run(source, lambda client: _tail(client, source.shard, count, follow, printer))


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
    source = _source(config, redis, shard)
    _run(source, lambda client: _get(client, source.shard, identifier, printer))


@log_app.command()
def stats(config: ConfigOption = None, redis: RedisOption = None, shard: ShardOption = None) -> None:
    """Count what is in the log, and sum up the latest interactions.

    \b
    Example:
      bestow log stats --redis redis://127.0.0.1:8379
    """
    source = _source(config, redis, shard)
    _run(source, lambda client: _stats(client, source.shard, Printer(False)))


class Printer:
    """Standard output: coloured on a terminal, plain in a pipe, lines never broken."""

    def __init__(self, as_lines: bool) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # A terminal without Unicode gets question marks, not an error.
        self._as_lines = as_lines
        self._console = Console(soft_wrap=True, markup=False, highlight=False, emoji=False)

    def interaction(self, interaction: Interaction, feedback: list[Feedback]) -> None:
        if self._as_lines:
            self.line(as_json(interaction, feedback))
        else:
            self._console.print(interaction_text(interaction, feedback))
            self._console.file.flush()

    def late_feedback(self, vote: Feedback) -> None:
        if self._as_lines:
            self.line(late_feedback_json(vote))
        else:
            self._console.print(late_feedback_text(vote))
            self._console.file.flush()

    def line(self, text: str) -> None:
        print(text, file=self._console.file, flush=True)


async def _tail(redis: Redis, shard: str, count: int, follow: bool, printer: Printer) -> None:
    interactions, feedback = streams.interactions(redis, shard), streams.feedback(redis, shard)
    # The positions come before the records: what arrives in between is found again and de-duplicated, not missed.
    positions = (await interactions.newest_entry(), await feedback.newest_entry())
    shown = [logged.record for logged in await interactions.last(count)]
    if not shown and not follow and count:
        _fail(f"Nothing has been logged yet in {interactions_key(shard)}.")
    votes = await streams.votes_of_all(redis, shard, [interaction.id for interaction in shown]) if shown else []
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


async def _get(redis: Redis, shard: str, identifier: str, printer: Printer) -> None:
    logged_as = interaction_id(identifier)
    if logged_as is None:
        _fail(f"{clean(identifier)!r} is not the id of an answer; it looks like chatcmpl-0198c0de-....")
    made = unix_seconds(identifier)
    # It cannot have been logged before it was made, save for the difference of two clocks.
    start = f"{max(0, int((made - CLOCK_SKEW_S) * 1000))}-0"
    async for logged in streams.interactions(redis, shard).after(start):
        if logged.record.id == logged_as:
            printer.interaction(logged.record, await streams.votes_of(redis, shard, logged_as))
            return
    _fail(f"There is no interaction {identifier} in the log.")


async def _stats(redis: Redis, shard: str, printer: Printer) -> None:
    interactions, feedback = streams.interactions(redis, shard), streams.feedback(redis, shard)
    entries, feedback_entries = await interactions.length(), await feedback.length()
    if not entries and not feedback_entries:
        _fail(f"Nothing has been logged yet in {interactions_key(shard)}.")
    latest = [logged.record for logged in await interactions.last(STATS_SAMPLE)]
    given = [logged.record for logged in await feedback.last(STATS_SAMPLE)]
    printer.line(f"interactions  {entries} entries in {interactions_key(shard)}")
    printer.line(f"feedback      {feedback_entries} entries")
    printer.line(f"of the last {len(latest)} interactions and {len(given)} records of feedback:")
    printer.line(f"  outcomes    {_tally(interaction.outcome for interaction in latest)}")
    printer.line(f"  degraded    {_tally(interaction.degraded for interaction in latest if interaction.degraded)}")
    printer.line(f"  policies    {_tally(interaction.policy for interaction in latest)}")
    printer.line(f"  candidates  {sum(len(interaction.candidates) for interaction in latest)}")
    printer.line(f"  feedback    {_tally(_short(vote) for vote in given if not vote.retracted)}")
    passed_over = interactions.bad + feedback.bad
    printer.line(f"  duplicates  {interactions.duplicates + feedback.duplicates}, unreadable {passed_over}")


def _short(vote: Feedback) -> str:
    return feedback_text(Feedback("", "", 0.0, vote.kind, vote.value)).plain if vote.kind == "thumbs" else vote.kind


def _tally(values: Iterable[str]) -> str:
    counted = Counter(clean(value) for value in values)
    return ", ".join(f"{value} {count}" for value, count in counted.most_common(12)) or "none"


def _source(config: Path | None, redis: str | None, shard: str | None) -> Source:
    try:
        return find_source(config, redis, shard)
    except BestowError as error:
        _fail(str(error))


def find_source(config: Path | None, redis: str | None, shard: str | None) -> Source:
    """Where the log is: an address given wins over a file given, that over the default files.

    Raises ConfigError.
    """
    path = config or next((path for path in DEFAULT_CONFIGS if path.exists()), None)
    if redis is not None:
        if not redis.startswith(("redis://", "rediss://", "unix://")):
            raise ConfigError(
                f"{without_password(redis)!r} is not an address of Redis, such as redis://127.0.0.1:8379."
            )
        settings = load(path) if path and shard is None else None
        return Source(RedisAddress(redis), shard or (settings.log.shard if settings else "0"))
    if path is None:
        raise ConfigError(
            "There is neither .bestow/run.yaml nor bestow.yaml here: name one with --config, or Redis with --redis."
        )
    settings = load(path)
    return Source(redis_address(settings.redis), shard or settings.log.shard)


def _run(source: Source, action: Action) -> None:
    """Run with a Redis client; a failure is one sentence on stderr and exit code 1."""
    try:
        client = connect(source.address)
    except ValueError as error:
        _fail(f"Redis's address {source.address.shown!r} cannot be used: {error}")
    try:
        asyncio.run(_with_client(client, action))
    except RedisError as error:
        why = tls_problem(error)
        said = f"is refused, since TLS fails: {why}" if why else f"does not answer: {' '.join(str(error).split())}"
        _fail(f"Redis at {source.address.shown} {said}")
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


async def _with_client(client: Redis, action: Action) -> None:
    async with client:
        await action(client)


def _fail(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr, flush=True)
    raise typer.Exit(1)
