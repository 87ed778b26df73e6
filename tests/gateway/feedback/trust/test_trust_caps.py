import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.feedback.trust.ballots import ballots, by_id
from gateway.feedback.trust.caps import capped
from tests.gateway.feedback.trust.traffic import DAY, START, World

VOTES = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", None]),
        st.sampled_from(["k", "l", None]),
        st.sampled_from(["s", None]),
        st.integers(0, 2),
        st.floats(0, 1),
    ),
    max_size=60,
)


@given(VOTES, st.floats(0.5, 5), st.floats(0.5, 10))
def test_nobody_and_no_key_has_more_weight_in_a_day_than_its_cap(
    given_votes: list[tuple[str | None, str | None, str | None, int, float]], user_cap: float, key_cap: float
) -> None:
    world, weights = World(0), {}
    day = math.ceil(START / DAY) * DAY
    for user, key, source, number, weight in given_votes:
        asked = world.ask("Why?", ["So."], user=None, at=START)
        vote = world.vote(asked, user=user, at=day + number * DAY, key=key, source=source)
        weights[vote.id] = weight
    cast = ballots(by_id(world.interactions), world.votes)
    found = capped(cast, weights, user_cap=user_cap, key_cap=key_cap)
    users: dict[object, float] = {}
    keys: dict[object, float] = {}
    for ballot in cast:
        assert 0 <= found[ballot.id] <= weights[ballot.id]
        on = ballot.vote.created
        if ballot.vote.key is not None:
            keys[ballot.vote.key, on] = keys.get((ballot.vote.key, on), 0.0) + found[ballot.id]
        if ballot.vote.user is not None:
            users[ballot.vote.user, on] = users.get((ballot.vote.user, on), 0.0) + found[ballot.id]
    assert all(total <= user_cap + 1e-9 for total in users.values())
    assert all(total <= key_cap + 1e-9 for total in keys.values())


def test_what_is_over_the_cap_is_scaled_and_keeps_its_proportions() -> None:
    world = World(0)
    asked = [world.ask("Why?", ["So."], user="ann", at=START) for _ in range(4)]
    votes = [world.vote(one, user="ann", at=START) for one in asked]
    weights = {vote.id: 0.25 * (n + 1) for n, vote in enumerate(votes)}
    found = capped(ballots(by_id(asked), votes), weights, user_cap=1.0, key_cap=9.0)
    assert [found[vote.id] for vote in votes] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    other_model = [world.ask("Why?", ["So."], user="ann", at=START, model="other") for _ in range(2)]
    more = [world.vote(one, user="ann", at=START) for one in other_model]
    weights |= {vote.id: 0.5 for vote in more}
    found = capped(ballots(by_id(world.interactions), world.votes), weights, user_cap=1.0, key_cap=9.0)
    assert [found[vote.id] for vote in more] == [0.5, 0.5]
