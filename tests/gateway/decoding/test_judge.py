import asyncio
from collections.abc import Callable
from typing import Any

from gateway.decoding.candidate import Candidate, Judged
from gateway.decoding.cascade import Step
from gateway.decoding.judge import ScorerJudge
from gateway.decoding.strategy import Settled
from gateway.decoding.validity import requirements_of
from gateway.guard.guard import Guard
from gateway.guard.verdict import Rules
from gateway.scoring import Conversation
from gateway.telemetry.waiting import WaitClock
from scorers.contract import Score
from scorers.errors import ScorerUnavailable
from tests.gateway.decoding.judged import rank
from tests.gateway.scorer_stubs import StubClient, classifier, handle, rewards

TEXTS = ["a", "bb", "ccc", "dddd", "eeeee", "ffffff"]
DOWN = ScorerUnavailable("no")


def safe_guard(**more: Any) -> StubClient:
    return classifier(lambda text: 0.9 if "bad" in text else 0.1, **more)


def judge_of(
    *steps: Step,
    safety: StubClient | None = None,
    body: dict[str, Any] | None = None,
    seconds: float = 5.0,
    unjudged_passes: bool = False,
) -> ScorerJudge:
    deadline = asyncio.get_running_loop().time() + seconds
    guard = Guard([handle("safety", safety)], Rules(0.5)) if safety else None
    demands = requirements_of(body or {})
    return ScorerJudge(Conversation([]), steps, guard, demands, WaitClock(), deadline, unjudged_passes)


def step(client: StubClient, keep: int | None = None, *, name: str = "reward", relative: bool = False) -> Step:
    return Step(handle(name, client, relative=relative), keep)


def candidate(index: int, message: dict[str, Any]) -> Candidate:
    return Candidate(index, 0, None, {"role": "assistant", **message}, "stop", None, None, None, 1, float(index))


def candidates(texts: list[str]) -> list[Candidate]:
    return [candidate(index, {"content": text}) for index, text in enumerate(texts)]


def call(identifier: str, arguments: str) -> dict[str, Any]:
    return {"id": identifier, "type": "function", "function": {"name": "f", "arguments": arguments}}


def order(settled: Settled) -> list[str]:
    """The texts, best first."""
    return [settled.judged[position].candidate.message["content"] for position in rank(settled.judged).order]


async def decided(judge: ScorerJudge, texts: list[str]) -> Settled:
    return await judge.settle(await judge.judge(candidates(texts)))


def counting() -> Callable[[str], float]:
    """Each call another number, as a busy batch would."""
    numbers = iter(range(100))
    return lambda text: float(next(numbers))


async def test_candidates_that_say_the_same_are_asked_about_once() -> None:
    reward, safety = rewards(counting(), delay_s=0.01), safe_guard(delay_s=0.01)
    judge = judge_of(step(reward), safety=safety)
    found = await judge.judge(candidates(["a", "a", "b"]))
    [late] = await judge.judge([candidate(3, {"content": "a"})])
    assert (len(reward.requests), len(safety.requests)) == (2, 2)
    assert found[0].reward == found[1].reward == late.reward != found[2].reward
    assert [one.candidate.index for one in found] == [0, 1, 2]


async def test_tool_calls_say_the_same_whatever_their_ids() -> None:
    reward = rewards()
    calls = [[call("x", "{}")], [call("y", "{}")], [call("z", '{"a": 1}')]]
    await judge_of(step(reward)).judge([candidate(i, {"tool_calls": one}) for i, one in enumerate(calls)])
    assert len(reward.requests) == 2


async def test_at_the_deadline_a_verdict_without_a_reward_is_an_answer() -> None:
    judge = judge_of(step(rewards(delay_s=30.0)), safety=safe_guard(), seconds=0.1)
    [found] = await judge.judge(candidates(["a"]))
    assert found.reward is None
    assert found.reward_error == "it was not answered by the deadline"
    assert found.safe(unjudged_passes=False)


async def test_without_a_verdict_by_the_deadline_a_candidate_is_unjudged() -> None:
    judge = judge_of(step(rewards()), safety=safe_guard(delay_s=30.0), seconds=0.1)
    [found] = await judge.judge(candidates(["a"]))
    assert found.unjudged
    assert not found.safe(unjudged_passes=False)


