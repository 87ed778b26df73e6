from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest
from gateway.log.erase.orders import subject_of
from gateway.log.query import Query
from gateway.log.records import CandidateRecord, Feedback, Interaction, Verdict
from tests.gateway.log.log_samples import interaction, thumb

DAY = datetime(2027, 3, 1, 12, tzinfo=UTC)


def answer(text: Any, **changes: Any) -> CandidateRecord:
    return CandidateRecord(0, {"role": "assistant", "content": text}, "stop", 3, **changes)


def record(**changes: Any) -> Interaction:
    return interaction(created=DAY.timestamp(), **changes)


def asked(content: Any, **changes: Any) -> Interaction:
    return record(messages=[{"role": "user", "content": content}], candidates=[], chosen=None, **changes)


def test_without_any_filter_everything_matches() -> None:
    assert Query().matches(record(), [])
    assert Query().described == "everything"


def test_all_words_must_occur_anywhere_in_any_case() -> None:
    one = record(
        messages=[{"role": "user", "content": "Where is STRASSE 7?"}], candidates=[answer("In Köln.")], chosen=0
    )
    assert Query(text="köln straße").matches(one, [])
    assert not Query(text="köln rome").matches(one, [])
    assert not Query(text="user").matches(one, []), "a role is no text"


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "a needle"}, {"type": "image_url", "image_url": {"url": "https://x"}}],
        [{"type": "input_text", "text": "needle"}],
        "NEEDLE",
    ],
)
def test_parts_of_content_are_read(content: Any) -> None:
    assert Query(text="needle").matches(asked(content), [])
    assert not Query(text="needle").matches(asked("nothing"), [])


def test_tool_calls_and_reasoning_are_read() -> None:
    call = {"type": "function", "function": {"name": "look_up", "arguments": '{"city": "Rome"}'}}
    message = {"role": "assistant", "content": None, "reasoning": "Hm, Oslo.", "tool_calls": [call]}
    one = record(candidates=[CandidateRecord(0, message, "tool_calls", 3)], chosen=0)
    for word in ("rome", "look_up", "oslo"):
        assert Query(text=word).matches(one, [])


def test_what_people_said_is_read() -> None:
    one = record()
    votes = [
        Feedback("1", one.id, 0.0, "correction", "It is Paris, France."),
        thumb(one.id, comment="Rude!", tags=["tone"]),
    ]
    for word in ("paris,", "rude", "tone"):
        assert Query(text=word).matches(one, votes)
        assert not Query(text=word).matches(one, [])


