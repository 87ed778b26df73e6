"""Scorers in the test's own process: the gateway's handle on a client that answers what a test scripts."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.log.records import Message
from gateway.scoring import ScorerHandle
from gateway.telemetry.metrics import Metrics
from scorers.contract import Score, ScoreRequest, ScoreResponse
from scorers.errors import ScorerError


@dataclass
class StubClient:
    """Stands for a ScorerClient. said: what it thinks of a text; of a prompt, its last message's."""

    said: Callable[[str], Score]
    delay_s: float = 0.0
    failure: ScorerError | None = None
    requests: list[ScoreRequest] = field(default_factory=list)

    async def score(self, request: ScoreRequest, timeout_s: float) -> ScoreResponse:
        self.requests.append(request)
        await asyncio.sleep(self.delay_s)
        if self.failure:
            raise self.failure
        texts = [text_of(one) for one in request.candidates or request.messages[-1:]]
        return ScoreResponse(request.model, f"{request.model}@1", [self.said(text) for text in texts])

    @property
    def asked(self) -> list[list[str]]:
        """The texts of each request."""
        return [[text_of(one) for one in request.candidates or request.messages[-1:]] for request in self.requests]


def text_of(message: Message) -> str:
    return str(message.get("content"))


def handle(name: str, client: StubClient, metrics: Metrics | None = None, **can: Any) -> ScorerHandle:
    return ScorerHandle(name, f"{name}@1", client, 15.0, metrics or Metrics(), **can)  # type: ignore[arg-type]


def rewards(of: Callable[[str], float | None] = len, **more: Any) -> StubClient:
    """A reward model; where it says None it fails for that text."""

    def said(text: str) -> Score:
        value = of(text)
        return Score(error="it failed for this one") if value is None else Score(value=float(value))

    return StubClient(said, **more)


def classifier(flags: Callable[[str], float], category: str = "insult", **more: Any) -> StubClient:
    """A safety classifier with one category that means something."""
    return StubClient(lambda text: Score(categories={category: flags(text), "danger": 0.0}), **more)
