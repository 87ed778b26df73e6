from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.comparison.pick import Pick, pick_of, picked
from gateway.errors import BadRequest
from gateway.log.records import Feedback
from gateway.log.votes import merge, standing

SHOWN = (5, 2)


def pick(retracted: bool = False, **said: Any) -> Pick:
    body = {"choice": None, "candidate": None, "over": None, "value": None, **said}
    return pick_of(SHOWN, **body, retracted=retracted)


def vote(**said: Any) -> Feedback:
    found = pick(**said)
    return Feedback("1", "i", 0.0, "preference", found.value, found.candidate, found.over, shown=list(SHOWN))


def test_the_better_one_is_named_by_its_place_or_as_a_candidate() -> None:
    assert pick(choice=0) == Pick(5, 2, 1)
    assert pick(choice=1, value=3) == Pick(2, 5, 3)
    assert pick(candidate=2, over=5, value=4) == Pick(2, 5, 4)
    assert pick(value="tie") == Pick(5, 2, "tie")
    assert pick(candidate=2, over=5, value="both_bad") == Pick(2, 5, "both_bad")


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({}, "choice"),
        ({"value": 2}, "choice"),
        ({"choice": 2}, "choice"),
        ({"choice": -1}, "choice"),
        ({"choice": 0, "value": "tie"}, "choice"),
        ({"choice": 0, "candidate": 5}, "choice"),
        ({"choice": 0, "over": 5}, "choice"),
        ({"candidate": 3, "over": 2, "value": 1}, "candidate"),
        ({"candidate": 5, "over": 3, "value": 1}, "over"),
        ({"candidate": 5, "value": 1}, "over"),
        ({"over": 5, "value": 1}, "candidate"),
    ],
)
def test_a_pick_of_anything_else_is_refused(said: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as refused:
        pick(**said)
    assert refused.value.param == field


def test_a_pick_is_taken_back_without_saying_which() -> None:
    assert pick(retracted=True) == Pick(5, 2, None)


@pytest.mark.parametrize(
    ("said", "place"),
    [
        ({"choice": 0}, "first"),
        ({"choice": 1, "value": 4}, "second"),
        ({"candidate": 2, "over": 5, "value": 1}, "second"),
        ({"value": "tie"}, "tie"),
        ({"value": "both_bad"}, "both_bad"),
    ],
)
def test_a_stored_pick_tells_its_place(said: dict[str, Any], place: str) -> None:
    assert picked(vote(**said)) == place


def test_other_votes_are_no_picks() -> None:
    assert picked(Feedback("1", "i", 0.0, "thumbs", True)) is None
    assert picked(Feedback("1", "i", 0.0, "preference", 2, 1, 0)) is None


PICKS = st.sampled_from([{"choice": 0}, {"choice": 1, "value": 2}, {"value": "tie"}, {"value": "both_bad"}])


@given(st.lists(st.tuples(PICKS, st.sampled_from(["ann", "bob"]), st.booleans()), max_size=8), st.randoms())
def test_of_each_user_the_last_pick_stands_whatever_it_was(said: list[Any], shuffled: Any) -> None:
    votes, last = [], {}
    for number, (body, user, retracted) in enumerate(said):
        one = msgspec.structs.replace(vote(**body), id=f"{number:04}", user=user, retracted=retracted)
        votes.append(one)
        last[user] = one
    shuffled.shuffle(votes)
    expected = [one for one in last.values() if not one.retracted]
    assert standing(merge(votes).values()) == sorted(expected, key=lambda one: one.id)
