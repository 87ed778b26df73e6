"""Webhooks for moves of releases: the gateway that made a move tells who is configured, off every path that waits.

A receiver that does not take it is asked again, later and later, for some minutes; then it is counted and let go: the
history has every move, and `bestow release history` shows it. Signed as the webhooks of votes are.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

import aiohttp
import msgspec

from gateway.errors import ConfigError
from gateway.feedback.settings import Receiver
from gateway.feedback.webhook_message import headers_of, read_secrets
from gateway.ids import new_uuid7
from gateway.release.metrics import ReleaseMetrics
from gateway.release.state import Move
from gateway.tasks import end

logger = logging.getLogger(__name__)

PAUSES_S = (1.0, 5.0, 30.0, 120.0, 300.0)
MOST_WAITING = 100


class MoveWebhooks:
    """session: the caller closes it. clock: seconds since 1970."""

    def __init__(
        self,
        receivers: Sequence[Receiver],
        session: aiohttp.ClientSession,
        metrics: ReleaseMetrics,
        *,
        pauses_s: Sequence[float] = PAUSES_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._receivers = receivers
        self._session = session
        self._metrics = metrics
        self._pauses_s = pauses_s
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def tell(self, model: str, move: Move) -> None:
        """Never waits, never raises."""
        identifier, body = new_uuid7(), body_of(model, move)
        for receiver in self._receivers:
            if len(self._tasks) >= MOST_WAITING:
                self._metrics.webhooks.labels("failed").inc()
                continue
            task = asyncio.create_task(self._deliver(receiver, identifier, body), name="bestow-release-webhook")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """What was not taken by now is let go."""
        await end(*self._tasks)

    async def _deliver(self, receiver: Receiver, identifier: str, body: bytes) -> None:
        for pause_s in (*self._pauses_s, None):
            if problem := await self._post(receiver, identifier, body):
                if pause_s is not None:
                    await asyncio.sleep(pause_s)
                    continue
                self._metrics.webhooks.labels("failed").inc()
                host = urlsplit(receiver.url).hostname
                logger.warning("a move of a release could not be told to %s: %s", host, problem)
                return
            self._metrics.webhooks.labels("delivered").inc()
            return

    async def _post(self, receiver: Receiver, identifier: str, body: bytes) -> str:
        """Why it was not taken; empty: it was."""
        try:
            secrets = await asyncio.to_thread(read_secrets, receiver.secret_file)
            headers = headers_of(identifier, body, secrets, self._clock())
            timeout = aiohttp.ClientTimeout(receiver.timeout_s)
            async with self._session.post(
                receiver.url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as reply:
                return "" if reply.status < 300 else f"status {reply.status}"
        except (aiohttp.ClientError, TimeoutError, OSError, ConfigError) as error:
            return " ".join(str(error).split()) or type(error).__name__


def body_of(model: str, move: Move) -> bytes:
    """The event as JSON."""
    return msgspec.json.encode(
        {
            "type": f"release.{move.act.replace(' ', '_')}",
            "timestamp": datetime.fromtimestamp(move.note.at, UTC).isoformat().replace("+00:00", "Z"),
            "data": {
                "model": model,
                "release": move.release,
                "act": move.act,
                "by": move.note.by,
                "reason": move.note.reason or None,
                "facts": move.facts,
            },
        }
    )
