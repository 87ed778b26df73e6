import math
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.decoding.candidate import Judged, identity
from gateway.decoding.card import FORMAT, LengthPoint, ModelCard
from gateway.decoding.laws.best_of_n import kl
from gateway.decoding.selection.chooser import Chooser, kl_to_any
from gateway.decoding.selection.settings import Floor, SelectionConfig
from scorers.calibration.quantiles import law_of
from scorers.contract import Score
from tests.gateway.decoding.judged import judged, rank

rewards = st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=16)


@given(rewards)
def test_the_largest_reward_wins_and_ties_go_to_the_earliest(values: list[float]) -> None:
    ranking = rank([judged(i, value) for i, value in enumerate(values)])
    assert ranking.order[0] == values.index(max(values))
    assert sorted(ranking.order) == list(range(len(values)))


@given(rewards, st.randoms())
def test_permuting_candidates_with_distinct_rewards_permutes_the_ranking(values: list[float], random: object) -> None:
    distinct = sorted(set(values))
    shuffled = list(distinct)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    ranking = rank([judged(i, value) for i, value in enumerate(shuffled)])
    assert [shuffled[position] for position in ranking.order] == distinct[::-1]


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=16), st.integers(1, 9), st.integers(-9, 9))
def test_a_positive_affine_map_of_all_rewards_changes_nothing(values: list[int], scale: int, shift: int) -> None:
    before = rank([judged(i, float(value)) for i, value in enumerate(values)])
    after = rank([judged(i, float(scale * value + shift)) for i, value in enumerate(values)])
    assert before == after


def test_large_rewards_are_compared_raw_where_a_sigmoid_would_tie_them() -> None:
    assert 1 / (1 + math.exp(-40.0)) == 1 / (1 + math.exp(-41.0))
    assert rank([judged(0, 40.0), judged(1, 41.0)]).order == (1, 0)


def test_a_flagged_candidate_never_wins_however_large_its_reward() -> None:
    ranking = rank([judged(0, 100.0, flagged=True), judged(1, -5.0)])
    assert ranking.order == (1,)
    assert ranking.outcomes.candidates == (0.0, 1.0)


def test_a_missing_reward_loses_to_any_present_one() -> None:
    assert rank([judged(0, None), judged(1, -1e9)]).order == (1, 0)


def test_when_all_rewards_are_missing_the_first_that_finished_wins() -> None:
    ranking = rank([judged(0, None, finished_s=3.0), judged(1, None, finished_s=1.0), judged(2, None, finished_s=2.0)])
    assert ranking.order == (1, 2, 0)


def test_an_unjudged_candidate_is_delivered_only_where_the_profile_lets_it_pass() -> None:
    one = [judged(0, 1.0, unjudged=True)]
    assert rank(one).order == ()
    assert rank(one, unjudged_passes=True).order == (0,)


def test_when_nothing_is_safe_nothing_is_ranked_and_no_probability_is_given() -> None:
    ranking = rank([judged(0, 1.0, flagged=True)])
    assert ranking.order == ()
    assert sum(ranking.outcomes.candidates) == 0


def test_what_a_stage_gave_up_ranks_after_all_that_went_on_and_the_later_the_better() -> None:
    ranking = rank(
        [
            judged(0, None, prior=9.0, stages=0, pruned_by="a@1"),
            judged(1, None, prior=0.1, stages=1, pruned_by="b@1"),
            judged(2, -100.0, prior=0.2, stages=2),
            judged(3, None, prior=9.5, stages=0, pruned_by="a@1"),
            judged(4, None, prior=0.3, stages=2),
        ]
    )
    assert ranking.order == (2, 4, 1, 3, 0)
    assert ranking.outcomes.candidates == (0.0, 0.0, 1.0, 0.0, 0.0)


def test_without_any_reward_the_stages_before_decide_and_then_the_first_that_finished() -> None:
    assert rank([judged(0, None, prior=1.0), judged(1, None, prior=2.0)]).order == (1, 0)
    late_and_early = [judged(0, None, finished_s=2.0), judged(1, None, finished_s=1.0), judged(2, None, prior=-5.0)]
    assert rank(late_and_early).order == (2, 1, 0)


def test_one_that_breaks_the_form_ranks_after_what_was_pruned() -> None:
    pruned = judged(1, None, prior=0.0, pruned_by="a@1")
    assert rank([judged(0, None, broken="no JSON"), pruned, judged(2, 1.0, stages=1)]).order == (2, 1, 0)


