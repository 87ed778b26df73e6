"""A scorer as the gateway uses it: failures become scores with an `error`, counted, never exceptions or numbers."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.log.records import Message
from gateway.telemetry.metrics import Metrics
from scorers.client import ScorerClient
from scorers.contract import Gives, Score, ScoreRequest
from scorers.errors import BadScoreRequest, ScorerError

logger = logging.getLogger(__name__)

_LATE = "it was not answered by the deadline"
_OTHER_KIND: dict[Gives, str] = {
    "value": "the scorer gave categories instead of a number",
    "categories": "the scorer gave a number instead of categories",
}


@dataclass(frozen=True, slots=True)
class Conversation:
    """What scorers read beside the candidates; see ScoreRequest."""

    messages: Sequence[Message]
    tools: Sequence[dict[str, Any]] = ()
    response_format: dict[str, Any] | None = None
    reference: str | None = None


@dataclass(slots=True)
class ScorerHandle:
    """One named scorer at one server. version: its name@N, for receipts and the log.

    relative, prompt_only: what it can do (see ScorerInfo), as its server declares it; before the server has answered,
    as they were given here.
    """

    name: str
    version: str
    client: ScorerClient
    timeout_s: float
    metrics: Metrics
    relative: bool = False
    prompt_only: bool = True

    async def score(
        self,
        conversation: Conversation,
        candidates: Sequence[Message] = (),
        *,
        gives: Gives = "value",
        deadline: float | None = None,
    ) -> list[Score]:
        """One score a candidate, in order; one for the conversation where there are no candidates.

        gives: what is wanted; a score of the other kind is a failure. deadline: on the event loop's clock; what is not
        there by then is a failure too.
        """
        ranks = gives == "value"
        request = ScoreRequest(
            self.name,
            list(conversation.messages),
            list(candidates),
            list(conversation.tools),
            conversation.response_format if ranks else None,
            conversation.reference if ranks else None,
        )
        try:
            async with asyncio.timeout_at(deadline):
                response = await self.client.score(request, self.timeout_s)
        except ScorerError as error:
            logger.warning("scorer %s failed: %s", self.name, error)
            failed = Score(error=_shown(error), unreadable=isinstance(error, BadScoreRequest))
            return self._failed(failed, error.code, len(candidates) or 1)
        except TimeoutError:
            return self._failed(Score(error=_LATE), "deadline", len(candidates) or 1)
        return [self._wanted(score, gives) for score in response.scores]

    async def ready(self) -> bool:
        """Whether its server answers and serves it."""
        try:
            infos = await self.client.scorers()
        except (TimeoutError, ScorerError):
            return False
        info = next((info for info in infos if info.id == self.name), None)
        if info is not None:
            self.relative, self.prompt_only = info.relative, info.prompt_only
        return info is not None

    def _wanted(self, score: Score, gives: Gives) -> Score:
        if score.error is not None:
            [score] = self._failed(score, "candidate_failed", 1)
        elif (score.value if gives == "value" else score.categories) is None:
            [score] = self._failed(Score(error=_OTHER_KIND[gives]), "other_kind", 1)
        return score

    def _failed(self, score: Score, reason: str, count: int) -> list[Score]:
        self.metrics.scorer_failures.labels(self.name, reason).inc(count)
        return [score] * count


def _shown(error: ScorerError) -> str:
    """What a client may read of a failure: what is wrong with the content, but no address of a server."""
    return str(error) if isinstance(error, BadScoreRequest) else "the scorer did not answer"
