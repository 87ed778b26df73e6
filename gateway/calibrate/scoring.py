"""Asking a running scorer server for the raw scores of many texts."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp

from gateway.calibrate.texts import Text
from gateway.config import Config
from gateway.errors import StartError
from gateway.upstreams import read_upstreams
from scorers.client import ScorerClient
from scorers.contract import Score, ScoreRequest, ScorerInfo
from scorers.errors import ScorerError

AT_ONCE = 8
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Found:
    """A scorer at the server that has it."""

    client: ScorerClient
    info: ScorerInfo


async def find_scorer(config: Config, name: str, session: aiohttp.ClientSession) -> Found:
    """Asks the servers that the configuration names. Raises StartError, ConfigError."""
    known: set[str] = set()
    reasons: list[str] = []
    endpoints = {one.url: one for one in read_upstreams(config).scorers.values()}
    if not endpoints:
        raise StartError("The configuration names no running scorer server: start one with `bestow up` first.")
    for endpoint in endpoints.values():
        client = ScorerClient(endpoint, session)
        try:
            infos = await client.scorers()
        except ScorerError as error:
            reasons.append(str(error))
            continue
        known |= {info.id for info in infos}
        for info in infos:
            if info.id == name:
                return Found(client, info)
    if reasons and not known:
        raise StartError(reasons[0])
    raise StartError(f"There is no scorer {name!r} at the servers that run; there is {', '.join(sorted(known))}.")


async def raw_scores(found: Found, texts: Sequence[Text], done: Callable[[], None]) -> list[Score]:
    """One a text, in order; a text that could not be scored has an error. Raises StartError where none could."""
    places = asyncio.Semaphore(AT_ONCE)

    async def score(text: Text) -> Score:
        candidates = [] if text.answer is None else [text.answer]
        request = ScoreRequest(found.info.id, text.messages, candidates, raw=True)
        async with places:
            try:
                response = await found.client.score(request, TIMEOUT_S)
                return response.scores[0]
            except ScorerError as error:
                return Score(error=str(error))
            finally:
                done()

    scores = await asyncio.gather(*map(score, texts))
    if all(one.error is not None for one in scores):
        raise StartError(f"No text could be scored: {scores[0].error}")
    return list(scores)
