"""A scorer as the gateway uses it: failures become scores with an `error`, counted, never exceptions or numbers."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.log.records import Message
from gateway.telemetry.metrics import Metrics
from scorers.client import ScorerClient
from scorers.contract import Score, ScoreRequest
from scorers.errors import BadScoreRequest, ScorerError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScorerHandle:
    """One named scorer at one server. version: its name@N, for receipts and the log."""

    name: str
    version: str
    client: ScorerClient
    timeout_s: float
    metrics: Metrics

    async def score(
        self, messages: Sequence[Message], candidates: Sequence[Message], tools: Sequence[dict[str, Any]]
    ) -> list[Score]:
        """One score a candidate, in order; one for the conversation where there are no candidates."""
        request = ScoreRequest(self.name, list(messages), list(candidates), list(tools))
        try:
            response = await self.client.score(request, self.timeout_s)
        except ScorerError as error:
            logger.warning("scorer %s failed: %s", self.name, error)
            unreadable = isinstance(error, BadScoreRequest)
            scores = [Score(error=_shown(error), unreadable=unreadable) for _ in candidates or (None,)]
            reason = error.code
        else:
            scores, reason = response.scores, "candidate_failed"
        failures = sum(score.error is not None for score in scores)
        if failures:
            self.metrics.scorer_failures.labels(self.name, reason).inc(failures)
        return scores

    async def ready(self) -> bool:
        """Whether its server answers and serves it."""
        try:
            return any(info.id == self.name for info in await self.client.scorers())
        except (TimeoutError, ScorerError):
            return False


def _shown(error: ScorerError) -> str:
    """What a client may read of a failure: what is wrong with the content, but no address of a server."""
    return str(error) if isinstance(error, BadScoreRequest) else "the scorer did not answer"
