"""What users did in a canary, counted in Redis: read off the log's streams by the gateway that leads.

Of each stream there is a cursor. What lies behind it is read, through the archive where it has left the stream, made
into outcomes (`outcomes.py`) and applied together with the cursor's move in one script, which refuses a leader whose
lock another has taken. So a leader that is killed anywhere loses nothing and counts nothing twice.

    place    cursors, and the highest number of a leader that wrote
    users    by period and user: the group, and which kinds of first events they had
    counts   by period and group: users, interactions, users by their first events
    seen     by minute, for a day: which interaction was whose, so that feedback finds its group
    waiting  by minute, for minutes: feedback that was shipped before what it is about
    asked    by hour: who asked what and when, so that a question asked again within an hour is known

All keys of a model share a hash tag. They hold digests keyed by the canary's salt, no texts and nobody's name, and go
90 days after they were last written. Erasing a person from the log takes nothing from the counts, which name nobody.
"""

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, Counter
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from gateway.errors import Unavailable
from gateway.log.archive.reader import Archive
from gateway.log.frames import Kind
from gateway.log.keys import stream_key
from gateway.log.records import Feedback, Interaction, decode_feedback, decode_interaction
from gateway.log.streams import StreamReader
from gateway.log.watermarks import entry_order, read_watermarks
from gateway.release.counts import ArmCounts, Counts
from gateway.release.evidence_script import APPLY
from gateway.release.outcomes import FEEDBACK_WITHIN_S, Said, Served, said, served
from gateway.release.route import name_of, period_of
from gateway.release.routes import Releases
from gateway.release.state import Canary
from gateway.shared.lock import LockLost

logger = logging.getLogger(__name__)

KEPT_S = 90 * 86_400
# So much later than what it is about an interaction may be shipped.
LATE_S = 600
AGAIN_WITHIN_S = 3600
# Records of a stream that are applied at once, and in one round: the leader has its lock to renew and others to see to.
BATCH = 500
ROUND = 5000
# Clocks differ, and requests that were under way when the first users were drawn are older than that.
_BEFORE_S = 60.0

_ARMS = {"challenger": "C", "control": "K"}


class EvidenceStore:
    """redis, releases: the caller closes them. archive: of older records; None: there is none that can be read here."""

    def __init__(
        self,
        redis: Redis,
        releases: Releases,
        archive: Archive | None,
        registry: CollectorRegistry,
        *,
        batch: int = BATCH,
        most: int = ROUND,
    ) -> None:
        self._redis = redis
        self._releases = releases
        self._archive = archive
        self._batch = batch
        self._most = most
        self._readers: dict[tuple[str, Kind], _Reader] = {}
        self._read = Counter(
            "bestow_release_evidence_records",
            "Records of the log that were read to judge a canary.",
            ["model", "stream"],
            registry=registry,
        )
        self._missed = Counter(
            "bestow_release_evidence_gaps",
            "Times that records had left the stream before they were read, and could not be read from the archive: "
            "the counts of a canary are short.",
            ["model", "stream"],
            registry=registry,
        )

    async def counts(self, model: str, release: int, stage: int) -> Counts:
        """Of a release that is on its way or watched, in a stage of it. Raises Unavailable."""
        canary = self._releases.state.of(model).canary
        if canary is None or canary.bundle.release != release:
            return Counts()
        period = period_of(canary) if canary.stage == stage else str(stage)
        try:
            fields: Any = await self._redis.hgetall(_key(model, canary, "counts"))
        except (RedisError, OSError) as error:
            raise Unavailable("what users did cannot be read now: Redis does not answer", retry_after=2.0) from error
        return counts_of({name.decode(): int(value) for name, value in fields.items()}, period)

    async def advance(self, fence: int) -> None:
        """Count what is new, of each canary that users are in. Raises RedisError, LockLost, OSError, ConfigError."""
        for model, released in self._releases.state.models.items():
            canary = released.canary
            if canary is None or canary.phase not in ("canary", "watch"):
                continue
            shards = await self._releases.shards()
            whole = [await self._follow(model, canary, shard, Kind.INTERACTION, fence) for shard in shards]
            if all(whole):
                # What is said may be about what any shard has; so not before all of that is known.
                for shard in shards:
                    await self._follow(model, canary, shard, Kind.FEEDBACK, fence)

    async def _follow(self, model: str, canary: Canary, shard: str, kind: Kind, fence: int) -> bool:
        """Read on in one stream. Whether its end was reached."""
        field = f"{shard}/{kind.name.lower()}"
        found: Any = await self._redis.hget(_key(model, canary, "place"), field)
        place = found.decode() if found else ""
        reached = start = place or f"{max(0, int((canary.began - _BEFORE_S) * 1000))}-0"
        if self._archive is None:
            await self._tell_gaps(model, shard, kind, start)
        reader = self._readers.setdefault((shard, kind), _Reader(self._redis, shard, kind, self._archive))
        ops: list[Served | Said] = []
        read = 0
        async with aclosing(reader.after(start)) as records:
            async for reached, record in records:
                read += 1
                if (op := self._outcome(record, model, canary)) is not None:
                    ops.append(op)
                if read % self._batch == 0:
                    await self._apply(model, canary, (field, place, reached), ops, fence)
                    place, ops = reached, []
                if read >= self._most:
                    break
        if reached != place:
            await self._apply(model, canary, (field, place, reached), ops, fence)
        self._read.labels(model, kind.name.lower()).inc(read)
        return read < self._most

    def _outcome(self, record: Interaction | Feedback, model: str, canary: Canary) -> Served | Said | None:
        if isinstance(record, Interaction):
            return served(record, model, name_of(canary), canary.salt, self._releases.config.release.slow_ms)
        return said(record, canary.salt)

    async def _apply(
        self, model: str, canary: Canary, cursor: tuple[str, str, str], ops: Sequence[Served | Said], fence: int
    ) -> None:
        keys = _Keys(model, canary)
        work = {
            "cursors": [cursor],
            "ops": [keys.op(one) for one in ops],
            "seen_ms": (FEEDBACK_WITHIN_S + 3600) * 1000,
            "waiting_ms": 2 * LATE_S * 1000,
            "asked_ms": 3 * AGAIN_WITHIN_S * 1000,
            "again_s": AGAIN_WITHIN_S,
        }
        arguments = (str(fence), str(KEPT_S * 1000), msgspec.json.encode(work))
        try:
            await self._redis.eval(APPLY, len(keys.names), *keys.names, *arguments)
        except ResponseError as error:
            if "FENCED" in str(error):
                raise LockLost("another gateway has taken over") from None
            raise

    async def _tell_gaps(self, model: str, shard: str, kind: Kind, entry: str) -> None:
        reached = (await read_watermarks(self._redis, shard)).of(stream_key(shard, kind))
        if reached is not None and entry_order(reached) > entry_order(entry):
            self._missed.labels(model, kind.name.lower()).inc()
            logger.warning(
                "records up to %s of %s have left the stream, and this gateway has no archive to read them from: the "
                "canary of %s may count too little. Install the extra `archive` here, or give log.archive.after_s more "
                "time",
                reached,
                stream_key(shard, kind),
                model,
            )


