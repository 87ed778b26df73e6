import math

from hypothesis import given
from hypothesis import strategies as st

from gateway.decoding.selection import rank
from tests.gateway.decoding.judged import judged

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
    assert ranking.propensities == (0.0, 1.0)


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
    assert sum(ranking.propensities) == 0


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
    assert ranking.propensities == (0.0, 0.0, 1.0, 0.0, 0.0)


def test_without_any_reward_the_stages_before_decide_and_then_the_first_that_finished() -> None:
    assert rank([judged(0, None, prior=1.0), judged(1, None, prior=2.0)]).order == (1, 0)
    late_and_early = [judged(0, None, finished_s=2.0), judged(1, None, finished_s=1.0), judged(2, None, prior=-5.0)]
    assert rank(late_and_early).order == (2, 1, 0)


def test_one_that_breaks_the_form_ranks_after_what_was_pruned() -> None:
    pruned = judged(1, None, prior=0.0, pruned_by="a@1")
    assert rank([judged(0, None, broken="no JSON"), pruned, judged(2, 1.0, stages=1)]).order == (2, 1, 0)
