"""Scorers without a model: in order, bounded, and one candidate's failure is its own."""

import asyncio
import threading

import pytest

from scorers.contract import Message, Score, ScoreRequest, ScorerInfo
from scorers.errors import BadScoreRequest, Overloaded
from scorers.model_scorer import CannotScore
from scorers.plain_scorer import PlainScorer

USER: Message = {"role": "user", "content": "Hi"}


class Counting:
    """Judges by the number in a candidate; `gate` holds it up."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Semaphore(0)
        self.judged: list[str] = []

    def __call__(self, request: ScoreRequest, candidate: Message | None) -> Score:
        self.begun.release()
        self.gate.wait(10)
        text = "prompt" if candidate is None else candidate["content"]
        self.judged.append(text)
        if text == "mute":
            raise CannotScore("There is nothing to say.")
        if text == "image":
            raise BadScoreRequest("It is an image.")
        return Score(value=float(len(text)))


def scorer_of(judge: Counting, *, prompt_only: bool = False, limit: int = 4) -> PlainScorer:
    info = ScorerInfo("it", "verifier", "value", "it@1", prompt_only, 0)
    return PlainScorer(info, judge, limit=limit)


def asking(*texts: str) -> ScoreRequest:
    return ScoreRequest("it", [USER], [{"content": text} for text in texts])


async def test_scores_come_in_order_and_a_failure_is_its_candidates_own() -> None:
    scorer = scorer_of(Counting())
    assert await scorer.score(asking("a", "mute", "image", "bbb")) == [
        Score(value=1.0),
        Score(error="There is nothing to say."),
        Score(error="It is an image.", unreadable=True),
        Score(value=3.0),
    ]
    await scorer.close()


async def test_a_conversation_is_judged_only_where_that_makes_sense() -> None:
    with pytest.raises(BadScoreRequest, match="it scores answers"):
        await scorer_of(Counting()).score(asking())
    assert await scorer_of(Counting(), prompt_only=True).score(asking()) == [Score(value=6.0)]


async def test_what_waits_is_counted_and_bounded() -> None:
    judge = Counting()
    scorer = scorer_of(judge)
    with pytest.raises(BadScoreRequest, match="at most 4"):
        await scorer.score(asking(*"abcde"))
    judge.gate.clear()
    first = asyncio.ensure_future(scorer.score(asking("a", "b", "c")))
    await asyncio.to_thread(judge.begun.acquire)
    assert scorer.waiting == 3
    with pytest.raises(Overloaded, match="3 inputs wait for it already"):
        await scorer.score(asking("d", "e"))
    judge.gate.set()
    assert len(await first) == 3
    assert scorer.waiting == 0


async def test_a_cancelled_request_leaves_the_rest_undone() -> None:
    judge = Counting()
    scorer = scorer_of(judge)
    judge.gate.clear()
    task = asyncio.ensure_future(scorer.score(asking("a", "b", "c")))
    await asyncio.to_thread(judge.begun.acquire)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert scorer.waiting == 0
    judge.gate.set()
    assert await scorer.score(asking("later")) == [Score(value=5.0)]
    assert judge.judged == ["a", "later"]
