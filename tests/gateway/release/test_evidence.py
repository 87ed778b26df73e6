"""What users did, read off the streams of a real Redis: nothing lost, nothing twice, whoever dies over it."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.config import parse
from gateway.ids import COMPLETION_PREFIX, new_uuid7, uuid7_at
from gateway.log.archive import parquet
from gateway.log.archive.parts import Row, day_of_id, part_name
from gateway.log.archive.reader import Archive
from gateway.log.archive.store import LocalStore
from gateway.log.frames import Kind
from gateway.log.keys import archived_key, stream_key
from gateway.log.records import SCHEMA_VERSION, Feedback, Interaction, ReleaseRecord, encode
from gateway.log.watermarks import watermark_field
from gateway.release.counting import Tally
from gateway.release.counts import Counts, Event
from gateway.release.evidence import AGAIN_WITHIN_S, LATE_S, EvidenceStore
from gateway.release.outcomes import Said, Served, said, served
from gateway.release.route import name_of
from gateway.release.routes import Releases
from gateway.release.state import Arm, Bundle, Canary, ModelRelease, ReleaseState
from gateway.shared.lock import LockLost
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.log_samples import interaction, thumb

BEGAN = 1_790_000_000.0
CANARY = Canary(
    bundle=Bundle(release=4, policy="p@4", served_as="p-v4"),
    control=Bundle(),
    salt="salt",
    phase="canary",
    began=BEGAN,
    stage=1,
    stage_began=BEGAN,
)
SHARDS = ("0", "1")


def answer(
    user: str | None, arm: Arm = "challenger", *, at: float = BEGAN, period: str = "1", **more: Any
) -> Interaction:
    identifier = COMPLETION_PREFIX + uuid7_at(at, random.Random(repr((user, arm, at, period))).randbytes(8))
    release = ReleaseRecord(4, arm=arm, stage=1, canary=name_of(CANARY), period=period, counted=True)
    return interaction(id=identifier, created=at, model="m", user=user, release=release, **more)


def vote(of: Interaction, value: bool = True, *, after: float = 5.0, user: str | None = "", **more: Any) -> Feedback:
    who = of.user if user == "" else user
    return thumb(of.id, value, user=who, created=of.created + after, **more)


async def log(redis: Redis, *records: Interaction | Feedback, shard: str = "0") -> list[str]:
    """Their entries."""
    entries = []
    for record in records:
        kind = Kind.INTERACTION if isinstance(record, Interaction) else Kind.FEEDBACK
        fields: Any = {"v": SCHEMA_VERSION, "d": encode(record)}
        entry: Any = await redis.xadd(stream_key(shard, kind), fields)
        entries.append(entry.decode())
    return entries


class Counting:
    """A gateway's store, as the leader has it."""

    def __init__(
        self, redis: Redis, folder: Path, *, archive: Archive | None = None, over: Any = None, **sizes: Any
    ) -> None:
        self.registry = CollectorRegistry()
        policies = {"p": {"model": "x", "workers": [{"url": "http://127.0.0.1:1"}]}}
        profiles = {"d": {"reward": None, "safety": None}}
        config = parse(
            {
                "data_dir": str(folder),
                "policies": policies,
                "profiles": profiles,
                "models": {"m": {"policy": "p", "profile": "d"}},
            }
        )
        self.releases = Releases(redis, config, {}, (), self.registry)
        self.store = EvidenceStore(over or redis, self.releases, archive, self.registry, **sizes)

    async def begin(self, canary: Canary = CANARY) -> "Counting":
        state = ReleaseState(models={"m": ModelRelease(canary=canary)})
        await self.releases.change(lambda held: replace(state, version=held.version, line=held.line))
        return self

    async def counts(self, stage: int = 1) -> Counts:
        return await self.store.counts("m", 4, stage)

    def gaps(self) -> float:
        name = "bestow_release_evidence_gaps_total"
        return sum(
            self.registry.get_sample_value(name, {"model": "m", "stream": s}) or 0 for s in ("interaction", "feedback")
        )


@pytest.fixture
async def counting(redis_server: RedisServer, redis: Redis, tmp_path: Path) -> Counting:
    return await Counting(redis, tmp_path).begin()


