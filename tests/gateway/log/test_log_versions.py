"""Records of every version ever written, through every reader; and that today's version stays what it is."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from gateway.config import parse
from gateway.log import streams
from gateway.log.archive import parquet
from gateway.log.archive.parts import Row, day_of_id, part_name
from gateway.log.archive.reader import Archive
from gateway.log.archive.redaction import redaction
from gateway.log.archive.store import LocalStore
from gateway.log.frames import FILE_HEADER, Entry, Kind, frame
from gateway.log.journal import Journal
from gateway.log.keys import feedback_key, interactions_key, shadow_key, votes_key
from gateway.log.migrations import UnknownVersion, migrated
from gateway.log.ownership import OwnerLock
from gateway.log.records import (
    SCHEMA_VERSION,
    Feedback,
    Record,
    ShadowScores,
    as_vote,
    decode_feedback,
    decode_interaction,
    decode_shadow,
    decode_vote,
    encode,
)
from gateway.log.sink import RedisSink
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.golden_records import (
    ANSWER,
    FOLDER,
    breaking,
    everything,
    feedback,
    file_of,
    interaction,
    schema,
    schema_text,
    shadow,
)
from tests.gateway.log.log_samples import SHARD
from tests.gateway.log.running import stream_of

VERSIONS = range(1, SCHEMA_VERSION + 1)
FILES = [(version, name) for version in VERSIONS for name in everything()]
OLD = 1
AGAIN = "python -m tests.gateway.log.golden_records"


def stored(version: int, name: str) -> bytes:
    return file_of(version, name).read_bytes().removesuffix(b"\n")


def decoded(version: int, name: str) -> Record:
    data = stored(version, name)
    if name == "interaction":
        return decode_interaction(data, version)
    return decode_shadow(data, version) if name == "shadow" else decode_feedback(data, version)


def as_of_1(record: Record) -> Record:
    """The record without what has come since version 1."""
    if isinstance(record, Feedback):
        return msgspec.structs.replace(record, shown=[], key=None, source=None)
    if isinstance(record, ShadowScores):
        return record
    candidates = [msgspec.structs.replace(one, logprobs=None) for one in record.candidates]
    new = dict.fromkeys(("comparison", "session", "previous", "release"))
    return msgspec.structs.replace(record, candidates=candidates, **new)


def as_it_is(record: Record) -> Record:
    return record


EXPECTED: dict[int, Callable[[Record], Record]] = {1: as_of_1, 2: as_it_is}


@pytest.mark.parametrize(("version", "name"), FILES)
def test_a_record_of_every_version_reads_as_one_of_today(version: int, name: str) -> None:
    assert decoded(version, name) == EXPECTED[version](everything()[name])


@pytest.mark.parametrize("name", everything())
def test_what_is_written_today_is_what_was_written_when_the_version_was_made(name: str) -> None:
    written = encode(everything()[name])
    assert written == stored(SCHEMA_VERSION, name), (
        f"A record of version {SCHEMA_VERSION} would be written differently. Where only fields with defaults were "
        f"added, run: {AGAIN}. Where one was renamed, removed or means something else, raise SCHEMA_VERSION first and "
        "write the migration (gateway/log/migrations.py says how)."
    )


def test_the_schema_is_that_of_its_version() -> None:
    kept = file_of(SCHEMA_VERSION, "schema")
    broken = breaking(msgspec.json.decode(kept.read_bytes()), schema())
    assert not broken, (
        f"Readers of version {SCHEMA_VERSION} would misread this: {broken}. Raise SCHEMA_VERSION, write the migration "
        f"(gateway/log/migrations.py says how), and run: {AGAIN}"
    )
    assert kept.read_text() == schema_text(), f"Fields have come, none has gone: run {AGAIN}"


def test_the_golden_records_have_every_field_filled_in() -> None:
    empty = [
        f"{type(struct).__name__}.{field.name}"
        for record in everything().values()
        for struct in structs_in(record)
        for field in msgspec.structs.fields(type(struct))
        if not field.required and getattr(struct, field.name) == field_default(field)
    ]
    assert not empty, f"fill these in in golden_records.py, then run {AGAIN}"


def structs_in(value: Any) -> list[msgspec.Struct]:
    if isinstance(value, msgspec.Struct):
        inner = [getattr(value, field) for field in value.__struct_fields__]
        return [value, *(found for one in inner for found in structs_in(one))]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [found for one in parts for found in structs_in(one)]


def field_default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default_factory() if field.default is msgspec.NODEFAULT else field.default


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda fields: fields.pop("seed"), "Interaction.seed is gone"),
        (lambda fields: fields["n"].update(default=1), "Interaction.n is another"),
        (lambda fields: fields["status"].update(type="string"), "Interaction.status is another"),
        (lambda fields: fields["outcome"]["enum"].pop(), "Interaction.outcome is another"),
        (lambda fields: fields.update(new={"type": "string", "default": ""}), None),
        (lambda fields: fields["outcome"]["enum"].append("escalated"), None),
    ],
)
def test_what_a_reader_would_not_survive_is_told_from_what_it_would(change: Any, found: str | None) -> None:
    new = schema()
    change(new["Interaction"]["properties"])
    [*said] = breaking(schema(), new)
    assert [one.split(":")[0] for one in said] == ([] if found is None else [found])


def test_a_field_that_must_be_there_is_a_new_version() -> None:
    new = schema()
    new["Feedback"]["required"].append("source")
    assert breaking(schema(), new) == ["Feedback.source is required"]


def test_steps_are_taken_one_after_the_other_from_the_version_of_the_record() -> None:
    steps = {
        1: lambda kind, plain: plain | {"path": [*plain["path"], f"{kind} 1"]},
        2: lambda kind, plain: plain | {"path": [*plain["path"], f"{kind} 2"]},
        3: lambda kind, plain: plain | {"path": [*plain["path"], f"{kind} 3"]},
    }
    assert migrated("Feedback", b'{"path":[]}', 2, 4, steps) == {"path": ["Feedback 2", "Feedback 3"]}
    assert migrated("Feedback", b'{"path":[]}', 1, 4, steps)["path"] == ["Feedback 1", "Feedback 2", "Feedback 3"]


def test_what_is_no_record_of_its_version_is_a_record_that_cannot_be_read() -> None:
    steps = {1: lambda kind, plain: plain["missing"]}
    with pytest.raises(msgspec.ValidationError, match="no record of version 1"):
        migrated("Feedback", b"{}", 1, 2, steps)
    with pytest.raises(msgspec.DecodeError):
        migrated("Feedback", b"[]", 1, 2, steps)


@pytest.mark.parametrize("version", [0, -1, SCHEMA_VERSION + 1])
def test_a_version_that_is_not_known_is_refused_whatever_it_looks_like(version: int) -> None:
    with pytest.raises(UnknownVersion, match=f"schema version {version}"):
        decode_interaction(encode(interaction()), version)


def test_a_vote_tells_its_version_and_one_without_is_the_first() -> None:
    assert decode_vote(as_vote(encode(feedback("rating")), SCHEMA_VERSION)) == feedback("rating")
    assert decode_vote(stored(OLD, "feedback-flag")) == as_of_1(feedback("flag"))
    with pytest.raises(UnknownVersion):
        decode_vote(as_vote(encode(feedback("rating")), SCHEMA_VERSION + 1))


def left_behind(folder: Path, said: int, version: int = OLD) -> None:
    """By a gateway that was killed. said: which version it was; version: of the records that it wrote."""
    owner = "0198c0de-0000-7000-8000-000000000001"
    lock = OwnerLock.create(folder, owner)
    frames = [frame(kind, stored(version, name), 100.0) for kind, name in KINDS]
    header = FILE_HEADER[:-1] + bytes([said])
    (folder / f"{owner}.00000000.seg").write_bytes(header + b"".join(frames))
    lock.release(remove=False)


KINDS = [(Kind.INTERACTION, "interaction"), (Kind.FEEDBACK, "feedback-rating"), (Kind.SHADOW, "shadow")]


def opened(folder: Path) -> Journal:
    return Journal(folder, segment_bytes=100_000, keep_bytes=100_000, clock=lambda: 100.0)


async def test_an_old_gateways_segment_is_shipped_as_of_its_version(
    tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    left_behind(tmp_path, OLD)
    journal = opened(tmp_path)
    [owner] = journal.orphans()
    assert journal.adopt(owner).records == len(KINDS)
    batch = journal.read(max_records=10, max_bytes=100_000)
    assert batch is not None
    await RedisSink(redis, SHARD).send(batch.entries)
    for key, name in ((interactions_key(SHARD), "interaction"), (shadow_key(SHARD), "shadow")):
        [fields] = await stream_of(redis, key)
        assert fields == {b"v": b"1", b"d": stored(OLD, name)}
    found = [one.record async for one in streams.interactions(redis, SHARD).after()]
    assert found == [as_of_1(interaction())]
    assert [one.record async for one in streams.shadow(redis, SHARD).after()] == [shadow()]
    assert [one.record async for one in streams.feedback(redis, SHARD).after()] == [as_of_1(feedback("rating"))]
    assert await streams.latest_votes(redis, SHARD, ANSWER) == [as_of_1(feedback("rating"))]
    journal.close()


async def test_old_and_new_records_of_one_batch_keep_their_versions(redis_server: RedisServer, redis: Redis) -> None:
    entries = [
        Entry(Kind.FEEDBACK, stored(OLD, "feedback-rating"), version=OLD),
        Entry(Kind.FEEDBACK, encode(feedback("flag"))),
    ]
    await RedisSink(redis, SHARD).send(entries)
    versions = [fields[b"v"] for fields in await stream_of(redis, feedback_key(SHARD))]
    assert versions == [b"1", str(SCHEMA_VERSION).encode()]


def test_a_newer_gateways_segment_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    left_behind(tmp_path, SCHEMA_VERSION + 1)
    [before] = [path.read_bytes() for path in tmp_path.glob("*.seg")]
    journal = opened(tmp_path)
    [owner] = journal.orphans()
    assert journal.adopt(owner).segments == 0
    journal.close()
    assert [path.read_bytes() for path in tmp_path.glob("*.seg")] == [before]
    assert "is not a journal this version reads" in caplog.text


async def test_votes_that_an_earlier_version_left_in_redis_still_count(redis_server: RedisServer, redis: Redis) -> None:
    vote = as_of_1(feedback("rating"))
    assert isinstance(vote, Feedback)
    standing = msgspec.structs.replace(vote, retracted=False)
    data = stored(OLD, "feedback-rating").replace(b'"retracted":true,', b"")
    await redis.hset(votes_key(SHARD, ANSWER), vote.vote_key, data)
    assert await streams.votes_of(redis, SHARD, ANSWER) == [standing]
    later = msgspec.structs.replace(feedback("rating"), id="0198c0df-0000-7000-8000-0000000000ff", retracted=False)
    await RedisSink(redis, SHARD).send([Entry(Kind.FEEDBACK, encode(later))])
    assert await streams.votes_of(redis, SHARD, ANSWER) == [later]


async def test_newer_records_are_passed_over_and_counted_and_warned_about_once(
    redis_server: RedisServer, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        await redis.xadd(interactions_key(SHARD), {"v": SCHEMA_VERSION + 1, "d": encode(interaction())})
    await redis.xadd(interactions_key(SHARD), {"v": OLD, "d": stored(OLD, "interaction")})
    reader = streams.interactions(redis, SHARD)
    with caplog.at_level(logging.WARNING):
        assert [one.record for one in await reader.last(5)] == [as_of_1(interaction())]
    assert reader.bad == 2
    assert caplog.text.count(f"it has schema version {SCHEMA_VERSION + 1}, and this program reads 1 to") == 1


@pytest.mark.parametrize("version", VERSIONS)
async def test_archived_rows_of_every_version_are_read(
    version: int, tmp_path: Path, redis_server: RedisServer, redis: Redis
) -> None:
    store = LocalStore(tmp_path)
    for kind, name in KINDS:
        rows = [Row("1755600001000-0", version, stored(version, name))]
        store.write(part_name(kind, day_of_id(ANSWER), rows), parquet.encode(kind, rows))
    archive = Archive(lambda: store)
    expected = EXPECTED[version]
    found = await streams.interactions(redis, SHARD, archive).find(ANSWER)
    assert found is not None
    assert found.record == expected(interaction())
    assert [one.record for one in await streams.shadow(redis, SHARD, archive).last(5)] == [expected(shadow())]
    assert await streams.latest_votes(redis, SHARD, ANSWER, archive) == [expected(feedback("rating"))]


def test_the_golden_files_are_all_read() -> None:
    names = {file_of(version, name).name for version, name in FILES} | {f"v{SCHEMA_VERSION}-schema.json"}
    assert {path.name for path in FOLDER.iterdir()} == names


def test_what_is_redacted_before_the_archive_is_written_as_of_today_and_the_rest_stays_as_it_was() -> None:
    treat = redaction(parse({"log": {"redact_archive": ["email"]}}))
    data = stored(OLD, "interaction")
    old = Row("1-1", OLD, data)
    assert treat(Kind.INTERACTION, old) is old
    told = treat(Kind.INTERACTION, Row("1-1", OLD, data.replace(b"capital of France", b"address ada@example.com")))
    assert told.version == SCHEMA_VERSION
    assert decode_interaction(told.data).messages == [{"role": "user", "content": "What is the address [EMAIL]?"}]