@st.composite
def candidates_of(draw: st.DrawFn) -> list[Judged]:
    """Mixes of all that can befall a candidate; texts and rewards that repeat."""
    found = []
    for index in range(draw(st.integers(1, 10))):
        reward = draw(st.one_of(st.none(), st.integers(-3, 3).map(float)))
        staged: dict[str, Any] = draw(st.sampled_from([{}, {"stages": 1}, {"pruned_by": "cheap@1"}]))
        if "pruned_by" in staged:
            reward = None
        parts = draw(st.sampled_from([{}, {"harmless": -1.0}, {"harmless": -2.0}, {"harmless": 1.0}]))
        found.append(
            judged(
                index,
                reward,
                flagged=draw(st.booleans()) and draw(st.booleans()),
                unjudged=draw(st.integers(0, 4)) == 0,
                text=draw(st.sampled_from("abcdef")),
                finished_s=draw(st.floats(0, 9)),
                broken=draw(st.sampled_from([None, None, "no JSON"])),
                prior=draw(st.one_of(st.none(), st.floats(-1, 1))) if staged else None,
                scores={"e@1": Score(value=reward or 0.0, parts=parts)},
                **staged,
            )
        )
    return found


SETTINGS = st.builds(
    SelectionConfig,
    rule=st.sampled_from(["argmax", "soft", "poisson", "pessimism"]),
    explore=st.sampled_from([0.0, 0.2, 1.0]),
    floor=st.sampled_from([None, Floor(part="harmless", least=0.0)]),
    length=st.booleans(),
)


@settings(max_examples=300)
@given(candidates_of(), SETTINGS, st.booleans(), st.booleans())
def test_in_every_situation_the_outcomes_sum_to_one_and_only_what_may_win_has_a_share(
    candidates: list[Judged], config: SelectionConfig, rewarded: bool, passes: bool
) -> None:
    ranking = Chooser(config, rewarded, rng=Random(1)).rank(candidates, unjudged_passes=passes)
    outcomes, order = ranking.outcomes, ranking.order
    chances = outcomes.candidates
    assert math.fsum(chances) + outcomes.refusal + outcomes.fallback == pytest.approx(1.0, abs=1e-12)
    safe = [at for at, one in enumerate(candidates) if one.safe(passes)]
    assert sorted(order) == safe
    assert all(at in safe for at, chance in enumerate(chances) if chance)
    assert outcomes.refusal == float(not safe)
    assert (outcomes.kl_bound is None) == (not safe)
    assert outcomes.kl_bound is None or 0.0 <= outcomes.kl_bound <= math.log(len(safe)) + 1e-9
    if not outcomes.fallback and safe:
        assert chances[order[0]] > 0.0
    whole = [at for at in safe if candidates[at].broken is None]
    drawable = [candidates[at] for at, chance in enumerate(chances) if chance]
    assert not (whole and any(one.broken for one in drawable))
    if rewarded:
        assert all(one.reward is not None and one.pruned_by is None for one in drawable)
        staged = max((candidates[at].stages for at in whole or safe), default=0)
        assert all(one.stages == staged for one in drawable)
    # What says the same is pooled on one of them.
    assert len({identity(one.candidate.message) for one in drawable}) == len(drawable)


def test_identical_texts_are_pooled_on_the_earliest() -> None:
    config = SelectionConfig(rule="poisson", mean=0.0)
    found = [judged(0, 1.0, text="a"), judged(1, 2.0, text="b"), judged(2, 3.0, text="a"), judged(3, 9.0, text="b")]
    found.append(judged(4, 5.0, text="b", flagged=True))
    assert Chooser(config).rank(found).outcomes.candidates == pytest.approx((0.5, 0.5, 0, 0, 0))
    # Tool calls that differ in nothing but their random ids say the same.
    calls = [
        {"content": None, "tool_calls": [{"id": f"call-{at}", "type": "function", "function": {"name": name}}]}
        for at, name in enumerate(["f", "f", "g"])
    ]
    same = [
        replace(one, candidate=replace(one.candidate, message=call)) for one, call in zip(found, calls, strict=False)
    ]
    assert Chooser(config).rank(same).outcomes.candidates == pytest.approx((2 / 3, 0, 1 / 3))


def distinct(count: int) -> list[Judged]:
    return [judged(at, float((3 * at) % count), text=f"text {at}") for at in range(count)]


@pytest.mark.parametrize("count", [1, 2, 7, 16])
@pytest.mark.parametrize("rule", ["argmax", "soft", "poisson"])
def test_the_bound_of_a_rule_by_rank_is_the_divergence_of_its_ranks(rule: str, count: int) -> None:
    """The integral of f log f, f the density of the drawn rank; log n - H would hold too, and is well above it."""
    config = SelectionConfig.model_validate({"rule": rule})
    outcomes = Chooser(config).rank(distinct(count)).outcomes
    ascending = sorted(range(count), key=lambda at: (3 * at) % count)
    weights = [outcomes.candidates[at] for at in ascending]

    def f_log_f(u: float) -> float:
        density = math.fsum(
            weight * count * math.comb(count - 1, k) * u**k * (1 - u) ** (count - 1 - k)
            for k, weight in enumerate(weights)
        )
        return density * math.log(density) if density else 0.0

    steps = 40_000
    expected = math.fsum(f_log_f((at + 0.5) / steps) for at in range(steps)) / steps
    assert outcomes.kl_bound == pytest.approx(expected, abs=1e-5)
    above = math.log(count) + math.fsum(weight * math.log(weight) for weight in weights if weight)
    assert outcomes.kl_bound is not None and outcomes.kl_bound <= above + 1e-9
    if count > 1:
        assert outcomes.kl_bound < above - 0.01