async def test_users_are_counted_once_and_their_first_thumb_stands(redis: Redis, counting: Counting) -> None:
    first, again = answer("ada"), answer("ada", at=BEGAN + 60, messages=[{"role": "user", "content": "More?"}])
    other = answer("bob", "control", at=BEGAN + 1)
    await log(redis, first, again, other, vote(first, False), vote(again, True), vote(first, True), vote(other, True))
    await counting.store.advance(1)
    found = await counting.counts()
    assert (found.challenger.users, found.challenger.interactions) == (1, 2)
    assert found.challenger.first == {"down": 1, "complaint": 1}
    assert (found.control.users, found.control.first) == (1, {"up": 1})


async def test_a_vote_counts_where_its_answer_was_and_for_whom_it_answered(redis: Redis, counting: Counting) -> None:
    earlier, now = answer("ada", period="0"), answer("bob", at=BEGAN + 1)
    foreign = answer("eve", at=BEGAN + 2)
    uncounted = replace(answer("dan", at=BEGAN + 3), release=ReleaseRecord(3, fallback=True))
    await log(redis, earlier, now, foreign, uncounted)
    await log(redis, vote(earlier), vote(now, user=None), vote(foreign, user="mallory"), vote(uncounted, False))
    await counting.store.advance(1)
    assert (await counting.counts(0)).challenger.first == {"up": 1}
    found = await counting.counts(1)
    assert (found.challenger.users, found.challenger.first) == (2, {"up": 1})


async def test_feedback_that_is_shipped_before_its_answer_waits_for_it(redis: Redis, counting: Counting) -> None:
    late = answer("ada")
    await log(redis, vote(late), shard="0")
    await counting.store.advance(1)
    assert await counting.counts() == Counts()
    await log(redis, late)
    await counting.store.advance(1)
    assert (await counting.counts()).challenger.first == {"up": 1}


async def test_the_same_question_again_within_an_hour_is_a_regeneration(redis: Redis, counting: Counting) -> None:
    async def regenerated(user: str, later: float, **more: Any) -> int:
        first = answer(user)
        await log(redis, first, first, answer(user, at=BEGAN + later, **more))
        await counting.store.advance(1)
        return (await counting.counts()).challenger.of("regenerated")

    assert await regenerated("ada", 0.001 + AGAIN_WITHIN_S) == 0  # A record that is shipped twice is no second one.
    assert await regenerated("bob", 60, messages=[{"role": "user", "content": "More?"}]) == 0
    assert await regenerated("eve", AGAIN_WITHIN_S - 1) == 1


async def test_all_shards_are_read_also_for_votes_on_anothers_answers(
    redis: Redis, counting: Counting, tmp_path: Path
) -> None:
    await redis.sadd("bestow:{release}:shards", *SHARDS)
    one = answer("ada")
    await log(redis, one, shard="1")
    await log(redis, vote(one), shard="0")
    await counting.store.advance(1)
    found = (await counting.counts()).challenger
    assert (found.users, found.first) == (1, {"up": 1})


async def test_what_was_logged_long_before_the_canary_is_not_read(
    redis: Redis, tmp_path: Path, counting: Counting
) -> None:
    await log(redis, answer("ada"))
    newest: Any = await redis.xrevrange(stream_key("0", Kind.INTERACTION), count=1)
    after = int(newest[0][0].split(b"-")[0]) / 1000 + 120
    await counting.begin(replace(CANARY, began=after))
    await counting.store.advance(1)
    assert await counting.counts() == Counts()


async def test_an_earlier_leader_counts_nothing_once_a_later_one_has(
    redis: Redis, counting: Counting, tmp_path: Path
) -> None:
    await log(redis, answer("ada"))
    later = await Counting(redis, tmp_path / "b").begin()
    await later.store.advance(2)
    await log(redis, answer("bob"))
    with pytest.raises(LockLost):
        await counting.store.advance(1)
    assert (await counting.counts()).challenger.users == 1
    await later.store.advance(2)
    assert (await counting.counts()).challenger.users == 2


