"""Webhooks: each vote that the log took is POSTed to whoever is configured, at least once, off the request path.

The votes are read from the feedback stream, and from the archive where the stream is trimmed: as they were kept, with
what was redacted or erased gone. For each webhook one gateway holds the lock, and after each page its place is saved.

A page of which nothing gets through is tried again, later and later: the receiver is away, and what comes meanwhile
waits in the log. Where some of it gets through, the rest is put aside and tried again by itself, so that a vote which
the receiver cannot digest holds up no other. Both for a day; then it is counted as dead. Order is not promised.
"""

import asyncio
import hashlib
import logging
import random
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from typing import cast
from urllib.parse import urlsplit

import aiohttp
from prometheus_client import CollectorRegistry, Counter, Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.errors import ConfigError
from gateway.feedback.settings import Receiver, WebhookConfig
from gateway.feedback.webhook_message import body_of, headers_of, read_secrets
from gateway.feedback.webhook_place import LeaseLost, Place, PlaceStore, Retry
from gateway.log.archive.reader import Archive
from gateway.log.cluster import serving
from gateway.log.keys import feedback_key
from gateway.log.outage import Outage
from gateway.log.records import Feedback
from gateway.log.streams import Logged, feedback
from gateway.log.watermarks import entry_order
from gateway.tasks import being_cancelled, end

logger = logging.getLogger(__name__)

GIVE_UP_S = 86_400.0
POLL_S = 1.0
# How soon another gateway takes over from one that was killed, beyond what the lock holds.
LOOK_S = 5.0
PAGE = 32
# While the receiver is away: more than one, since the first may be what it cannot digest.
PROBE = 4
AT_ONCE = 8
PAUSES_S = (1.0, 300.0)
RETRIES_S = (5.0, 3600.0)
MOST_RETRIES = 1000
_REMEMBERED = 10_000


class WebhookMetrics:
    """webhook: its host, and a hash of its address."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.attempts = Counter(
            "bestow_webhook_attempts",
            "Votes sent to a webhook, by result: delivered, failed (it is sent again).",
            ["webhook", "result"],
            registry=registry,
        )
        self.dead = Counter(
            "bestow_webhook_dead",
            "Votes that a webhook's receiver did not take for a day, and that are not sent again.",
            ["webhook"],
            registry=registry,
        )
        self.lag = Gauge(
            "bestow_webhook_lag_seconds",
            "Age of the oldest vote that waits for a webhook; 0 at gateways that do not send.",
            ["webhook"],
            registry=registry,
        )
        self.retries = Gauge(
            "bestow_webhook_retries",
            "Votes put aside, to be sent to a webhook again.",
            ["webhook"],
            registry=registry,
        )


class Webhooks:
    """All that are configured. redis, archive: the gateway's; the caller closes them."""

    def __init__(
        self,
        settings: Sequence[WebhookConfig],
        redis: Redis,
        shard: str,
        archive: Archive | None,
        registry: CollectorRegistry,
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._shard = shard
        self._archive = archive
        self._registry = registry
        self._session: aiohttp.ClientSession | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        if not self._settings:
            return
        metrics = WebhookMetrics(self._registry)
        self._session = new_session()
        for settings in self._settings:
            one = Webhook(settings, self._redis, self._shard, self._archive, self._session, metrics)
            self._tasks.append(asyncio.create_task(one.run(), name=f"bestow-webhook-{one.name}"))

    async def close(self) -> None:
        await end(*self._tasks)
        if self._session is not None:
            await self._session.close()


def check_secrets(settings: Iterable[Receiver]) -> None:
    """Raises ConfigError for a secret that cannot be read."""
    for one in settings:
        read_secrets(one.secret_file)


def new_session() -> aiohttp.ClientSession:
    """Without cookies, and without a proxy from the environment."""
    return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)


def label_of(url: str) -> str:
    """A webhook's name in metrics and logs: its path may be a secret."""
    return f"{urlsplit(url).hostname}-{name_of(url)[:8]}"


def name_of(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:16]


def doubled(times: int, bounds: tuple[float, float]) -> float:
    """The least of the bounds, doubled so many times, at most the other."""
    least, most = bounds
    return min(most, least * 2.0 ** min(times, 20))


