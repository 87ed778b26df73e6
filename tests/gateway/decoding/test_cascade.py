from hypothesis import given
from hypothesis import strategies as st

from gateway.decoding.cascade import contenders, going_on, steps_of
from gateway.profile_settings import PruneStage
from scorers.contract import Score
from tests.gateway.decoding.judged import judged
from tests.gateway.scorer_stubs import handle, rewards

SCORERS = {name: handle(name, rewards()) for name in ("small", "middle", "large")}
STAGES = [PruneStage(scorer="small", keep=8), PruneStage(scorer="middle", keep=4)]


def test_stages_that_could_give_nothing_up_are_left_out() -> None:
    def turns(n: int) -> list[tuple[str, int | None]]:
        return [(step.scorer.name, step.keep) for step in steps_of(STAGES, "large", SCORERS, n)]

    assert turns(16) == [("small", 8), ("middle", 4), ("large", None)]
    assert turns(8) == [("middle", 4), ("large", None)]
    assert turns(4) == [("large", None)]


def test_without_a_reward_model_nobody_has_a_turn() -> None:
    assert steps_of([], None, SCORERS, 16) == ()


def test_only_the_safe_that_keep_the_form_may_still_win() -> None:
    found = [judged(0, 1.0, flagged=True), judged(1, 1.0, broken="no JSON"), judged(2, 1.0), judged(3, 1.0)]
    assert contenders(found, unjudged_passes=False) == [2, 3]
    assert contenders(found[:2], unjudged_passes=False) == [1]
    assert contenders(found[:1], unjudged_passes=False) == []


def test_one_that_the_guard_could_not_judge_may_win_only_where_the_profile_lets_it_pass() -> None:
    found = [judged(0, 1.0, unjudged=True), judged(1, 1.0)]
    assert contenders(found, unjudged_passes=False) == [1]
    assert contenders(found, unjudged_passes=True) == [0, 1]


scores = st.lists(
    st.one_of(st.floats(-1e6, 1e6).map(lambda value: Score(value=value)), st.just(Score(error="failed"))),
    min_size=1,
    max_size=16,
).map(lambda found: {bytes([index]): score for index, score in enumerate(found)})


@given(scores, st.integers(1, 16))
def test_the_best_go_on_and_the_missing_beside_them(asked: dict[bytes, Score], keep: int) -> None:
    kept = going_on(asked, keep)
    values = {text: score.value for text, score in asked.items() if score.value is not None}
    if not values:
        assert kept is None
        return
    assert kept is not None
    assert kept == [text for text in asked if text in kept]
    assert all(text in kept for text in asked if text not in values)
    stay = [text for text in kept if text in values]
    assert len(stay) == min(keep, len(values))
    given_up = [value for text, value in values.items() if text not in kept]
    assert all(values[text] >= value for text in stay for value in given_up)


def test_ties_go_to_the_earlier() -> None:
    assert going_on({b"a": Score(value=1.0), b"b": Score(value=1.0), b"c": Score(value=1.0)}, 2) == [b"a", b"b"]
