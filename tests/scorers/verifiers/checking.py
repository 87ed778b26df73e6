"""Loads a check as the scorer server does, and asks it about answers."""

import asyncio
from typing import Any

from scorers.contract import Message, Score, ScoreRequest, ServedScorer
from scorers.loading import Loading
from scorers.scorer_settings import VerifierConfig
from scorers.settings import ScorerServerConfig
from scorers.verifiers.loading import load

USER: Message = {"role": "user", "content": "How much is six times seven?"}


def verifier(check: str, *, timeout_s: float = 5.0, limit: int = 64, **options: Any) -> ServedScorer:
    config = VerifierConfig(kind="verifier", check=check, options=options, timeout_s=timeout_s)
    scorer, _ = load("it", config, Loading(ScorerServerConfig(max_queue=limit)))
    return scorer


def score(scorer: ServedScorer, answer: str | Message | None, **request: Any) -> Score:
    candidate = answer if isinstance(answer, dict) else {"role": "assistant", "content": answer}

    async def ask() -> list[Score]:
        scores = await scorer.score(ScoreRequest("it", [USER], [candidate], **request))
        await scorer.close()
        return scores

    [one] = asyncio.run(ask())
    return one


def checked(
    check: str, answer: str | Message | None, *, options: dict[str, Any] | None = None, **request: Any
) -> Score:
    """The score of one answer. request: the fields of the ScoreRequest besides."""
    return score(verifier(check, **options or {}), answer, **request)