class Webhook:
    """One receiver. clock: seconds since 1970."""

    def __init__(
        self,
        settings: WebhookConfig,
        redis: Redis,
        shard: str,
        archive: Archive | None,
        session: aiohttp.ClientSession,
        metrics: WebhookMetrics,
        *,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self.name = name_of(settings.url)
        self._label = label_of(settings.url)
        self._settings = settings
        self._redis = redis
        self._shard = shard
        self._archive = archive
        self._session = session
        self._metrics = metrics
        self._clock = clock
        self._rng = rng or random.Random()
        self._places = PlaceStore(redis, shard, self.name, uuid.uuid4().hex)
        self._log = Outage(f"The webhook {self._label} gets no votes", self._rng)
        self._away = Outage(f"The webhook {self._label}: its receiver does not take a vote", self._rng)
        self._failures = 0
        self._entry: str | None = None
        # Votes that are in the stream twice, since Redis had lost them or they were imported again.
        self._delivered: dict[str, None] = {}
        metrics.lag.labels(self._label).set(0)

    async def run(self) -> None:
        """Until cancelled. No failure ends it."""
        try:
            while not being_cancelled():
                try:
                    pause = await self.round() if await self._places.take() else self._not_ours()
                    self._log.worked()
                except LeaseLost:
                    pause = self._not_ours()
                except (RedisError, OSError, TimeoutError, ConfigError) as error:
                    pause = max(POLL_S, self._log.failed(error))
                except Exception:  # A bug must not end it for good; it shows in the lag.
                    logger.exception("The webhook %s failed", self._label)
                    pause = LOOK_S
                await asyncio.sleep(pause)
        finally:
            with suppress(RedisError, OSError, TimeoutError):  # It expires by itself.
                await self._places.release()

    def _not_ours(self) -> float:
        self._metrics.lag.labels(self._label).set(0)
        self._metrics.retries.labels(self._label).set(0)
        return LOOK_S

    async def round(self) -> float:
        """Deliver a page of what is new and what is to be tried again; the lock is held. Seconds until the next."""
        secrets = await asyncio.to_thread(read_secrets, self._settings.secret_file)
        place = await self._places.read()
        # A Redis that has lost everything gets its votes again from the journals, with new entries behind the old.
        entry = place.entry or self._entry or await self._beginning()
        if place.entry is None:
            await self._places.save(entry=entry)
        self._entry = entry
        await self._retry(place, secrets)
        page = await self._read(entry, PAGE if place.failing_since is None else PROBE)
        self._metrics.lag.labels(self._label).set(max(0.0, self._clock() - _seconds(page[0].entry)) if page else 0)
        if not page:
            return POLL_S
        wanted = [logged for logged in page if self._is_wanted(logged.record)]
        failed = await self._deliver(wanted, secrets)
        if wanted and len(failed) == len(wanted):
            return await self._receiver_is_away(place, page)
        self._away.worked()
        self._failures = 0
        await self._put_aside(place, failed)
        await self._places.save(entry=page[-1].entry, works=True)
        self._entry = page[-1].entry
        return 0.0 if len(page) > 1 else POLL_S

    async def _beginning(self) -> str:
        """What was said before the webhook was configured is not sent."""
        newest = await feedback(self._redis, self._shard).newest_entry()
        server = serving(self._redis, feedback_key(self._shard))
        seconds, microseconds = await server.time()
        now = f"{seconds * 1000 + microseconds // 1000 - 1}-0"
        return max(newest, now, key=entry_order)

    async def _read(self, entry: str, most: int) -> list[Logged[Feedback]]:
        # A new reader each time: it passes over what it has shown before, and a page may be read again.
        reader = feedback(self._redis, self._shard, self._archive)
        found: list[Logged[Feedback]] = []
        reading = cast("AsyncGenerator[Logged[Feedback], None]", reader.after(entry))
        async with aclosing(reading) as records:
            async for logged in records:
                found.append(logged)
                if len(found) >= most:
                    break
        return found

    def _is_wanted(self, vote: Feedback) -> bool:
        return vote.id not in self._delivered and (not self._settings.kinds or vote.kind in self._settings.kinds)

    async def _receiver_is_away(self, place: Place, page: Sequence[Logged[Feedback]]) -> float:
        """Nothing of a page got through. What is a day old is given up where the receiver is away for as long."""
        now = self._clock()
        since = place.failing_since or now
        old = [logged for logged in page if _seconds(logged.entry) < now - GIVE_UP_S] if now - since > GIVE_UP_S else []
        self._dead(sum(self._is_wanted(logged.record) for logged in old))
        await self._places.save(entry=old[-1].entry if old else None, failing_since=since)
        if old:
            self._entry = old[-1].entry
        if len(old) == len(page):
            return POLL_S
        pause = doubled(self._failures, PAUSES_S) * self._rng.uniform(0.5, 1.0)
        self._failures += 1
        return pause

    async def _put_aside(self, place: Place, failed: Sequence[Logged[Feedback]]) -> None:
        now = self._clock()
        room = max(0, MOST_RETRIES - len(place.retries))
        self._dead(len(failed) - len(failed[:room]))
        if failed[:room]:
            at = now + doubled(0, RETRIES_S)
            await self._places.save(retries={logged.entry: Retry(now, at, 1) for logged in failed[:room]})

    async def _retry(self, place: Place, secrets: Sequence[bytes]) -> None:
        """Try those again whose time has come."""
        self._metrics.retries.labels(self._label).set(len(place.retries))
        now = self._clock()
        due = sorted((entry for entry, retry in place.retries.items() if retry.at <= now), key=entry_order)[:PAGE]
        for entry in due:
            retry = place.retries[entry]
            found = await self._read(_before(entry), 1)
            # Otherwise it was erased meanwhile.
            here = [logged for logged in found if logged.entry == entry]
            if not await self._deliver(here, secrets):
                await self._places.save(done=[entry])
            elif now - retry.since > GIVE_UP_S:
                self._dead(1)
                await self._places.save(done=[entry])
            else:
                at = now + doubled(retry.attempts, RETRIES_S)
                again = Retry(retry.since, at, retry.attempts + 1)
                await self._places.save(retries={entry: again})

    async def _deliver(self, page: Sequence[Logged[Feedback]], secrets: Sequence[bytes]) -> list[Logged[Feedback]]:
        """Those that were not taken."""
        places = asyncio.Semaphore(AT_ONCE)

        async def one(logged: Logged[Feedback]) -> bool:
            async with places:
                taken = await self._post(logged.record, secrets)
                # However slow the receiver is, nobody else begins meanwhile. What is wrong shows later.
                with suppress(RedisError, OSError, TimeoutError):
                    await self._places.save()
                return taken

        async with asyncio.TaskGroup() as group:
            sent = [group.create_task(one(logged)) for logged in page]
        return [logged for logged, task in zip(page, sent, strict=True) if not task.result()]

    async def _post(self, vote: Feedback, secrets: Sequence[bytes]) -> bool:
        body = body_of(vote)
        headers = headers_of(vote.id, body, secrets, self._clock())
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout_s)
        try:
            async with self._session.post(
                self._settings.url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as reply:
                if not 200 <= reply.status < 300:
                    raise OSError(f"it answers with status {reply.status}")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._metrics.attempts.labels(self._label, "failed").inc()
            self._away.failed(error)
            return False
        self._metrics.attempts.labels(self._label, "delivered").inc()
        self._delivered[vote.id] = None
        if len(self._delivered) > _REMEMBERED:
            del self._delivered[next(iter(self._delivered))]
        return True

    def _dead(self, count: int) -> None:
        if count:
            self._metrics.dead.labels(self._label).inc(count)
            logger.error("%d votes were not taken by the webhook %s for a day, and are given up.", count, self._label)


def _seconds(entry: str) -> float:
    return entry_order(entry)[0] / 1000


def _before(entry: str) -> str:
    """The id right before an entry's."""
    milliseconds, number = entry_order(entry)
    return f"{milliseconds}-{number - 1}" if number else f"{milliseconds - 1}-{2**64 - 1}"