class _Reader:
    """Records of one stream with their entries; none is remembered, so that what could not be applied is read again."""

    def __init__(self, redis: Redis, shard: str, kind: Kind, archive: Archive | None) -> None:
        self._interactions = StreamReader(redis, shard, kind, decode_interaction, archive, remembered=0)
        self._feedback = StreamReader(redis, shard, kind, decode_feedback, archive, remembered=0)
        self._kind = kind

    async def after(self, entry: str) -> AsyncGenerator[tuple[str, Interaction | Feedback], None]:
        if self._kind == Kind.INTERACTION:
            async for logged in self._interactions.after(entry):
                yield logged.entry, logged.record
        else:
            async for vote in self._feedback.after(entry):
                yield vote.entry, vote.record


class _Keys:
    """The keys of one script, in the order in which they were asked for."""

    def __init__(self, model: str, canary: Canary) -> None:
        self._numbers: dict[str, int] = {}
        self._model, self._canary = model, canary
        for name in ("place", "counts", "users"):
            self._number(name)

    @property
    def names(self) -> list[str]:
        return list(self._numbers)

    def op(self, one: Served | Said) -> list[Any]:
        """As the script takes it."""
        minute = int(one.answered // 60)
        seen, waiting = self._number(f"seen:{minute}"), self._number(f"waiting:{minute}")
        if isinstance(one, Said):
            return ["f", seen, waiting, one.id, one.user, one.signals, one.at - one.answered < LATE_S]
        hour = int(one.at // AGAIN_WITHIN_S)
        hours = [self._number(f"asked:{each}") for each in (hour - 1, hour, hour + 1)] if one.asked else []
        arm = _ARMS[one.arm]
        return ["i", seen, waiting, one.id, one.user, arm, one.period, one.signals, one.asked, one.at, hours]

    def _number(self, name: str) -> int:
        """Counted from 1, as scripts do."""
        return self._numbers.setdefault(_key(self._model, self._canary, name), len(self._numbers) + 1)


def counts_of(fields: dict[str, int], period: str) -> Counts:
    """Of a period, from the hash of counts."""

    def of(arm: str) -> ArmCounts:
        start = f"{period}/{_ARMS[arm]}/"
        its = {name.removeprefix(start): value for name, value in fields.items() if name.startswith(start)}
        return ArmCounts(its.pop("users", 0), its.pop("interactions", 0), its)

    return Counts(of("challenger"), of("control"))


def _key(model: str, canary: Canary, name: str) -> str:
    return f"bestow:{{release-{model}}}:{name_of(canary)}:{name}"
