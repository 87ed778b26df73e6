import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import permutations
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.decoding.candidate import Judged
from gateway.decoding.laws.consistency import stops
from gateway.decoding.selection.chooser import Chooser
from gateway.decoding.selection.settings import SelectionConfig
from gateway.decoding.strategy import Decision, Progress, Task
from gateway.decoding.vote import VoteOptions, ballots, canonical, vote, votes_needed, weights
from gateway.errors import DeadlineExceeded, GuardUnavailable, WorkerError
from tests.gateway.decoding.judged import judged
from tests.gateway.decoding.scripted import ScriptedJudge, ScriptedSampler

ALL_AT_ONCE = {"confidence": None}


async def decide(
    said: Sequence[str] | Callable[[int], Judged],
    *,
    rewards: Sequence[float | None] | None = None,
    n: int | None = None,
    sampler: ScriptedSampler | None = None,
    seconds: float = 30.0,
    task: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[Decision, list[int]]:
    """The decision, and the waves that were sampled for it. said: what candidate i answers, or all of it."""

    def say(i: int) -> Judged:
        if callable(said):
            return said(i)
        return judged(i, rewards[i] if rewards else 1.0, text=f"({i}) The answer is {said[i]}", finished_s=float(i))

    sampler = sampler or ScriptedSampler()
    if options.get("weight", "none") == "none":
        options = ALL_AT_ONCE | options
    deadline = asyncio.get_running_loop().time() + seconds
    wanted = n or (16 if callable(said) else len(said))
    asked = Task(wanted, 1, deadline, unjudged_passes=False, options=VoteOptions(**options), **(task or {}))
    return await vote(asked, sampler, ScriptedJudge(say), Progress()), sampler.waves


async def test_the_majority_wins_and_its_best_is_delivered() -> None:
    decision, waves = await decide(["7", "3", "7", "7", "3"], rewards=[0.1, 9.0, 0.5, 0.3, 8.0])
    assert waves == [5]
    # The winners by reward, then the losers by reward.
    assert decision.order == (2, 3, 0, 1, 4)
    assert decision.outcomes.candidates == (0.0, 0.0, 1.0, 0.0, 0.0)
    assert decision.degraded is None


async def test_without_a_reward_the_first_that_finished_of_the_winners_is_delivered() -> None:
    def say(i: int) -> Judged:
        one = judged(i, None, text=f"It is {[3, 7, 7, 7][i]}", finished_s=10.0 - i)
        return replace(one, reward_error=None)

    decision, _ = await decide(say, n=4, task={"chooser": Chooser(rewarded=False)})
    assert decision.order == (3, 2, 1, 0)
    assert decision.degraded is None


@pytest.mark.parametrize(
    "same",
    [
        ("0.5", "1/2", ".50", "50%", "½", r"\frac{1}{2}", r"x = 0.50"),
        ("1,234", "1234", "1234.0", "$1234", "1.234e3"),
        ("Paris", "paris.", "  PARIS ", "“Paris”", "Ｐａｒｉｓ"),
        ("-3", "−3", "- 3"),
    ],
)
def test_equal_answers_are_one_however_they_are_written(same: tuple[str, ...]) -> None:
    assert len({canonical(one) for one in same}) == 1


def test_answers_that_differ_are_told_apart() -> None:
    different = ["0.5", "0.50001", "5", "-5", "1/3", "0.333", "Paris", "Paris, Texas", "A", "B", "x^2", "x^3", "(1, 2)"]
    assert len({canonical(one) for one in different}) == len(different)
    assert canonical(" .") is None
    assert canonical("1/2") == Fraction(1, 2)


@pytest.mark.parametrize(
    ("options", "texts", "winner"),
    [
        ({"extract": "boxed"}, [r"so \boxed{1/2}", r"thus \boxed{0.5}", r"\boxed{2}", r"\boxed{2"], 0),
        ({"extract": "choice"}, ["The answer is (B).", "B) since", "I would say (C)", "none"], 0),
        ({"extract": "json_field", "json_field": "a.b"}, ['{"a":{"b":2}}', '{"a":{"b":3}}', '{"a":{"b":3.0}}'], 1),
        ({"extract": "regex", "pattern": r"final: (\w+)"}, ["final: no", "final: Yes", "well, final: yes"], 1),
        ({"extract": "last_line"}, ["one\nforty two", "two\nForty two.", "42"], 0),
        ({"extract": "last_number"}, ["3, or 4", "it is 4.0", "3"], 0),
    ],
)
async def test_the_profiles_extractor_says_where_the_answer_is(
    options: dict[str, Any], texts: list[str], winner: int
) -> None:
    decision, _ = await decide(lambda i: judged(i, 1.0, text=texts[i]), n=len(texts), **options)
    assert decision.order[0] == winner


async def test_candidates_in_which_no_answer_is_found_vote_for_nobody() -> None:
    decision, _ = await decide(
        lambda i: judged(i, float(i), text=["It is 7", "It is 7", "well", "well", "well"][i]), n=5
    )
    assert decision.order == (1, 0, 4, 3, 2)
    assert decision.degraded is None


async def test_where_no_answer_is_found_the_selection_rule_chooses_and_it_is_said() -> None:
    decision, _ = await decide(lambda i: judged(i, float(i), text="well"), n=4)
    assert decision.order[0] == 3
    assert decision.degraded == "no_answer"


async def test_a_tool_call_without_content_votes_for_nobody() -> None:
    def say(i: int) -> Judged:
        one = judged(i, 1.0, text="7")
        message = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}
        return one if i == 2 else replace(one, candidate=replace(one.candidate, message=message))

    decision, _ = await decide(say, n=4)
    assert decision.order[0] == 2