async def test_a_canary_of_the_same_release_begins_anew(redis: Redis, counting: Counting) -> None:
    await log(redis, answer("ada"))
    await counting.store.advance(1)
    await counting.begin(replace(CANARY, salt="another"))
    await counting.store.advance(1)
    assert await counting.counts() == Counts()


async def test_what_follows_the_promotion_is_counted_apart(redis: Redis, counting: Counting) -> None:
    await log(redis, answer("ada"), answer("bob", period="watch"))
    await counting.store.advance(1)
    assert (await counting.counts()).challenger.users == 1
    await counting.begin(replace(CANARY, phase="watch"))
    assert (await counting.counts()).challenger.users == 1
    assert (await counting.counts()) == (await counting.store.counts("m", 4, 1))


async def test_what_the_archiver_was_quicker_with_is_read_from_the_archive(
    redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    first, second = answer("ada"), answer("bob")
    entries = await log(redis, first, second)
    store = LocalStore(tmp_path / "archive")
    rows = [Row(entries[0], SCHEMA_VERSION, encode(first))]
    store.write(part_name(Kind.INTERACTION, day_of_id(first.id), rows), parquet.encode(Kind.INTERACTION, rows))
    await redis.xdel(stream_key("0", Kind.INTERACTION), entries[0])
    field: Any = {watermark_field("run", Kind.INTERACTION): entries[0]}
    await redis.hset(archived_key("0"), mapping=field)
    blind = await Counting(redis, tmp_path / "a").begin()
    await blind.store.advance(1)
    assert (await blind.counts()).challenger.users == 1 and blind.gaps() == 1
    seeing = await Counting(redis, tmp_path / "b", archive=Archive(lambda: store)).begin(replace(CANARY, salt="other"))
    anew = replace(first.release or ReleaseRecord(), canary=name_of(replace(CANARY, salt="other")))
    rows = [Row(entries[0], SCHEMA_VERSION, encode(replace(first, release=anew)))]
    (tmp_path / "other").mkdir()
    store = LocalStore(tmp_path / "other")
    store.write(part_name(Kind.INTERACTION, day_of_id(first.id), rows), parquet.encode(Kind.INTERACTION, rows))
    await seeing.store.advance(1)
    assert (await seeing.counts()).challenger.users == 1 and seeing.gaps() == 0


async def test_nobody_can_be_found_in_what_is_kept(redis: Redis, counting: Counting) -> None:
    record = answer("5f" * 16)
    await log(redis, record, vote(record))
    await counting.store.advance(1)
    keys = [key async for key in redis.scan_iter("bestow:{release-m}:*")]
    assert keys
    kept = b"".join([*keys, *[repr(await redis.hgetall(key)).encode() for key in keys]])
    assert b"5f" * 16 not in kept and record.id.encode() not in kept and CANARY.salt.encode() not in kept
    for key in keys:
        assert 0 < await redis.ttl(key) <= 90 * 86_400


class Dying:
    """A Redis that breaks off at times, before or after what a script does."""

    def __init__(self, redis: Redis, chance: random.Random) -> None:
        self._redis = redis
        self._chance = chance

    def __getattr__(self, name: str) -> Any:
        return getattr(self._redis, name)

    async def eval(self, *arguments: Any) -> Any:
        if self._chance.random() < 0.2:
            raise RedisError("killed before it")
        reply: Any = await self._redis.eval(*arguments)
        if self._chance.random() < 0.2:
            raise RedisError("killed after it")
        return reply


class Reference:
    """The same by a dictionary and E's tally: what the store must agree with."""

    def __init__(self) -> None:
        self.tallies: dict[str, Tally] = {}
        self._seen: dict[str, Served] = {}
        self._waiting: dict[str, list[Said]] = {}
        self._asked: dict[tuple[str, int], tuple[float, str]] = {}

    def _apply(self, period: str, event: Event) -> None:
        self.tallies.setdefault(period, Tally()).apply(event)

    def take(self, record: Interaction | Feedback) -> None:
        if isinstance(record, Feedback):
            if (word := said(record, CANARY.salt)) is not None:
                self._said(word)
        elif (found := served(record, "m", name_of(CANARY), CANARY.salt, None)) is not None:
            self._served(found)

    def _served(self, found: Served) -> None:
        if found.id in self._seen:
            return
        self._seen[found.id] = found
        for signal in (None, *found.signals):
            self._apply(found.period, Event(found.user, found.arm, signal))
        hour = int(found.at // AGAIN_WITHIN_S)
        for near in (hour - 1, hour, hour + 1):
            at, period = self._asked.get((found.asked, near), (float("-inf"), ""))
            if abs(found.at - at) <= AGAIN_WITHIN_S:
                event = Event(found.user, found.arm, "regenerated")
                self._apply(period if at <= found.at else found.period, event)
        self._asked[found.asked, hour] = found.at, found.period
        for word in self._waiting.get(found.id, []):
            self._said(word)

    def _said(self, word: Said) -> None:
        found = self._seen.get(word.id)
        if found is None:
            if word.at - word.answered < LATE_S:
                self._waiting.setdefault(word.id, []).append(word)
        elif word.user in ("", found.user):
            for signal in word.signals:
                self._apply(found.period, Event(found.user, found.arm, signal))


def world(chance: random.Random) -> list[Interaction | Feedback]:
    """What people do in two stages and the watch, in the order in which it happens."""
    records: list[Interaction | Feedback] = []
    for number in range(chance.randrange(5, 60)):
        user = chance.choice(["ada", "bob", "cyd", "dan", "eve"])
        arm: Arm = "challenger" if user in ("ada", "bob") else "control"
        text = chance.choice(["One?", "Two?"])
        more: dict[str, Any] = chance.choice(
            [{}, {}, {"status": 502, "outcome": "failed"}, {"outcome": "refused_candidates"}]
        )
        one = answer(
            user,
            arm,
            at=BEGAN + 97.0 * number,
            period=chance.choice(["0", "1", "watch"]),
            messages=[{"role": "user", "content": text}],
            **more,
        )
        records.append(one)
        for _ in range(chance.randrange(3)):
            records.append(
                vote(
                    one,
                    chance.random() < 0.5,
                    after=chance.choice([3.0, 1200.0]),
                    user=chance.choice(["", None, "zoe"]),
                )
            )
        if chance.random() < 0.1:
            flag = replace(vote(one), id=new_uuid7(), kind="flag", value=chance.choice(["unsafe", "off-task"]))
            records.append(flag)
    return records


def mixed(records: Sequence[Interaction | Feedback], chance: random.Random) -> list[list[Interaction | Feedback]]:
    """In another order, some of them twice, in pieces between which somebody reads."""
    shuffled = [*records, *chance.choices(records, k=len(records) // 3)]
    chance.shuffle(shuffled)
    pieces: list[list[Interaction | Feedback]] = [[]]
    for record in shuffled:
        if chance.random() < 0.15:
            pieces.append([])
        pieces[-1].append(record)
    return pieces


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_the_order_and_whoever_dies_the_counts_are_those_of_the_events(
    seed: int, redis_server: RedisServer, redis: Redis, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    reference, fence, deaths = Reference(), 1, 0
    dying = Dying(redis, chance)
    sizes: dict[str, Any] = {"batch": chance.randrange(1, 9), "most": chance.randrange(3, 40)}
    counting = await Counting(redis, tmp_path / "0", over=dying, **sizes).begin()
    for piece in mixed(world(chance), chance):
        await log(redis, *piece)
        for kind in (Interaction, Feedback):
            for record in piece:
                if isinstance(record, kind):
                    reference.take(record)
        left = True
        while left:
            before = await redis.hgetall("bestow:{release-m}:" + name_of(CANARY) + ":place")
            try:
                await counting.store.advance(fence)
            except LockLost:
                raise
            except RedisError:
                fence, deaths = fence + 1, deaths + 1
                counting = await Counting(redis, tmp_path / str(fence), over=dying, **sizes).begin()
                continue
            after = await redis.hgetall("bestow:{release-m}:" + name_of(CANARY) + ":place")
            left = before != after
    for period in (0, 1):
        expected = reference.tallies[str(period)].counts if str(period) in reference.tallies else Counts()
        assert await counting.counts(period) == expected
    await counting.begin(replace(CANARY, phase="watch"))
    assert await counting.counts(1) == (reference.tallies["watch"].counts if "watch" in reference.tallies else Counts())
    assert deaths
