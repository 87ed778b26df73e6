"""`bestow train defend`: the defence before training, on all votes of the log; what it finds waits for an operator."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from redis.asyncio import Redis

from gateway.feedback import reviews
from gateway.feedback.reading import assessment
from gateway.feedback.review_page import summary, votes_table
from gateway.feedback.settings import TrustConfig
from gateway.feedback.trust.assess import NOTHING_FOUND, Assessed
from gateway.log import audit
from gateway.log.export import moment
from gateway.log.source import (
    ArchiveOption,
    ConfigOption,
    RedisOption,
    ShardOption,
    Source,
    run,
    whole_source_of,
)
from gateway.shared.command_line import JsonOption, print_json, print_table
from gateway.shared.progress import bar
from training.defence.settings import DefenceSettings
from training.defence.votes import VoteOnAnswer, standing
from training.errors import TrainingError

if TYPE_CHECKING:
    from training.defence.defend import Defended
    from training.defence.reference import Reference

# ruff: noqa: PLC0415  # torch and scipy: 3 s

_DAYS = 365

ReferenceOption = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="A reward model that no vote has taught: its folder, or NAME@N for its scores in the log. Without one "
        "only copies are looked for.",
    ),
]


def defend(
    reference: ReferenceOption = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Votes cast from this day or time on.  [default: a year ago]")
    ] = None,
    votes: Annotated[bool, typer.Option("--votes", help="A row for each vote, with its id.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show it: nothing is set aside.")] = False,
    as_lines: JsonOption = False,
    config: ConfigOption = None,
    redis: RedisOption = None,
    shard: ShardOption = None,
    archive: ArchiveOption = None,
) -> None:
    """Look for poisoning among all votes: who votes against a reference model, and phrases that few people push.

    \b
    What is found replaces what the last run found. It is set aside, shows up in `bestow feedback review`, and counts
    again after `bestow feedback release`. Example:
      bestow train defend --reference reward-models/curated@1 --dry-run
      bestow train defend --reference demo@1 --since 2027-03-01
    """
    source = whole_source_of(config, redis, shard, archive)
    try:
        begin = (
            (datetime.now().astimezone() - timedelta(days=_DAYS)).timestamp()
            if since is None
            else moment(since).timestamp()
        )
    except ValueError as error:
        raise TrainingError(f"--since is a day or a time, such as 2027-03-01 or 2027-03-01T12:00: {error}.") from error
    run(source, lambda client: _defend(client, source, reference, begin, votes, dry_run, as_lines))


async def _defend(
    redis: Redis, source: Source, named: str | None, since: float, each: bool, dry_run: bool, as_lines: bool
) -> None:
    from training.defence.defend import defend as defended_of
    from training.defence.reference import reference_of

    model, scorer = (None, None) if named is None else reference_of(named)
    trust = source.settings.feedback.trust if source.settings else TrustConfig()
    # What it found before must not hide from it what it finds now.
    found, decisions = await assessment(redis, source.shard, source.archive, trust, since, NOTHING_FOUND)
    defended = defended_of(_scored(list(standing(found, scorer)), model), DefenceSettings(), decisions)
    await _write_down(redis, source, defended, dry_run)
    if as_lines:
        print_json({"facts": msgspec.to_builtins(defended.facts), "findings": msgspec.to_builtins(defended.findings)})
        return
    aside = [
        Assessed(found[vote].ballot, 0.0, True, one.reasons) for vote, one in defended.found.items() if one.quarantined
    ]
    if aside:
        print_table(votes_table(aside) if each else summary(aside))
        print()
    print(_said(defended, named, dry_run))


def _scored(votes: list[VoteOnAnswer], model: "Reference | None") -> Iterator[VoteOnAnswer]:
    from training.defence.reference import rewarded

    with bar(transient=True) as shown:
        yield from shown.track(rewarded(votes, model), total=len(votes), description="what the reference says of votes")


async def _write_down(redis: Redis, source: Source, defended: "Defended", dry_run: bool) -> None:
    count = defended.facts.set_aside
    if dry_run:
        await audit.note(redis, source.shard, audit.typed("read", target="votes before training", count=count))
        return
    await audit.note(
        redis, source.shard, audit.typed("review", target="votes before training", count=count, detail="set aside")
    )
    await reviews.find(redis, source.shard, defended.findings)


def _said(defended: "Defended", named: str | None, dry_run: bool) -> str:
    facts = defended.facts
    lines = [
        f"{facts.set_aside} of {facts.votes} votes {'would be' if dry_run else 'are'} set aside: "
        f"{facts.banned} people vote against the reference, {facts.pushers} push a phrase, {facts.copiers} copy."
    ]
    if facts.null is None:
        lines.append(
            f"The reference says something of {facts.scored} votes, which is too little to tell by."
            if named
            else "Without --reference only copies are looked for."
        )
    if facts.set_aside and not dry_run:
        lines.append("Let them count again with `bestow feedback release ABOUT --reason WHY`.")
    return "\n".join(lines)