async def test_unsafe_candidates_do_not_vote_and_neither_do_those_the_guard_could_not_judge() -> None:
    for how in ("flagged", "unjudged"):
        decision, _ = await decide(
            lambda i, how=how: judged(i, 1.0, text="7" if i < 3 else "3", **{how: i < 2}),  # type: ignore[misc]
            n=5,
        )
        assert decision.order == (3, 4, 2)
    decision, _ = await decide(lambda i: judged(i, 1.0, text="7", flagged=True), n=3)
    assert (decision.order, decision.outcomes.refusal) == ((), 1.0)
    with pytest.raises(GuardUnavailable):
        await decide(lambda i: judged(i, 1.0, text="7", unjudged=True), n=3)


async def test_while_none_is_safe_it_samples_again() -> None:
    decision, waves = await decide(lambda i: judged(i, 1.0, text="7", flagged=i < 4), n=4)
    assert waves == [4, 4]
    assert decision.order[0] == 4


async def test_those_that_break_the_form_vote_where_none_keeps_it_only() -> None:
    texts = ["7", "7", "3"]
    decision, _ = await decide(lambda i: judged(i, 1.0, text=texts[i], broken=None if i == 2 else "no JSON"), n=3)
    assert decision.order[0] == 2
    decision, _ = await decide(lambda i: judged(i, 1.0, text=texts[i], broken="no JSON"), n=3)
    assert decision.order[0] == 0
    assert decision.degraded == "format_broken"


async def test_ties_go_to_the_answer_that_was_given_earliest() -> None:
    for order in permutations(range(4)):
        texts = [["7", "7", "3", "3"][i] for i in order]
        decision, _ = await decide(lambda i, t=texts: judged(i, 1.0, text=t[i]), n=4)  # type: ignore[misc]
        assert decision.order[0] == 0


async def test_rewards_may_outvote_a_majority() -> None:
    said, rewards = ["7", "7", "7", "3", "3"], [0.2, 0.2, 0.2, 0.9, 0.8]
    assert (await decide(said, rewards=rewards))[0].order[0] == 0
    assert (await decide(said, rewards=rewards, weight="reward"))[0].order[0] == 3
    # Ranks 2, 2, 2 (shared by three) against 5 and 4.
    assert (await decide(said, rewards=rewards, weight="rank"))[0].order[0] == 3
    assert (await decide(said, rewards=rewards, weight="rank", power=0.0))[0].order[0] == 0


async def test_quantiles_weigh_where_the_reward_is_calibrated_and_it_is_said_where_it_is_not() -> None:
    texts, ranks = ["7", "7", "3"], [0.2, 0.3, 0.9]
    say: Callable[[int], Judged] = lambda i: judged(i, -5.0, text=texts[i], calibrated=ranks[i])  # noqa: E731
    decision, _ = await decide(say, n=3, weight="calibrated")
    assert (decision.order[0], decision.degraded) == (2, None)
    decision, _ = await decide(lambda i: judged(i, -5.0, text=texts[i]), n=3, weight="calibrated")
    assert (decision.order[0], decision.degraded) == (0, "uncalibrated")