def test_the_bound_of_pessimism_is_what_its_probabilities_are_from_any_alike() -> None:
    outcomes = Chooser(SelectionConfig(rule="pessimism", beta=0.5)).rank(distinct(5)).outcomes
    expected = math.log(5) + math.fsum(chance * math.log(chance) for chance in outcomes.candidates if chance)
    assert outcomes.kl_bound == pytest.approx(expected)


def test_copies_of_a_text_bring_what_is_drawn_nearer_to_the_policy() -> None:
    found = [judged(0, 1.0, text="a"), judged(1, 1.0, text="a"), judged(2, 0.0, text="b")]
    assert kl_to_any(found, [0, 1, 2], [1.0, 0.0, 0.0]) == pytest.approx(math.log(3 / 2))
    assert kl_to_any(found, [0, 1, 2], [0.5, 0.5, 0.0]) == pytest.approx(math.log(3 / 2))
    assert kl_to_any(found, [0, 1, 2], [2 / 3, 0.0, 1 / 3]) == pytest.approx(0.0, abs=1e-12)


def card_of(deviation: float = 1.0, length: list[LengthPoint] | None = None) -> ModelCard:
    return ModelCard(
        format=FORMAT,
        model="m",
        policy="m@1",
        reward_model="reward@1",
        created=0.0,
        prompts=2,
        answers=4,
        law=law_of([0.0, 1.0]),
        deviation=deviation,
        residuals=[-1.0, 1.0],
        mean_tokens=10.0,
        length=length or [],
    )


def test_pessimism_counts_in_deviations_of_the_card_and_raw_without_one() -> None:
    config = SelectionConfig(rule="pessimism", beta=0.5)
    large = [replace(one, reward=10 * (one.reward or 0.0)) for one in distinct(5)]
    raw = Chooser(config).rank(distinct(5)).outcomes
    assert Chooser(config, card=card_of(deviation=10.0)).rank(large).outcomes.candidates == pytest.approx(
        raw.candidates
    )
    # A card of rewards that never differed says nothing of their scale.
    assert Chooser(config, card=card_of(deviation=0.0)).rank(distinct(5)).outcomes == raw


def test_length_is_taken_out_as_the_card_says_and_not_without_it() -> None:
    found = [judged(0, 2.0, text="a"), judged(1, 1.5, text="b")]
    long = replace(found[0], candidate=replace(found[0].candidate, completion_tokens=200))
    card = card_of(length=[LengthPoint(0.0, 0.0), LengthPoint(200.0, 1.0)])
    config = SelectionConfig(length=True)
    assert Chooser(config, card=card).rank([long, found[1]]).order == (1, 0)
    assert Chooser(config).rank([long, found[1]]).order == (0, 1)
    assert Chooser(card=card).rank([long, found[1]]).order == (0, 1)


def with_part(index: int, reward: float, harmless: float | None) -> Judged:
    parts = {} if harmless is None else {"harmless": harmless}
    return judged(index, reward, text=str(index), scores={"e@1": Score(value=reward, parts=parts)})


def test_a_floor_goes_before_the_reward_and_what_is_under_it_ranks_by_how_far() -> None:
    floor = SelectionConfig(floor=Floor(part="harmless", least=0.5))
    found = [with_part(0, 9.0, 0.4), with_part(1, 1.0, 0.5), with_part(2, 2.0, 7.0), with_part(3, 8.0, 0.1)]
    assert Chooser(floor).rank(found).order == (2, 1, 0, 3)
    assert Chooser(floor).rank([found[3], found[0]]).order == (1, 0)
    # One whose part is not known has no say: it ranks behind.
    assert Chooser(floor).rank([with_part(4, 9.0, None), found[3]]).order == (1, 0)


def test_without_a_reward_model_the_first_that_finished_is_certain() -> None:
    found = [judged(0, None, finished_s=2.0, text="a"), judged(1, None, finished_s=1.0, text="b")]
    outcomes = Chooser(SelectionConfig(rule="soft"), rewarded=False).rank(found).outcomes
    assert (outcomes.candidates, outcomes.fallback, outcomes.kl_bound) == ((0.0, 1.0), 0.0, kl(2))
    outcomes = Chooser(SelectionConfig(rule="soft")).rank(found).outcomes
    assert (outcomes.candidates, outcomes.fallback, outcomes.kl_bound) == ((0.0, 0.0), 1.0, kl(2))
