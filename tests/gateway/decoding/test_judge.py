import asyncio
from typing import Any

from gateway.decoding.candidate import Candidate
from gateway.decoding.judge import ScorerJudge
from gateway.decoding.validity import requirements_of
from gateway.guard.guard import Guard
from gateway.guard.verdict import Thresholds
from gateway.telemetry.waiting import WaitClock
from scorers.contract import Score


class Scorer:
    """Stands for a ScorerHandle: answers after `delay_s`, each call with another number, as a busy batch would."""

    def __init__(self, delay_s: float = 0.01, *, safety: bool = False) -> None:
        self.delay_s = delay_s
        self.safety = safety
        self.calls = 0

    async def score(self, *_: Any) -> list[Score]:
        self.calls += 1
        value = float(self.calls)
        await asyncio.sleep(self.delay_s)
        return [Score(categories={"x": 0.1}) if self.safety else Score(value=value)]


def judge_of(reward: Scorer, safety: Scorer, seconds: float = 5.0) -> ScorerJudge:
    deadline = asyncio.get_running_loop().time() + seconds
    guard = Guard(safety, Thresholds(0.5))  # type: ignore[arg-type]
    return ScorerJudge([], [], reward, guard, requirements_of({}), WaitClock(), deadline)  # type: ignore[arg-type]


def candidate(index: int, message: dict[str, Any]) -> Candidate:
    return Candidate(index, 0, None, {"role": "assistant", **message}, "stop", None, None, None, 1, 0.0)


def call(identifier: str, arguments: str) -> dict[str, Any]:
    return {"id": identifier, "type": "function", "function": {"name": "f", "arguments": arguments}}


async def test_candidates_that_say_the_same_are_asked_about_once() -> None:
    reward, safety = Scorer(), Scorer(safety=True)
    judge = judge_of(reward, safety)
    same = [candidate(0, {"content": "a"}), candidate(1, {"content": "a"}), candidate(2, {"content": "b"})]
    found = await judge.judge(same)
    [late] = await judge.judge([candidate(3, {"content": "a"})])
    assert (reward.calls, safety.calls) == (2, 2)
    assert found[0].reward == found[1].reward == late.reward != found[2].reward
    assert [one.candidate.index for one in found] == [0, 1, 2]


async def test_tool_calls_say_the_same_whatever_their_ids() -> None:
    reward, safety = Scorer(), Scorer(safety=True)
    calls = [[call("x", "{}")], [call("y", "{}")], [call("z", '{"a": 1}')]]
    await judge_of(reward, safety).judge([candidate(i, {"tool_calls": one}) for i, one in enumerate(calls)])
    assert reward.calls == 2


async def test_at_the_deadline_a_verdict_without_a_reward_is_an_answer() -> None:
    [found] = await judge_of(Scorer(delay_s=30.0), Scorer(safety=True), seconds=0.1).judge([candidate(0, {})])
    assert found.reward is None
    assert found.reward_error == "it was not answered by the deadline"
    assert found.safe(unjudged_passes=False)


async def test_without_a_verdict_by_the_deadline_a_candidate_is_unjudged() -> None:
    [found] = await judge_of(Scorer(), Scorer(delay_s=30.0), seconds=0.1).judge([candidate(0, {})])
    assert found.unjudged
    assert not found.safe(unjudged_passes=False)