async def test_what_a_reward_comes_with_is_kept() -> None:
    score = Score(value=2.0, calibrated=0.75, parts={"helpful": 2.0}, steps=[1.0, 2.0])
    [found] = await judge_of(step(StubClient(lambda text: score))).judge(candidates(["a"]))
    assert (found.reward, found.calibrated, found.scores) == (2.0, 0.75, {"reward@1": score})


async def test_without_stages_all_is_said_as_candidates_finish_and_nothing_is_left_to_settle() -> None:
    reward = rewards()
    judge = judge_of(step(reward), safety=safe_guard())
    found = await judge.judge(candidates(TEXTS))
    assert len(reward.requests) == len(TEXTS)
    assert await judge.settle(found) == Settled(tuple(found))
    assert len(reward.requests) == len(TEXTS)


async def test_without_a_scorer_nothing_is_asked() -> None:
    settled = await decided(judge_of(), TEXTS)
    assert [one.reward_error for one in settled.judged] == [None] * 6
    assert order(settled)[0] == "a"


async def test_the_cheap_scorer_is_asked_as_they_finish_and_the_reward_once_about_the_best() -> None:
    cheap, dear = rewards(), rewards(lambda text: -len(text))
    settled = await decided(judge_of(step(cheap, 2, name="cheap"), step(dear)), TEXTS)
    assert cheap.asked == [[text] for text in TEXTS]
    assert dear.asked == [["eeeee", "ffffff"]]
    # The reward decides among those left; what was given up follows, by the cheap one's score.
    assert order(settled) == ["eeeee", "ffffff", "dddd", "ccc", "bb", "a"]
    assert [one.pruned_by for one in settled.judged] == ["cheap@1"] * 4 + [None] * 2
    assert not settled.skipped
    last = settled.judged[5]
    assert last.scores == {"cheap@1": Score(value=6.0), "reward@1": Score(value=-6.0)}
    assert settled.judged[0].reward is None and settled.judged[0].reward_error is None


async def test_each_stage_reads_what_the_one_before_let_through() -> None:
    first, second, last = rewards(), rewards(lambda text: -len(text)), rewards()
    steps = step(first, 4, name="first"), step(second, 2, name="second"), step(last)
    settled = await decided(judge_of(*steps), TEXTS)
    assert second.asked == [["ccc", "dddd", "eeeee", "ffffff"]]
    assert last.asked == [["ccc", "dddd"]]
    assert order(settled) == ["dddd", "ccc", "eeeee", "ffffff", "bb", "a"]
    assert [one.pruned_by for one in settled.judged] == ["first@1"] * 2 + [None] * 2 + ["second@1"] * 2


async def test_what_is_unsafe_or_breaks_the_form_is_shown_to_no_later_scorer() -> None:
    texts = ['"bad one"', '"short"', '"a longer one"', '"the longest one of all"', "no JSON, though very long indeed"]
    dear = rewards()
    judge = judge_of(
        step(rewards(), 2, name="cheap"), step(dear), safety=safe_guard(), body={"structured_outputs": {"json": {}}}
    )
    settled = await decided(judge, texts)
    assert dear.asked == [texts[2:4]]
    assert order(settled) == [texts[3], texts[2], texts[1], texts[4]]
    assert [one.pruned_by for one in settled.judged] == [None, "cheap@1", None, None, None]


async def test_a_later_stage_with_no_more_left_than_it_keeps_is_not_asked() -> None:
    second, last = rewards(), rewards()
    texts = ["bad a", "bad b", "bad c", "good", "better"]
    steps = step(rewards(), 3, name="first"), step(second, 2, name="second"), step(last)
    settled = await decided(judge_of(*steps, safety=safe_guard()), texts)
    assert second.requests == []
    assert last.asked == [["good", "better"]]
    assert all(one.pruned_by is None for one in settled.judged)


