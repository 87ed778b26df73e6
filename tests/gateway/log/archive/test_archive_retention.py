"""Records leave with the day on which they are too old, and all that was said of them."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from gateway.access import store as access
from gateway.access.changes import set_tenant
from gateway.config import Config, parse
from gateway.errors import ConfigError
from gateway.ids import new_uuid7
from gateway.log import streams
from gateway.log.archive.archiver import Report, keeping
from gateway.log.archive.listing import listed
from gateway.log.archive.lock import ArchiverLock
from gateway.log.archive.reader import Archive
from gateway.log.archive.retention import Retention, is_over, models_retention
from gateway.log.archive.rounds import run_round
from gateway.log.archive.store import open_store
from gateway.log.erase.ledger import Ledger
from gateway.log.erase.orders import Hold
from gateway.log.keys import STREAM_NAMES, holds_key, votes_key
from gateway.log.records import Interaction, Record, ScoreRecord, ShadowScores
from tests.gateway.log.archive.archiving import archive_in, made, send
from tests.gateway.log.log_samples import SHARD, thumb

DAY = 86_400.0
WHEN = datetime(2025, 3, 1, 12, tzinfo=UTC).timestamp()
SERVER = pytest.mark.usefixtures("redis_server")


def shadow(of: Interaction) -> ShadowScores:
    return ShadowScores(new_uuid7(), of.id, WHEN, "s@1", "p@1", None, {0: ScoreRecord(0.5)}, tenant=of.tenant)


def config(folder: Path, retain_days: int | None = None, url: str | None = None, **models: int) -> Config:
    policies = {"p": {"model": "m", "workers": [{"url": "http://127.0.0.1:1"}]}}
    named = {name: {"policy": "p", "log": {"retain_days": days}} for name, days in models.items()}
    profiles = {"default": {"reward": None, "safety": None}}
    log = {"archive": {"retain_days": retain_days, "url": url}}
    return parse({"data_dir": str(folder), "policies": policies, "profiles": profiles, "models": named, "log": log})


async def run(redis: Redis, settings: Config, now: float, compact: bool | None = False) -> Report:
    """A round that moves all there is."""
    lock = ArchiverLock(redis, SHARD, "one")
    assert await lock.take()
    async with keeping(lock):
        models = models_retention(settings)
        return await run_round(redis, settings, lock, models, everything=True, compact=compact, clock=lambda: now)


async def read(redis: Redis, folder: Path) -> dict[str, list[str]]:
    found = archive_in(folder)
    readers: dict[str, streams.StreamReader[Any]] = {
        "interactions": streams.interactions(redis, SHARD, found),
        "feedback": streams.feedback(redis, SHARD, found),
        "shadow": streams.shadow(redis, SHARD, found),
    }
    return {name: [logged.record.id async for logged in reader.after()] for name, reader in readers.items()}


@given(
    st.none() | st.integers(1, 60),
    st.dictionaries(st.sampled_from("ab"), st.integers(1, 60)),
    st.dictionaries(st.sampled_from("xy"), st.integers(1, 60)),
    st.sampled_from("abc"),
    st.sampled_from("xyz"),
    st.integers(0, 70),
)
def test_the_strictest_of_all_that_is_said_holds(
    overall: int | None, models: dict[str, int], tenants: dict[str, int], model: str, tenant: str, age: int
) -> None:
    retention = Retention(overall, models, tenants)
    said = [days for days in (overall, models.get(model), tenants.get(tenant)) if days is not None]
    days = retention.of(model, tenant)
    assert days == min(said, default=None)
    day, now = date(2025, 3, 1), WHEN - 43_200 + (age + 1) * DAY
    over = retention.over(day, now).of(model, tenant) is not None
    assert over == is_over(day, days, now) == (days is not None and age >= days)
    assert not over or retention.least is not None
    # Of what is said of nowhere's interaction, no model's word is stricter.
    unknown = retention.of_unknown(tenant)
    assert days is None or (unknown is not None and unknown <= days)


def test_a_day_is_over_when_its_last_moment_is_as_old() -> None:
    midnight = datetime(2025, 3, 2, tzinfo=UTC).timestamp()
    assert not is_over(date(2025, 3, 1), 30, midnight + 30 * DAY - 1)
    assert is_over(date(2025, 3, 1), 30, midnight + 30 * DAY)


@pytest.mark.parametrize("days", [0, -1, 40_000])
def test_the_configuration_says_days_within_bounds(days: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="retain_days"):
        config(tmp_path, days)


@SERVER
async def test_a_whole_day_goes_with_all_that_was_said_of_it_and_stays_archived(redis: Redis, tmp_path: Path) -> None:
    old, new = made(WHEN), made(WHEN + DAY)
    late = thumb(old.id, created=WHEN + 5 * DAY)
    await send(redis, old, new, thumb(old.id), shadow(old), vote := thumb(new.id), scores := shadow(new))
    settings = config(tmp_path, 7)
    assert (await run(redis, settings, WHEN + 2 * DAY)).retired == {}
    await send(redis, late)
    report = await run(redis, settings, WHEN + 8 * DAY)
    # The late vote went from Redis to nowhere; the others out of the archive.
    assert report.retired == {"interactions": 1, "feedback": 2, "shadow": 1}
    assert report.records == {}
    assert await read(redis, tmp_path) == {"interactions": [new.id], "feedback": [vote.id], "shadow": [scores.id]}
    assert await redis.exists(votes_key(SHARD, old.id)) == 0
    assert await streams.votes_of(redis, SHARD, old.id, archive_in(tmp_path)) == []
    assert (await run(redis, settings, WHEN + 8 * DAY)).retired == {}


@SERVER
@pytest.mark.parametrize("fsspec", [False, True])
async def test_a_model_and_a_tenant_may_say_less(redis: Redis, tmp_path: Path, fsspec: bool) -> None:
    url = f"memory://bestow-{new_uuid7()}/archive" if fsspec else str(tmp_path / "archive")
    settings, store = config(tmp_path, 30, url, brief=3), open_store(url)
    await access.change(redis, set_tenant("shy", None, None, log={"retain_days": 5}))
    long, brief = made(WHEN, model="demo"), made(WHEN, model="brief")
    shy = made(WHEN, model="demo", tenant="shy")
    everything: list[Record] = [long, brief, shy]
    for one in (long, brief, shy):
        everything += [thumb(one.id, tenant=one.tenant), shadow(one)]
    await send(redis, *everything)

    async def left(days: float) -> set[str]:
        await run(redis, settings, WHEN + days * DAY)
        parts = [part for kind in STREAM_NAMES for part in listed(store, kind)]
        found = Archive(lambda: store)
        rows = [row.data for kind in STREAM_NAMES for row in found.rows(kind)]
        names = {"long": long.id, "brief": brief.id, "shy": shy.id}
        counts = {name: sum(of.encode() in row for row in rows) for name, of in names.items()}
        assert set(counts.values()) <= {0, 3}
        assert parts or not any(counts.values())
        return {name for name, count in counts.items() if count}

    assert await left(3) == {"long", "brief", "shy"}
    assert await left(4) == {"long", "shy"}
    assert await left(6) == {"long"}
    assert await left(30) == {"long"}
    assert await left(31) == set()


@SERVER
async def test_what_is_under_a_legal_hold_stays_even_where_redis_forgot_the_hold(redis: Redis, tmp_path: Path) -> None:
    settings = config(tmp_path, 7)
    held, other = made(WHEN), made(WHEN)
    votes = [thumb(one.id) for one in (held, other)]
    await send(redis, held, other, *votes)
    await run(redis, settings, WHEN)
    ledger = Ledger(redis, settings.log, settings.data_dir)
    hold = Hold(new_uuid7(), "default", "me", WHEN, "a lawsuit", interaction=held.id)
    await ledger.hold(hold)
    await redis.delete(holds_key(SHARD))
    assert (await run(redis, settings, WHEN + 9 * DAY)).retired == {"interactions": 1, "feedback": 1}
    assert await read(redis, tmp_path) == {"interactions": [held.id], "feedback": [votes[0].id], "shadow": []}
    # Nor is what was said of it later dropped on its way.
    await send(redis, late := thumb(held.id, user="bob"))
    assert (await run(redis, settings, WHEN + 9 * DAY)).retired == {}
    assert await streams.votes_of(redis, SHARD, held.id, archive_in(tmp_path)) == [votes[0], late]
    await ledger.hold(msgspec.structs.replace(hold, removed_by="me", removed_at=WHEN + 10 * DAY))
    assert (await run(redis, settings, WHEN + 9 * DAY)).retired == {"interactions": 1, "feedback": 2}


@SERVER
async def test_holds_that_cannot_be_read_keep_everything_and_stop_nothing_else(
    redis: Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await send(redis, old := made(WHEN))
    (tmp_path / "archive/holds").mkdir(parents=True)
    (tmp_path / "archive/holds/one.json").write_text("{half")
    report = await run(redis, config(tmp_path, 7), WHEN + 30 * DAY)
    assert (report.records, report.retired, report.unreadable) == ({"interactions": 1}, {}, 1)
    assert "legal holds" in caplog.text
    assert (await read(redis, tmp_path))["interactions"] == [old.id]


@SERVER
async def test_votes_whose_interaction_comes_later_wait_for_it_and_those_of_none_go(
    redis: Redis, tmp_path: Path
) -> None:
    settings = config(tmp_path, None, brief=3)
    late, gone = made(WHEN), made(WHEN, model="brief")
    await send(redis, gone)
    assert (await run(redis, settings, WHEN + 9 * DAY, None)).retired == {"interactions": 1}
    # Moved before the next time that the archive is put in order: it may yet be of a model that is kept.
    await send(redis, early := thumb(late.id), orphan := thumb(gone.id))
    assert (await run(redis, settings, WHEN + 9 * DAY + 60, None)).retired == {}
    assert (await read(redis, tmp_path))["feedback"] == [early.id, orphan.id]
    await send(redis, late)
    assert (await run(redis, settings, WHEN + 9 * DAY + 4000, None)).retired == {"feedback": 1}
    assert await read(redis, tmp_path) == {"interactions": [late.id], "feedback": [early.id], "shadow": []}


@SERVER
async def test_a_part_that_was_looked_at_is_not_read_again_until_something_changes(
    redis: Redis, tmp_path: Path
) -> None:
    settings = config(tmp_path, None, brief=3)
    await send(redis, keep := made(WHEN), made(WHEN, model="brief"), thumb(keep.id))
    assert (await run(redis, settings, WHEN + 9 * DAY)).retired == {"interactions": 1}
    for path in (tmp_path / "archive").rglob("*.parquet"):
        path.write_bytes(b"damaged")
    assert (await run(redis, settings, WHEN + 9 * DAY)).unreadable == 0
    # Another rule, and it is looked at: what cannot be read stays, and is told of.
    report = await run(redis, config(tmp_path, None, brief=3, other=2), WHEN + 9 * DAY)
    assert (report.unreadable, report.retired) == (1, {})
    # A day that goes as a whole is not read at all.
    await run(redis, config(tmp_path, 7), WHEN + 9 * DAY)
    assert not list((tmp_path / "archive").rglob("*.parquet"))


@SERVER
async def test_a_damaged_part_holds_up_no_other_day(redis: Redis, tmp_path: Path) -> None:
    settings = config(tmp_path, None, brief=3)
    days = [[made(WHEN + day * DAY), made(WHEN + day * DAY, model="brief")] for day in range(3)]
    await send(redis, *(record for day in days for record in day))
    await run(redis, settings, WHEN)
    parts = sorted((tmp_path / "archive/kind=interactions").rglob("*.parquet"))
    parts[1].write_bytes(b"damaged")
    report = await run(redis, settings, WHEN + 20 * DAY)
    assert (report.retired, report.unreadable) == ({"interactions": 2}, 1)
    assert [path for path in parts if path.exists()] == [parts[1]]


@SERVER
async def test_killed_in_the_middle_of_a_day_the_interaction_leaves_last(redis: Redis, tmp_path: Path) -> None:
    settings = config(tmp_path, None, brief=3)
    await send(redis, one := made(WHEN, model="brief"), thumb(one.id), shadow(one), made(WHEN))
    await run(redis, settings, WHEN)
    # The interactions' part cannot be rewritten; what was said is gone by then.
    (part,) = (tmp_path / "archive/kind=interactions").rglob("*.parquet")
    whole = part.read_bytes()
    part.write_bytes(whole[:50])
    await run(redis, settings, WHEN + 9 * DAY)
    part.write_bytes(whole)
    assert len((await read(redis, tmp_path))["interactions"]) == 2
    assert (await run(redis, settings, WHEN + 9 * DAY)).unreadable == 0
    assert [len(found) for found in (await read(redis, tmp_path)).values()] == [1, 0, 0]
