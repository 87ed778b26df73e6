"""Which two are compared, against all that could have been drawn; and the draws that an id makes."""

import math
from itertools import combinations
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.comparison.pair import Draw, Pair, pair_of
from gateway.comparison.settings import Against
from gateway.decoding.candidate import Judged
from gateway.decoding.selection.chooser import Chooser
from gateway.decoding.selection.settings import RuleName, SelectionConfig
from gateway.ids import new_completion_id
from tests.gateway.decoding.judged import judged

AGAINST: tuple[Against, ...] = ("best", "random")
FIRST = Draw(0.0, 0.0, 0.0)


def found(
    candidates: list[Judged], chosen: int, chances: list[float], against: Against, drawn: Draw = FIRST
) -> Pair | None:
    return pair_of(candidates, Chooser().peers(candidates, chosen), chosen, chances, against, drawn)


def test_the_best_of_the_others_by_reward_stands_against_the_chosen_one() -> None:
    four = [judged(index, reward, text=str(index)) for index, reward in enumerate((1.0, 3.0, 2.0, 0.0))]
    pair = found(four, 1, [0, 1, 0, 0], "best")
    assert pair == Pair(1, 2, 1.0, (1, 2))
    soft = found(four, 3, [0.1, 0.6, 0.2, 0.1], "best", Draw(0.0, 0.0, 0.7))
    # 3 was drawn and 1 is the best beside it; were 1 drawn, 2 would be.
    assert soft == Pair(3, 1, 0.1, (1, 3))


def test_with_random_any_other_is_as_likely() -> None:
    three = [judged(index, float(index), text=str(index)) for index in range(3)]
    pairs = [found(three, 2, [0.0, 0.25, 0.75], "random", Draw(0.0, drawn, 0.0)) for drawn in (0.0, 0.49, 0.5, 0.999)]
    assert [pair and (pair.other, pair.propensity) for pair in pairs] == [(1, 0.5), (1, 0.5), (0, 0.375), (0, 0.375)]


def test_candidates_that_say_the_same_are_one() -> None:
    twice = [judged(0, 2.0, text="a"), judged(1, 2.0, text="a"), judged(2, 1.0, text="b")]
    assert found(twice, 0, [1, 0, 0], "best") == Pair(0, 2, 1.0, (0, 2))
    assert found(twice[:2], 0, [1, 0], "best") is None
    # The second of the same was drawn first by a rule that does not pool: it stands for both.
    assert found(twice, 1, [0.5, 0.5, 0], "random") == Pair(1, 2, 1.0, (1, 2))


def test_those_that_rank_behind_whatever_their_reward_are_not_shown() -> None:
    best = judged(0, 1.0, text="a")
    for lesser in (
        judged(1, 5.0, text="b", broken="x"),
        judged(1, None, text="b"),
        judged(1, 5.0, text="b", stages=-1),
    ):
        assert found([best, lesser], 0, [1, 0], "best") is None


def test_without_rewards_the_next_to_finish_stands_against_the_first() -> None:
    chooser = Chooser(rewarded=False)
    three = [judged(index, None, text=str(index), finished_s=at) for index, at in enumerate((3.0, 1.0, 2.0))]
    pair = pair_of(three, chooser.peers(three, 1), 1, [0, 1, 0], "best", FIRST)
    assert pair is not None and pair.other == 2


def test_the_chosen_one_must_be_one_that_may_be_shown() -> None:
    two = [judged(0, 1.0, text="a"), judged(1, 0.0, text="b")]
    assert pair_of(two, [1], 0, [1, 0], "best", FIRST) is None


RULES = st.sampled_from(get_args(RuleName))
REWARDS = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.5]), min_size=2, max_size=5)


@pytest.mark.parametrize("against", AGAINST)
@given(rewards=REWARDS, texts=st.data(), rule=RULES)
def test_the_propensities_of_all_pairs_that_there_can_be_sum_to_one(
    against: Against, rewards: list[float], texts: st.DataObject, rule: RuleName
) -> None:
    said = texts.draw(st.lists(st.sampled_from("abc"), min_size=len(rewards), max_size=len(rewards)))
    candidates = [judged(index, one, text=text) for index, (one, text) in enumerate(zip(rewards, said, strict=True))]
    chooser = Chooser(SelectionConfig(rule=rule))
    ranking = chooser.rank(candidates)
    chances = ranking.outcomes.candidates
    probability = dict[frozenset[str], float]()
    claimed: dict[frozenset[str], float] = {}
    for chosen, chance in enumerate(chances):
        if not chance:
            continue
        for step in range(60):  # A multiple of each number of others, so that each is met as often.
            drawn = Draw(0.0, (step + 0.5) / 60, 0.0)
            pair = pair_of(candidates, chooser.peers(candidates, chosen), chosen, chances, against, drawn)
            if pair is None:
                assert len(set(said)) == 1
                return
            both = frozenset((said[pair.chosen], said[pair.other]))
            assert pair.chosen == chosen and len(both) == 2
            probability[both] = probability.get(both, 0.0) + chance / 60
            assert claimed.setdefault(both, pair.propensity) == pytest.approx(pair.propensity)
    assert math.isclose(math.fsum(claimed.values()), 1.0, rel_tol=1e-9)
    for both, propensity in claimed.items():
        assert probability[both] == pytest.approx(propensity)
    assert claimed.keys() <= {frozenset(two) for two in combinations(set(said), 2)}


def test_an_id_always_draws_the_same() -> None:
    identifier = "chatcmpl-0198c0de-0000-7000-8000-000000000000"
    # Fixed for good: the log is read by whoever draws again.
    assert Draw.of(identifier) == Draw(0.40297717358127083, 0.42014018390376495, 0.4195678671930587)


def test_what_ids_draw_is_uniform() -> None:
    draws = [Draw.of(f"chatcmpl-0198c0de-0000-7000-8000-{number:012x}") for number in range(4000)]
    deviation = math.sqrt(1 / 12 / len(draws))
    for name in ("asked", "other", "order"):
        values = [getattr(draw, name) for draw in draws]
        assert all(0 <= value < 1 for value in values)
        assert abs(math.fsum(values) / len(values) - 0.5) < 5 * deviation
    assert Draw.of(new_completion_id()) != Draw.of(new_completion_id())