async def test_texts_are_counted_and_not_candidates() -> None:
    dear = rewards()
    settled = await decided(judge_of(step(rewards(), 2, name="cheap"), step(dear)), ["aaa", "aaa", "bb", "aaa", "c"])
    assert dear.asked == [["aaa", "bb"]]
    assert [one.reward for one in settled.judged] == [3, 3, 2, 3, None]


async def test_a_candidate_without_a_cheap_score_is_not_given_up_for_it() -> None:
    dear = rewards()
    cheap = rewards(lambda text: None if text in ("a", "bb") else float(len(text)))
    settled = await decided(judge_of(step(cheap, 1, name="cheap"), step(dear)), TEXTS)
    assert dear.asked == [["a", "bb", "ffffff"]]
    assert not settled.skipped


async def test_a_cheap_scorer_that_says_nothing_at_all_is_skipped_and_that_is_said() -> None:
    dear = rewards()
    settled = await decided(judge_of(step(rewards(failure=DOWN), 2, name="cheap"), step(dear)), TEXTS)
    assert settled.skipped
    assert dear.asked == [TEXTS]
    assert order(settled)[0] == "ffffff"
    assert settled.judged[0].scores["cheap@1"].error == "the scorer did not answer"


async def test_a_reward_that_is_missing_in_the_end_leaves_the_choice_to_the_stages() -> None:
    judge = judge_of(step(rewards(), 3, name="cheap"), step(rewards(failure=DOWN)))
    settled = await decided(judge, TEXTS)
    assert order(settled) == TEXTS[::-1]
    assert [one.reward_error is None for one in settled.judged] == [True] * 3 + [False] * 3


async def test_what_the_reward_does_not_say_by_the_deadline_is_missing() -> None:
    judge = judge_of(step(rewards(), 3, name="cheap"), step(rewards(delay_s=30.0)), seconds=0.2)
    settled = await decided(judge, TEXTS)
    assert settled.judged[5].reward_error == "it was not answered by the deadline"
    assert order(settled)[0] == "ffffff"


async def test_a_relative_scorer_is_asked_once_about_all_that_are_left() -> None:
    compares = rewards()
    judge = judge_of(step(compares, relative=True), safety=safe_guard())
    found: list[Judged] = []
    for one in candidates(["bad", *TEXTS[:3]]):
        found += await judge.judge([one])
    assert compares.requests == []
    settled = await judge.settle(found)
    assert compares.asked == [TEXTS[:3]]
    assert order(settled) == ["ccc", "bb", "a"]


async def test_a_relative_scorer_is_not_asked_about_one_text_and_nothing_is_missing() -> None:
    compares = rewards()
    for texts in (["a"], ["a", "a"], ["bad", "a"], ["bad"]):
        settled = await decided(judge_of(step(compares, relative=True), safety=safe_guard()), texts)
        assert all(one.reward is None and one.reward_error is None for one in settled.judged)
    assert compares.requests == []


async def test_a_relative_scorer_decides_among_what_the_stages_leave() -> None:
    compares = rewards(lambda text: -len(text))
    settled = await decided(judge_of(step(rewards(), 3, name="cheap"), step(compares, relative=True)), TEXTS)
    assert compares.asked == [TEXTS[3:]]
    assert order(settled)[:3] == TEXTS[3:]


async def test_a_relative_scorer_can_be_a_stage() -> None:
    compares, dear = rewards(), rewards(lambda text: -len(text))
    judge = judge_of(step(compares, 2, name="compares", relative=True), step(dear))
    settled = await decided(judge, TEXTS)
    assert compares.asked == [TEXTS]
    assert dear.asked == [TEXTS[4:]]
    assert order(settled)[0] == "eeeee"
    assert (await decided(judge, TEXTS[:2])).judged[0].pruned_by is None
    assert len(compares.requests) == 1


async def test_one_that_the_guard_could_not_judge_goes_on_where_the_profile_lets_it_pass() -> None:
    for passes, asked in ((True, [TEXTS[4:]]), (False, [])):
        dear = rewards()
        judge = judge_of(
            step(rewards(), 2, name="cheap"), step(dear), safety=safe_guard(failure=DOWN), unjudged_passes=passes
        )
        await decided(judge, TEXTS)
        assert dear.asked == asked