def test_a_regular_expression_is_re2_and_reads_any_case() -> None:
    assert Query(regex=r"order #\d{3}\b").matches(asked("My ORDER #123."), [])
    assert not Query(regex=r"order #\d{3}\b").matches(asked("My order #1234."), [])
    assert Query(regex="GRÜSSE").matches(asked("viele grüße".replace("ß", "ss")), [])
    assert Query(regex="x.y", text="here").matches(asked("here: x\ud800y"), []), "half a character does no harm"


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"regex": "("}, "regex"),
        ({"regex": "a(?=b)"}, "regex"),
        ({"regex": "(a{900}){900}"}, "regex"),
        ({"text": "  "}, "text"),
        ({"user": ""}, "user"),
        ({"min_reward": float("nan")}, "min_reward"),
        ({"max_reward": float("inf")}, "max_reward"),
        ({"min_reward": 2.0, "max_reward": 1.0}, "min_reward"),
        ({"since": DAY, "until": DAY}, "since"),
    ],
)
def test_what_cannot_be_looked_for_is_named(given: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as wrong:
        Query(**given)
    assert wrong.value.param == param
    assert str(wrong.value).startswith(f"{param}: ")


def test_a_pattern_made_to_be_slow_is_not() -> None:
    assert not Query(regex="(a+)+$").matches(asked("a" * 50_000 + "b"), [])


@pytest.mark.parametrize(
    ("wanted", "changes", "others"),
    [
        ({"model": "demo"}, {"model": "demo"}, {"model": "demo-2"}),
        ({"tenant": "acme"}, {"tenant": "acme"}, {"tenant": "default"}),
        ({"user": "f00"}, {"user": "f00"}, {"user": None}),
        ({"profile": "fast"}, {"profile": "fast@3"}, {"profile": "faster@3"}),
        ({"profile": "fast@3"}, {"profile": "fast@3"}, {"profile": "fast@4"}),
        ({"policy": "p"}, {"policy": "p@1"}, {"policy": "q@1"}),
        ({"outcome": "failed"}, {"outcome": "failed"}, {"outcome": "delivered"}),
        ({"degraded": True}, {"degraded": "scorer_failed"}, {"degraded": None}),
        ({"degraded": False}, {"degraded": None}, {"degraded": "scorer_failed"}),
        ({"flagged": "hate"}, {"prompt_verdict": Verdict({"hate": 0.9}, ["hate"])}, {"candidates": []}),
        (
            {"flagged": "hate"},
            {"candidates": [answer("x", second_check=Verdict({"hate": 0.9}, ["hate"]))]},
            {"candidates": [answer("x", verdict=Verdict({"hate": 0.9}, []))]},
        ),
        (
            {"min_reward": 0.5},
            {"candidates": [answer("x", reward=0.5)], "chosen": 0},
            {"candidates": [], "chosen": None},
        ),
        (
            {"max_reward": 0.0},
            {"candidates": [answer("x", reward=-1.0)], "chosen": 0},
            {"candidates": [answer("x", reward=1.0)], "chosen": 0},
        ),
    ],
)
def test_each_filter_takes_what_it_names(wanted: Any, changes: Any, others: Any) -> None:
    assert Query(**wanted).matches(record(**changes), [])
    assert not Query(**wanted).matches(record(**others), [])


def test_feedback_is_of_the_votes_that_stand() -> None:
    one = record()
    up, down = thumb(one.id), thumb(one.id, False)
    flag = Feedback("2", one.id, 0.0, "flag", "unsafe")
    comment = Feedback("3", one.id, 0.0, "comment", "Hm.")
    for said, votes, match in (
        ("up", [up], True),
        ("up", [down, flag], False),
        ("down", [up, down], True),
        ("down", [comment], False),
        ("flag", [flag], True),
        ("flag", [up], False),
        ("none", [], True),
        ("none", [comment], False),
    ):
        assert Query(feedback=said).matches(one, votes) is match  # type: ignore[arg-type]


def test_times_include_the_first_moment_and_not_the_last() -> None:
    one, later = record(), datetime(2027, 3, 2, tzinfo=UTC)
    assert Query(since=DAY, until=later).matches(one, [])
    assert not Query(until=DAY).matches(one, [])
    assert not Query(since=later).matches(one, [])
    assert [Query(since=DAY, until=later).day(date(2027, 3, day)) for day in (1, 2, 3)] == [True, True, False]
    assert not Query(since=later).day(date(2027, 3, 1))
    assert Query(since=DAY).over(DAY.timestamp() - 1) and not Query(since=DAY).over(DAY.timestamp())
    assert not Query().over(0.0)


def test_the_audit_log_is_told_all_filters_and_no_address_or_user() -> None:
    query = Query(text="ada@example.org refund", user="f00", tenant="acme", degraded=True, since=DAY)
    assert query.described == (
        f"text '[EMAIL] refund', tenant acme, degraded True, since 2027-03-01T12:00:00+00:00, "
        f"subject {subject_of('acme', 'f00')}"
    )


@given(st.lists(st.sampled_from(["model", "tenant", "user", "text"]), unique=True), st.booleans())
def test_all_filters_must_hold(names: list[str], one_is_wrong: bool) -> None:
    right = {"model": "demo", "tenant": "default", "user": "u", "text": "france"}
    wanted = {name: right[name] for name in names}
    if one_is_wrong and names:
        wanted[names[0]] = "something else"
    assert Query(**wanted).matches(record(user="u"), []) is not (one_is_wrong and bool(names))  # type: ignore[arg-type]
