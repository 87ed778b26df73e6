import math

import numpy as np
import pytest

from gateway.decoding.second_check import checked_again
from gateway.decoding.selection.chooser import Chooser
from gateway.decoding.selection.settings import SelectionConfig
from gateway.decoding.strategy import Decision, Progress
from gateway.errors import GuardUnavailable
from gateway.log.records import Message, Verdict
from tests.gateway.decoding.judged import judged, rank

SAFE, BAD = Verdict(categories={"x": 0.1}), Verdict(categories={"x": 0.9}, flagged=["x"])
AWAY, NO_TEXT = Verdict(error="away"), Verdict(error="an image", unreadable=True)


def decision_of(texts: list[str]) -> Decision:
    """The earlier a text, the better."""
    found = tuple(judged(index, -float(index), text=text) for index, text in enumerate(texts))
    ranking = rank(found)
    return Decision(found, ranking.order, ranking.outcomes, None, 0.0)


class Second:
    """Says of each text what its first word is: safe, bad, away or image."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def check(self, message: Message) -> Verdict:
        self.asked.append(message["content"])
        return {"safe": SAFE, "bad": BAD, "away": AWAY, "image": NO_TEXT}[message["content"].split()[0]]


async def check(texts: list[str], wanted: int = 1, *, passes: bool = False) -> tuple[Decision, Second, Progress]:
    second, progress = Second(), Progress()
    decision = await checked_again(decision_of(texts), wanted, second.check, progress, unjudged_passes=passes)
    return decision, second, progress


async def test_a_winner_that_passes_is_read_alone() -> None:
    decision, second, _ = await check(["safe 1", "safe 2"])
    assert second.asked == ["safe 1"]
    assert (decision.order, decision.outcomes.candidates) == ((0,), (1.0, 0.0))


async def test_where_it_flags_the_winner_the_next_is_tried_and_the_propensities_follow() -> None:
    decision, second, progress = await check(["bad 1", "bad 2", "safe 3", "safe 4"])
    assert second.asked == ["bad 1", "bad 2", "safe 3"]
    assert (decision.order, decision.outcomes.candidates) == ((2,), (0.0, 0.0, 1.0, 0.0))
    assert [one.flagged for one in decision.judged] == [True, True, False, False]
    assert decision.degraded is None
    assert progress.judged == list(decision.judged)


async def test_as_many_as_are_wanted_must_pass() -> None:
    decision, second, _ = await check(["safe 1", "bad 2", "safe 3", "bad 4", "safe 5", "safe 6"], wanted=3)
    assert decision.order == (0, 2, 4)
    assert second.asked == ["safe 1", "bad 2", "safe 3", "bad 4", "safe 5"]


async def test_candidates_that_say_the_same_are_read_once() -> None:
    decision, second, _ = await check(["bad", "bad", "bad", "safe", "safe"], wanted=2)
    assert second.asked == ["bad", "safe"]
    assert decision.order == (3, 4)


async def test_where_it_flags_all_nothing_is_left() -> None:
    decision, _, _ = await check(["bad 1", "bad 2"])
    assert (decision.order, decision.outcomes.candidates) == ((), (0.0, 0.0))


async def test_a_text_that_it_cannot_read_is_passed_over() -> None:
    decision, _, _ = await check(["image", "safe"])
    assert (decision.order, decision.degraded) == ((1,), "guard_partial")


async def test_one_that_does_not_answer_is_no_pass_and_is_not_asked_about_the_others() -> None:
    second, progress = Second(), Progress()
    with pytest.raises(GuardUnavailable):
        await checked_again(
            decision_of(["bad 1", "away 2", "safe 3"]), 1, second.check, progress, unjudged_passes=False
        )
    assert second.asked == ["bad 1", "away 2"]
    # The log gets what it said.
    assert [one.second_check for one in progress.judged] == [BAD, AWAY, None]


async def test_what_passed_is_delivered_though_it_did_not_answer_for_another() -> None:
    decision, _, _ = await check(["safe 1", "away 2", "safe 3"], wanted=2)
    assert (decision.order, decision.degraded) == ((0,), "guard_partial")


async def test_where_the_profile_lets_unjudged_text_pass_it_passes_here_too() -> None:
    decision, _, _ = await check(["away 1", "safe 2"], passes=True)
    assert (decision.order, decision.degraded) == ((0,), "guard_partial")


async def test_more_samples_do_not_mean_more_unsafe_answers() -> None:
    """Unsafe answers that the first guard missed, 1 % of all, whose rewards are five times as wide: the best of many is
    one of them ever more often. A second guard that misses 5 % of them keeps the share below the single sample's."""
    random = np.random.default_rng(3)
    requests = 400
    for n in (1, 16, 64):
        leaked_before = leaked = 0
        for _ in range(requests):
            unsafe = random.random(n) < 0.01
            values = np.where(unsafe, random.normal(0, 5, n), random.normal(0, 1, n))
            missed = random.random(n) < 0.05
            words = ["bad" if u and not m else "safe" for u, m in zip(unsafe, missed, strict=True)]
            found = tuple(judged(i, float(v), text=f"{words[i]} {i}") for i, v in enumerate(values))
            ranking = rank(found)
            decision = Decision(found, ranking.order, ranking.outcomes, None, 0.0)
            checked = await checked_again(decision, 1, Second().check, Progress(), unjudged_passes=False)
            leaked_before += bool(unsafe[ranking.order[0]])
            leaked += bool(checked.order) and bool(unsafe[checked.order[0]])
        if n == 64:
            assert leaked_before > 0.1 * requests
        assert leaked <= 0.02 * requests


async def test_what_takes_the_place_of_many_copies_is_bounded_by_those_that_are_left() -> None:
    """Ten copies of the best fail, and the best of six others is delivered: log(16 / 10) does not bound that."""
    found = tuple(
        judged(at, 99.0 if at < 10 else float(at), text="bad" if at < 10 else f"safe {at}") for at in range(16)
    )
    ranking = Chooser(SelectionConfig(rule="pessimism", beta=0.01)).rank(found)
    assert ranking.outcomes.kl_bound == pytest.approx(math.log(16 / 10))
    decision = Decision(found, ranking.order, ranking.outcomes, None, 0.0)
    after = await checked_again(decision, 1, Second().check, Progress(), unjudged_passes=False)
    assert (after.order, after.outcomes.candidates[15]) == ((15,), 1.0)
    assert after.outcomes.kl_bound == pytest.approx(math.log(6))


async def test_a_fallback_stays_one_and_flagging_all_is_a_refusal() -> None:
    found = tuple(judged(at, None, text=text, finished_s=float(at)) for at, text in enumerate(["bad 1", "safe 2"]))
    for kept, order, fallback, refusal in ((found, (1,), 1.0, 0.0), (found[:1], (), 0.0, 1.0)):
        ranking = rank(kept)
        decision = Decision(kept, ranking.order, ranking.outcomes, None, 0.0)
        after = await checked_again(decision, 1, Second().check, Progress(), unjudged_passes=False)
        assert (after.order, after.outcomes.fallback, after.outcomes.refusal) == (order, fallback, refusal)
        assert sum(after.outcomes.candidates) == 0.0
