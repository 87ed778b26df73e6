"""What logged records say of a canary."""

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.ids import unix_seconds
from gateway.log.own_requests import mark
from gateway.log.records import Interaction, Outcome, ReleaseRecord, Timings, Verdict
from gateway.release.outcomes import FEEDBACK_WITHIN_S, Said, Served, said, served
from tests.gateway.log.log_samples import interaction, thumb

RECORD = ReleaseRecord(4, arm="challenger", stage=1, canary="c", period="1", counted=True)


def logged(**fields: Any) -> Interaction:
    return replace(interaction(model="m", user="ada", release=RECORD), **fields)


def seen(record: Interaction, slow_ms: float | None = None) -> Served | None:
    return served(record, "m", "c", "salt", slow_ms)


def signals(slow_ms: float | None = None, **fields: Any) -> tuple[str, ...]:
    found = seen(logged(**fields), slow_ms)
    assert found is not None
    return found.signals


def test_an_interaction_says_who_was_served_in_which_group_and_period() -> None:
    record = logged()
    found = seen(record)
    assert found is not None
    assert (found.arm, found.period, found.at, found.signals) == ("challenger", "1", record.created, ())
    assert "ada" not in repr(found) and record.id not in repr(found)
    other = seen(logged(tenant="other"))
    assert other is not None and other.user != found.user


@pytest.mark.parametrize(
    "fields",
    [
        {"release": None},
        {"release": replace(RECORD, counted=False)},
        {"release": replace(RECORD, canary="another")},
        {"release": ReleaseRecord(3, fallback=True)},
        {"release": ReleaseRecord(pinned=True)},
        {"model": "other"},
        {"user": None},
        {"status": 429, "outcome": "failed"},
        {"parameters": {"metadata": mark("evaluate")}},
    ],
)
def test_who_is_in_no_group_and_bestows_own_requests_are_not_counted(fields: dict[str, Any]) -> None:
    assert seen(logged(**fields)) is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"status": 503, "outcome": "failed"}, ("error",)),
        ({"degraded": "deadline"}, ("error",)),
        ({"degraded": "reward_unavailable"}, ("error",)),
        ({"degraded": "load"}, ()),
        ({"degraded": "fewer_safe"}, ()),
        ({"degraded": "no_answer"}, ()),
        ({"status": 400, "outcome": "failed"}, ()),
        ({"status": 499, "outcome": "cancelled"}, ()),
        ({"outcome": "refused_candidates"}, ("unsafe",)),
        ({"outcome": "refused_prompt"}, ()),
        ({"outcome": "blocked", "status": 400}, ("unsafe",)),
        ({"outcome": "blocked", "status": 400, "candidates": []}, ()),
    ],
)
def test_errors_are_a_versions_and_unsafe_is_what_it_said(fields: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert signals(**fields) == expected


def test_slow_is_what_took_longer_than_the_settings_say() -> None:
    timings = Timings(total_ms=900.0)
    assert signals(slow_ms=800.0, timings=timings) == ("slow",)
    assert signals(slow_ms=1000.0, timings=timings) == signals(slow_ms=None, timings=timings) == ()
    outcome: Outcome = "failed"
    assert signals(slow_ms=800.0, timings=timings, outcome=outcome, status=400) == ()


def test_the_same_user_who_asks_the_same_is_known_by_it_and_nobody_else() -> None:
    first, again = seen(logged()), seen(logged(id=interaction().id))
    other = seen(logged(user="bob"))
    anew = seen(logged(messages=[{"role": "user", "content": "Something else?"}]))
    unkept = seen(logged(messages=[]))
    assert first and again and other and anew and unkept
    assert first.asked == again.asked
    assert len({first.asked, other.asked, anew.asked, unkept.asked}) == 4 and unkept.asked == ""


def meaning(**fields: Any) -> tuple[str, ...]:
    found = said(replace(thumb(interaction().id), **fields), "salt")
    return found.signals if found else ()


def test_feedback_is_for_or_against_a_complaint_or_a_warning() -> None:
    assert meaning(value=True) == ("up",)
    assert meaning(value=False) == ("down", "complaint")
    assert meaning(kind="flag", value="off-task") == ("complaint",)
    assert meaning(kind="flag", value="unsafe") == ("complaint", "unsafe")
    assert meaning(kind="rating", value=1) == meaning(kind="comment", value="bad") == ()


def test_what_is_taken_back_or_comes_late_says_nothing() -> None:
    record = interaction()
    assert meaning(retracted=True) == ()
    late = unix_seconds(record.id) + FEEDBACK_WITHIN_S + 1
    assert said(replace(thumb(record.id), created=late), "salt") is None
    assert said(replace(thumb("no id"), created=late), "salt") is None


def test_feedback_finds_its_interaction_and_its_user() -> None:
    record = logged()
    vote = said(thumb(record.id, user="ada"), "salt")
    found = seen(record)
    assert isinstance(vote, Said) and found is not None
    assert (vote.id, vote.user, vote.answered) == (found.id, found.user, found.answered)
    nobody = said(thumb(record.id, user=None), "salt")
    assert nobody is not None and nobody.user == ""


def test_a_flagged_candidate_alone_makes_no_answer_unsafe() -> None:
    flagged = [replace(one, verdict=Verdict({"violence": 0.9}, ["violence"])) for one in interaction().candidates[:1]]
    assert signals(candidates=flagged) == ()
