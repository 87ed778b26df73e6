"""`bestow export`: a person's data, in a file to hand to them."""

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, TextIO

import msgspec
import typer
from redis.asyncio import Redis
from rich.console import Console

from gateway.access.caller import DEFAULT_TENANT
from gateway.log import audit, personal, streams
from gateway.log.erase.orders import subject_of
from gateway.log.frames import Kind
from gateway.log.records import (
    Feedback,
    Interaction,
    Record,
    ShadowScores,
    decode_feedback,
    decode_interaction,
    decode_shadow,
    plain,
)
from gateway.log.search_commands import hashed
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
from gateway.log.streams import StreamReader
from gateway.log.unshipped import in_journals
from gateway.shared.progress import bar

export_app = typer.Typer(add_completion=False, rich_markup_mode=None)

_DECODERS: dict[Kind, Callable[[bytes, int], Record]] = {
    Kind.INTERACTION: decode_interaction,
    Kind.FEEDBACK: decode_feedback,
    Kind.SHADOW: decode_shadow,
}


@export_app.command()
def export(
    to: Annotated[Path, typer.Option(metavar="FILE", help="What to write: FILE.jsonl, readable by you alone.")],
    user: Annotated[str | None, typer.Option(help="The person, as the application names them.")] = None,
    user_hash: Annotated[str | None, typer.Option(help="The person, as the log names them.")] = None,
    tenant: Annotated[str, typer.Option(help="Whose user it is: two tenants may use one name.")] = DEFAULT_TENANT,
    config: ConfigOption = None,
    redis: RedisOption = None,
    shard: ShardOption = None,
    archive: ArchiveOption = None,
) -> None:
    """Write all that is stored of a person to a file, to be handed to them.

    \b
    Redis, the archive and this machine's journals are read as one: what they asked, every answer that was sampled for
    them with its scores, and their feedback. The file begins with an explanation of its fields and is there whole or
    not at all; the audit log notes who made it. Example:
      bestow export --user alice@example.org --to alice.jsonl
      bestow export --user 4711 --tenant acme --to 4711.jsonl
    """
    if to.suffix != ".jsonl":
        fail("--to must end in .jsonl.")
    source = whole_source_of(config, redis, shard, archive)
    person = hashed(source.settings, user, user_hash)
    if person is None:
        fail("Name the person with --user or --user-hash.")
    unfinished = to.with_name(f".{uuid.uuid4().hex}.jsonl")
    try:
        descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        fail(f"{to} cannot be written: {error}")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            run(source, lambda client: _export(client, source, tenant, person, file))
        unfinished.replace(to)
    finally:
        unfinished.unlink(missing_ok=True)
    print(f"It is in {to}.")


class Person:
    """Writes what is a person's, each record once."""

    def __init__(self, tenant: str, user: str, file: TextIO) -> None:
        self._tenant = tenant
        self._user = user
        self._file = file
        self._written: set[str] = set()
        self._own: set[str] = set()
        self.counts = {"interactions": 0, "feedback": 0, "shadow_scores": 0}

    def offer(self, record: Record) -> None:
        """Interactions first: shadow scores are theirs where the interaction is."""
        if record.id in self._written or not self._is_theirs(record):
            return
        self._written.add(record.id)
        if isinstance(record, Interaction):
            self._own.add(record.id)
        self.counts[_COUNTED[type(record)]] += 1
        self.write(personal.line(record))

    def write(self, line: dict[str, object]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def _is_theirs(self, record: Record) -> bool:
        if record.tenant != self._tenant:
            return False
        return record.interaction in self._own if isinstance(record, ShadowScores) else record.user == self._user


_COUNTED: dict[type, str] = {Interaction: "interactions", Feedback: "feedback", ShadowScores: "shadow_scores"}


async def _export(redis: Redis, source: Source, tenant: str, user: str, file: TextIO) -> None:
    person = Person(tenant, user, file)
    person.write(personal.header(tenant, time.time(), _left_out(source)))
    archive = source.archive
    readers: list[tuple[Kind, StreamReader[Interaction] | StreamReader[Feedback] | StreamReader[ShadowScores]]] = [
        (Kind.INTERACTION, streams.interactions(redis, source.shard, archive)),
        (Kind.FEEDBACK, streams.feedback(redis, source.shard, archive)),
        (Kind.SHADOW, streams.shadow(redis, source.shard, archive)),
    ]
    console = Console(stderr=True)
    with bar(console, transient=True, disable=not console.is_terminal) as progress:
        total = sum([await one.length() + await one.archived() for _, one in readers]) if console.is_terminal else None
        task = progress.add_task("reading", total=total)
        for kind, reader in readers:
            # Before Redis and the archive: a record comes to the next before it leaves the last.
            for record in _in_journals(source, kind):
                person.offer(record)
            async for logged in reader.after():
                person.offer(logged.record)
                progress.advance(task)
    person.write(personal.end(person.counts))
    count = sum(person.counts.values())
    entry = audit.typed("export_user", target=f"subject {subject_of(tenant, user)}", tenant=tenant, count=count)
    await audit.note(redis, source.shard, entry)
    if not count:
        fail(f"Nothing is stored of this user of the tenant {tenant}.")
    told = person.counts
    print(
        f"{told['interactions']} interactions, {told['feedback']} statements of feedback, "
        f"{told['shadow_scores']} shadow scores."
    )


def _in_journals(source: Source, kind: Kind) -> Iterator[Record]:
    """What this machine's journals hold; what nobody can read there is passed over, as on its way to the archive."""
    if source.settings is None:
        return
    try:
        for entry in in_journals(source.settings.data_dir / "journal"):
            if entry.kind is kind:
                with suppress(ValueError, msgspec.DecodeError):
                    yield _DECODERS[kind](plain(entry.payload), entry.version)
    except OSError as error:
        fail(f"This machine's journals cannot be read: {error}")


def _left_out(source: Source) -> list[str]:
    found = ["What gateways on other machines had not yet sent to Redis."]
    if source.settings is None:
        found.append("What gateways on this machine had not yet sent to Redis.")
    if source.archive is None:
        found.append("The archive, if there is one.")
    return found