async def test_a_vote_without_a_reward_has_no_weight_and_where_none_has_any_each_counts_one() -> None:
    decision, _ = await decide(["7", "7", "3"], rewards=[None, None, 0.1], weight="reward")
    assert (decision.order[0], decision.degraded) == (2, "reward_partial")
    decision, _ = await decide(["7", "3", "7"], rewards=[None, None, None], weight="reward")
    assert (decision.order[0], decision.degraded) == (0, "reward_unavailable")
    assert decision.outcomes.fallback == 1.0
    decision, _ = await decide(["3", "7", "7"], rewards=[-1.0, -3.0, -2.0], weight="reward")
    assert (decision.order[0], decision.degraded) == (2, None)


NUMBERS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), min_size=1, max_size=10)


def elected(votes: Sequence[tuple[int, int]], weight: str, power: float = 1.0, scale: int = 1) -> int:
    """Which number wins, by the parts that the strategy is made of."""
    found = [judged(i, float(reward * scale), text=f"it is {said}") for i, (said, reward) in enumerate(votes)]
    classes = ballots(found, lambda text: text.split()[-1], unjudged_passes=False)
    counted = weights(found, range(len(found)), weight, power)  # type: ignore[arg-type]
    return max(classes, key=lambda said: sum(counted[one] for one in classes[said]))  # type: ignore[return-value]


@settings(deadline=None)
@given(NUMBERS, st.randoms(use_true_random=False))
def test_whoever_leads_alone_leads_in_any_order(votes: list[tuple[int, int]], rng: random.Random) -> None:
    shuffled = rng.sample(votes, len(votes))
    for weight in ("none", "reward", "rank"):
        found = [judged(i, float(reward), text=str(said)) for i, (said, reward) in enumerate(votes)]
        counted = weights(found, range(len(found)), weight)
        sums = sorted(
            sum(counted[i] for i, (said, _) in enumerate(votes) if said == one) for one in {said for said, _ in votes}
        )
        if len(sums) == 1 or sums[-1] > sums[-2]:
            assert elected(votes, weight) == elected(shuffled, weight)


@settings(deadline=None)
@given(NUMBERS)
def test_equal_weights_are_the_majority(votes: list[tuple[int, int]]) -> None:
    level = [(said, 3) for said, _ in votes]
    assert elected(level, "reward") == elected(level, "rank") == elected(votes, "none") == elected(votes, "rank", 0.0)


@settings(deadline=None)
@given(NUMBERS, st.sampled_from([2, 8, 1024]))
def test_the_scale_of_rewards_decides_nothing(votes: list[tuple[int, int]], scale: int) -> None:
    for weight in ("reward", "rank"):
        assert elected(votes, weight, scale=scale) == elected(votes, weight)


@settings(deadline=None)
@given(NUMBERS, st.integers(0, 9))
def test_one_more_vote_for_the_winner_keeps_it(votes: list[tuple[int, int]], reward: int) -> None:
    winner = elected(votes, "none")
    assert elected([*votes, (winner, reward)], "none") == winner
    winner = elected(votes, "reward")
    if any(reward for _, reward in votes):
        assert elected([*votes, (winner, reward)], "reward") == winner


def test_borda_gives_the_best_n_and_equal_ones_the_same() -> None:
    found = [judged(i, reward) for i, reward in enumerate([0.5, 9.0, 0.5, -1.0])]
    assert weights(found, range(4), "rank") == {0: 2.5, 1: 4.0, 2: 2.5, 3: 1.0}
    assert weights(found, range(4), "rank", 2.0)[1] == 16.0


async def test_a_majority_stops_once_it_is_sure_of_its_leader() -> None:
    assert (await decide(["7"] * 16, confidence=0.95))[1] == [4]
    # 3 : 1 takes three more of the same; 6 : 1 is sure at 0.965.
    assert (await decide(["7", "7", "7", "3", *["7"] * 12], confidence=0.95, wave=1))[1] == [4, 3]
    decision, waves = await decide(["1", "2"] * 8, confidence=0.95)
    assert sum(waves) == 16
    assert decision.degraded is None


async def test_no_more_are_sampled_than_could_change_the_majority() -> None:
    # 3 of 5 are enough, however unsure.
    assert (await decide(["7"] * 5, confidence=0.99, wave=1))[1] == [3]
    # 3 : 1 of 7 could still be 3 : 4; 4 : 1 could not.
    assert (await decide(["7", "7", "3", "7", "7", "3", "3"], confidence=0.99, wave=1))[1] == [4, 1]


async def test_as_many_as_are_wanted_are_sampled_however_sure_it_is() -> None:
    assert (await decide(["7"] * 16, confidence=0.95, task={"deliver": 6}))[1] == [6]


