"""A policy whose every continuation a test writes down, for strategies that build answers piece by piece.

A token is a character: its id is the character's number.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.decoding.candidate import Candidate, Judged
from gateway.decoding.pieces import Pieces, Prefix, StopStrings, Withheld
from gateway.decoding.strategy import Settled, Task
from gateway.errors import ApiError
from gateway.log.records import Message, Verdict
from scorers.contract import Score
from tests.gateway.decoding.judged import candidate
from tests.gateway.decoding.scripted import ScriptedSampler

END = "$"
"""Ends an answer, and is no text."""


def text_of(prefix: Prefix) -> str:
    return str(prefix.message["content"])


def ids_of(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


@dataclass
class ScriptedPieces(ScriptedSampler):
    """says: how an answer goes on after a text, the i-th of the ways that are drawn at once: all up to its end.

    asked: what each call was asked, (texts, each, max_tokens, stop). fails_at: the call that does, or gives `short` too
    few. none: the request cannot be continued; `sample` gives answers then. slow_s: each call.
    """

    says: Callable[[str, int], str] = lambda text, i: END
    max_tokens: int = 100
    asked: list[tuple[list[str], int, int, str | None]] = field(default_factory=list)
    stops: StopStrings = field(default_factory=StopStrings)
    fails_at: int | None = None
    error: ApiError | None = None
    short: int = 0
    none: bool = False
    slow_s: Callable[[int], float] = lambda call: 0.0

    async def pieces(self) -> Pieces | None:
        return None if self.none else self

    async def continued(
        self, prefixes: Sequence[Prefix], each: int, max_tokens: int, stop: str | None = None
    ) -> list[list[Prefix]]:
        call = len(self.asked)
        self.asked.append(([text_of(one) for one in prefixes], each, max_tokens, stop))
        await asyncio.sleep(self.slow_s(call))
        if self.error and call == self.fails_at:
            raise self.error
        each -= self.short
        return [[self._way(one, i, max_tokens, stop) for i in range(each)] for one in prefixes]

    def _way(self, prefix: Prefix, i: int, max_tokens: int, stop: str | None) -> Prefix:
        text = text_of(prefix)
        new = self.says(text, i)
        end = new.find(stop) if stop else -1
        if end >= 0:
            assert stop is not None
            new = new[: end + len(stop)]
        new = new[:max_tokens]
        self.sampled_tokens += len(new)
        finish = "stop" if new.endswith(END) else None
        ids = (*prefix.token_ids, *ids_of(new))
        if finish is None and len(ids) >= self.max_tokens:
            finish = "length"
        grown = Prefix(ids, {"role": "assistant", "content": text + new.removesuffix(END)}, finish)
        if cut := self.stops.cut(grown.message):
            grown = replace(grown, message=cut[0], finish_reason="stop", stop_reason=cut[1])
        return grown

    def growing(self) -> "_Growing":
        return _Growing(Withheld(self.stops))


@dataclass
class _Growing:
    withheld: Withheld
    told: int = 0

    async def add(self, prefix: Prefix) -> dict[str, Any]:
        new = "".join(map(chr, prefix.token_ids[self.told :])).removesuffix(END)
        self.told = len(prefix.token_ids)
        return self.withheld.add({"content": new} if new else {}, ended=prefix.finish_reason is not None)


@dataclass
class TextJudge:
    """Judges texts. reward: of each, None where the scorer fails.

    unsafe, unjudged: which the guard flags, or cannot read.
    steps: a process scorer's scores, whose last is the reward. read: texts that were scored. late_s: of a text's score.
    whole_late_s: of judging answers as wholes.
    """

    reward: Callable[[str], float | None] = lambda text: 0.0
    unsafe: Callable[[str], bool] = lambda text: False
    unjudged: Callable[[str], bool] = lambda text: False
    steps: Callable[[str], list[float]] | None = None
    read: list[str] = field(default_factory=list)
    late_s: Callable[[str], float] = lambda text: 0.0
    whole_late_s: float = 0.0

    @property
    def scorer(self) -> str | None:
        return "reward@1"

    async def score(self, message: Message) -> Score | None:
        text = message["content"]
        self.read.append(text)
        await asyncio.sleep(self.late_s(text))
        value = self.reward(text)
        if self.steps is not None:
            return Score(value=self.steps(text)[-1], steps=self.steps(text))
        return Score(error="it failed") if value is None else Score(value=value)

    async def check(self, message: Message) -> Verdict | None:
        text = message["content"] or ""
        if self.unjudged(text):
            return Verdict(error="no answer")
        return Verdict(categories={"x": 0.5}, flagged=["x"] if self.unsafe(text) else [])

    async def judge(self, candidates: Sequence[Candidate]) -> list[Judged]:
        await asyncio.sleep(self.whole_late_s)
        found = []
        for one in candidates:
            score, verdict = await self.score(one.message), await self.check(one.message)
            assert score is not None
            scores = {"reward@1": score}
            found.append(Judged(one, score.value, score.error, verdict, 0.0, scores=scores))
        return found

    async def settle(self, judged: Sequence[Judged]) -> Settled:
        return Settled(tuple(judged))


@dataclass
class WholeAnswers(ScriptedPieces):
    """The same answers whole: what best-of-n makes of them."""

    async def sample(self, n: int, wave: int) -> Any:
        for i in range(n):
            text = self.says("", i)
            yield candidate(i, text.removesuffix(END), wave=wave)


def task(options: Any, **fields: Any) -> Task:
    """Four at a time and half a minute, where a test says nothing else."""
    more = {"n": 4, "resample": 1, "unjudged_passes": False, "max_tokens": 100, **fields}
    seconds = more.pop("seconds", 30.0)
    return Task(deadline=asyncio.get_running_loop().time() + seconds, options=options, **more)
