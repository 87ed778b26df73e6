"""A sampler and a judge that do as a test says, for strategies; parts of answers are for those who subclass them."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from gateway.decoding.candidate import Candidate, Judged
from gateway.decoding.open_streams import OpenStreams
from gateway.decoding.pieces import Pieces
from gateway.decoding.strategy import Settled
from gateway.errors import ApiError
from gateway.log.records import Message, Verdict
from scorers.contract import Score
from tests.gateway.decoding.judged import candidate


@dataclass
class ScriptedSampler:
    """Yields n candidates a wave, `pause_s` apart; fails with `failure` after `fail_after` of them."""

    pause_s: float = 0.0
    failure: ApiError | None = None
    fail_after: int = 0
    waves: list[int] = field(default_factory=list)
    closed: int = 0
    sampled_tokens: int = 0

    async def sample(self, n: int, wave: int) -> AsyncGenerator[Candidate, None]:
        first = sum(self.waves)
        self.waves.append(n)
        try:
            for i in range(n):
                if self.failure and i >= self.fail_after:
                    raise self.failure
                await asyncio.sleep(self.pause_s)
                one = candidate(first + i, finished_s=asyncio.get_running_loop().time(), wave=wave)
                self.sampled_tokens += one.completion_tokens
                yield one
        finally:
            self.closed += 1

    def streams(self, n: int, interval: int) -> OpenStreams:
        raise AssertionError("nobody asked for streams")

    async def pieces(self) -> Pieces | None:
        raise AssertionError("nobody asked for pieces")


@dataclass
class ScriptedJudge:
    verdict: Callable[[int], Judged]
    delay_of: Callable[[int], float] = lambda index: 0.0
    begun_s: list[float] = field(default_factory=list)
    settles: Callable[[Sequence[Judged]], Settled] = lambda judged: Settled(tuple(judged))
    settle_s: float = 0.0
    settled: list[int] = field(default_factory=list)
    scorer: str | None = None

    async def judge(self, candidates: Sequence[Candidate]) -> list[Judged]:
        self.begun_s.append(asyncio.get_running_loop().time())
        await asyncio.sleep(max(self.delay_of(one.index) for one in candidates))
        return [self.verdict(one.index) for one in candidates]

    async def settle(self, judged: Sequence[Judged]) -> Settled:
        self.settled += [one.candidate.index for one in judged]
        await asyncio.sleep(self.settle_s)
        return self.settles(judged)

    async def score(self, message: Message) -> Score | None:
        raise AssertionError("nobody asked for the score of a part")

    async def check(self, message: Message) -> Verdict | None:
        raise AssertionError("nobody asked for the check of a part")