async def test_without_a_confidence_or_with_weights_all_are_sampled_at_once() -> None:
    assert (await decide(["7"] * 16, confidence=None))[1] == [16]
    assert (await decide(["7"] * 16, weight="rank"))[1] == [16]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=40, max_size=40))
def test_waves_stop_where_asking_one_by_one_would_have(answers: list[int]) -> None:
    def counts(of: Sequence[int]) -> list[int]:
        return [of.count(one) for one in set(of)]

    def settled(of: Sequence[int]) -> bool:
        first, second, *_ = sorted([*counts(of), 0, 0], reverse=True)
        return stops(counts(of), 0.95) or first - second > 40 - len(of)

    asked = 0
    while needed := votes_needed(counts(answers[:asked]), 0.95, 40 - asked):
        assert not any(settled(answers[:one]) for one in range(1, asked + needed))
        asked += needed
    assert settled(answers[:asked]) or asked == 40


async def test_it_agrees_with_the_full_vote_as_often_as_it_says_and_saves_samples() -> None:
    rng, agreed, sampled, requests = random.Random(8), 0, [], 300
    for _ in range(requests):
        chances = [rng.uniform(0.3, 2.0), 0.3, 0.2, 0.1]
        said = [str(one) for one in rng.choices(range(4), chances, k=40)]
        full, _ = await decide(said, confidence=None)
        early, waves = await decide(said, confidence=0.95, wave=1)
        sampled.append(sum(waves))
        answers = [said[one.order[0]] for one in (full, early)]
        agreed += answers[0] == answers[1]
    # 95 % less five standard errors; the first answer alone would agree in two of three cases.
    assert agreed / requests > 0.95 - 5 * 0.0126
    assert fmean(sampled) < 0.6 * 40


async def test_a_rule_that_draws_draws_among_those_that_gave_the_winning_answer() -> None:
    chooser = Chooser(SelectionConfig(rule="soft", temperature=1.0), rng=random.Random(0))
    decision, _ = await decide(["7", "3", "7", "7", "3"], rewards=[1, 9, 2, 3, 8], task={"chooser": chooser})
    chances = decision.outcomes.candidates
    assert (chances[1], chances[4]) == (0.0, 0.0)
    assert sum(chances) == pytest.approx(1.0)
    assert min(chances[0], chances[2], chances[3]) > 0
    assert {*decision.order[:3]} == {0, 2, 3}
    assert decision.order[3:] in {(1, 4), (4, 1)}


async def test_the_same_text_is_pooled_on_the_earliest_of_those_that_say_it() -> None:
    decision, _ = await decide(lambda i: judged(i, 1.0, text="it is 7"), n=4)
    assert decision.order[0] == 0
    assert decision.outcomes.candidates == (1.0, 0.0, 0.0, 0.0)


async def test_a_deadline_counts_the_votes_that_are_in() -> None:
    sampler = ScriptedSampler(pause_s=0.2)
    decision, _ = await decide(["7"] * 100, sampler=sampler, seconds=0.5)
    assert decision.degraded == "deadline"
    assert 1 <= len(decision.judged) < 25
    with pytest.raises(DeadlineExceeded):
        await decide(["7"] * 4, sampler=ScriptedSampler(pause_s=5.0), seconds=0.05)


async def test_what_a_lost_worker_left_votes() -> None:
    sampler = ScriptedSampler(failure=WorkerError("gone"), fail_after=3)
    decision, _ = await decide(["3", "7", "7", "3", "3"], sampler=sampler)
    assert (decision.order[0], decision.degraded) == (1, "worker_partial")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"power": 2.0}, "power does something with weight: rank only"),
        ({"weight": "reward", "confidence": 0.9}, "confidence does something with weight: none only"),
        ({"weight": "rank", "wave": 2}, "wave does something with weight: none only"),
        ({"extract": "regex"}, "extract: regex needs pattern"),
        ({"extract": "regex", "pattern": "("}, "is no regular expression of RE2"),
        ({"pattern": "x"}, "pattern does something with extract: regex only"),
        ({"extract": "json_field"}, "extract: json_field needs json_field"),
        ({"confidence": 1.0}, "less than 1"),
    ],
)
def test_options_that_contradict_each_other_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said.replace("(", r"\(")):
        VoteOptions.model_validate(options)


def test_only_a_weighed_vote_needs_a_reward() -> None:
    assert VoteOptions().needs == frozenset()
    assert VoteOptions(weight="rank").needs == {"reward"}
