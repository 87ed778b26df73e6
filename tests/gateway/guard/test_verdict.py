from hypothesis import given
from hypothesis import strategies as st

from gateway.guard.verdict import Rules, by_guard, merged, nearness, verdict_of
from gateway.log.records import Verdict
from scorers.contract import Score

RULES = Rules(0.5, {"insult": 0.8, "strict:insult": 0.2}, "refuse", {"spam": "flag", "strict:spam": "block"})


def test_a_category_flags_at_its_threshold() -> None:
    verdict = verdict_of(Score(categories={"danger": 0.5, "other": 0.49}), RULES, "guard")
    assert verdict.flagged == ["danger"]
    assert verdict.categories == {"danger": 0.5, "other": 0.49}


def test_a_category_of_its_own_threshold_ignores_the_general_one() -> None:
    assert verdict_of(Score(categories={"insult": 0.7}), RULES, "guard").flagged == []
    assert verdict_of(Score(categories={"insult": 0.8}), RULES, "guard").flagged == ["insult"]


def test_one_guards_own_threshold_and_action_come_before_the_categorys() -> None:
    assert verdict_of(Score(categories={"insult": 0.3}), RULES, "strict").flagged == ["insult"]
    assert verdict_of(Score(categories={"spam": 0.9}), RULES, "strict").blocked == ["spam"]
    assert verdict_of(Score(categories={"spam": 0.9}), RULES, "guard").blocked == []


def test_what_is_only_noted_does_not_keep_a_text_back() -> None:
    verdict = verdict_of(Score(categories={"spam": 0.9, "danger": 0.1}), RULES, "guard")
    assert (verdict.flagged, verdict.blocked, verdict.noted) == ([], [], ["spam"])


def test_what_blocks_keeps_a_text_back_too() -> None:
    verdict = verdict_of(Score(categories={"a": 0.9}), Rules(0.5, action="block"), "guard")
    assert (verdict.flagged, verdict.blocked, verdict.noted) == (["a"], ["a"], [])


def test_a_failed_score_is_neither_pass_nor_flag() -> None:
    verdict = verdict_of(Score(error="down"), RULES, "guard")
    assert verdict.error == "down"
    assert verdict.flagged == []


def test_a_reward_in_place_of_categories_is_no_pass() -> None:
    assert verdict_of(Score(value=3.0), RULES, "guard").error is not None


def test_a_verdict_on_two_stretches_keeps_the_worse_of_both() -> None:
    first = Verdict(categories={"a": 0.2, "b": 0.9}, flagged=["b"])
    second = Verdict(categories={"a": 0.6, "c": 0.1}, flagged=["a"], blocked=["a"], noted=["c"])
    assert merged(first, second) == Verdict(
        categories={"a": 0.6, "b": 0.9, "c": 0.1}, flagged=["b", "a"], blocked=["a"], noted=["c"]
    )
    assert merged(None, second) == second
    assert merged(first, Verdict(error="away", unreadable=True)).error == "away"


def test_categories_of_one_name_are_one_category_and_each_guards_own_say_is_kept() -> None:
    mild = by_guard(verdict_of(Score(categories={"insult": 0.7}), RULES, "mild"), "mild@1")
    strict = by_guard(verdict_of(Score(categories={"insult": 0.3}), RULES, "strict"), "strict@2")
    verdict = merged(mild, strict)
    # 0.7 is below the one's threshold, 0.3 above the other's.
    assert verdict.flagged == ["insult"]
    assert verdict.categories == {"insult": 0.7}
    assert verdict.guards == {"mild@1": {"insult": 0.7}, "strict@2": {"insult": 0.3}}


names = st.sampled_from(["a", "b", "c"])
verdicts = st.builds(
    Verdict,
    categories=st.dictionaries(names, st.floats(0, 1)),
    flagged=st.lists(names, unique=True),
    noted=st.lists(names, unique=True),
    error=st.none() | st.just("away"),
)


@given(st.lists(verdicts, min_size=1, max_size=4))
def test_merging_forgets_no_flag_and_no_failure_and_lowers_nothing(several: list[Verdict]) -> None:
    whole: Verdict | None = None
    for one in several:
        whole = merged(whole, one)
    assert whole is not None
    assert set(whole.flagged) == {name for one in several for name in one.flagged}
    assert set(whole.noted) == {name for one in several for name in one.noted}
    assert (whole.error is None) == all(one.error is None for one in several)
    for one in several:
        assert all(whole.categories[name] >= value for name, value in one.categories.items())


def test_nearness_is_the_largest_share_of_a_threshold_and_flags_at_one() -> None:
    verdict = verdict_of(Score(categories={"danger": 0.25, "insult": 0.6, "spam": 0.1}), RULES, "guard")
    assert nearness(verdict, RULES, "guard") == 0.6 / 0.8
    assert nearness(verdict, RULES, "strict") == 0.6 / 0.2
    assert nearness(Verdict(categories={"danger": 0.5}, flagged=["danger"]), RULES, "guard") == 1.0


def test_nearness_holds_each_guards_probability_against_that_guards_threshold() -> None:
    by_two = merged(
        by_guard(Verdict(categories={"insult": 0.4}), "guard@2"),
        by_guard(Verdict(categories={"insult": 0.15}), "strict@1"),
    )
    # 0.4 of 0.8 and 0.15 of 0.2; the larger probability against the smaller threshold would be 2.
    assert nearness(by_two, RULES, "guard") == 0.15 / 0.2


@given(st.dictionaries(st.sampled_from(["insult", "danger", "spam"]), st.floats(0, 1)), st.floats(0.01, 1))
def test_nearness_reaches_one_where_a_category_flags_or_is_noted(found: dict[str, float], threshold: float) -> None:
    rules = Rules(threshold, actions={"spam": "flag"})
    verdict = verdict_of(Score(categories=found), rules, "guard")
    assert (nearness(verdict, rules, "guard") >= 1) == bool(verdict.flagged or verdict.noted)


def test_nothing_is_near_where_no_guard_said_anything() -> None:
    assert nearness(Verdict(error="down"), RULES, "guard") == 0.0
