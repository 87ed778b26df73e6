"""What becomes of corrections, candidates and prompts, and what holds for all rows of any log."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.log.records import CandidateRecord, Interaction, Verdict
from tests.training.data.compile_samples import (
    ANN,
    BOB,
    CAT,
    FLAGGED,
    candidate,
    compiled,
    interaction,
    joined,
    question,
    text,
    user,
    vote,
)
from training.data.rows import DATASETS, SPLITS, Joined, Row, Rows
from training.data.splits import split_of


def all_rows(rows: Rows) -> list[Row]:
    return [row for dataset in DATASETS for row in rows.of(dataset)]


def test_a_correction_is_a_demonstration_and_a_pair_without_a_margin() -> None:
    record = interaction(1, "Five.", "Other.", user=ANN)
    rows = compiled(joined(record, vote("correction", "Four.", BOB, 0.5)))
    [shown], [row] = rows.demonstration, rows.preference
    assert (text(shown.completion), text(row.chosen), text(row.rejected)) == ("Four.", "Four.", "Five.")
    assert row.margin == 0.0
    for side in (shown.side, row.side):
        assert (side.source, side.user, side.people, side.weight) == ("correction", BOB, sorted([ANN, BOB]), 0.5)
        assert side.for_policy
    assert shown.side.id != row.side.id


def test_a_correction_that_repeats_flagged_text_is_not_taken() -> None:
    record = interaction(1, "Fine.", candidate(1, "Unsafe.", verdict=FLAGGED))
    rows = compiled(joined(record, vote("correction", "Unsafe.", BOB)))
    assert not (rows.demonstration or rows.preference)
    assert rows.skipped["correction:flagged_text"] == 1


def test_best_of_n_are_the_scored_safe_whole_candidates_by_reward() -> None:
    record = interaction(
        1,
        candidate(0, "Second.", reward=2.0),
        candidate(1, "Best.", reward=3.0),
        candidate(2, "Unsafe.", reward=9.0, verdict=FLAGGED),
        candidate(3, "Unsafe on second look.", reward=9.0, second_check=FLAGGED),
        candidate(4, "Guard away.", reward=9.0, verdict=Verdict(error="timeout")),
        candidate(5, "Cut o", reward=9.0, finish_reason="length"),
        candidate(6, "Given", reward=9.0, finish_reason=None, pruned_by="early@1"),
        candidate(7, "Not its form.", reward=9.0, broken="no JSON"),
        candidate(8, "Not scored.", reward=None, reward_error="timeout"),
        candidate(9, "Flagged by a person.", reward=9.0),
        candidate(10, "Disliked.", reward=9.0),
        candidate(11, "Best.", reward=3.0),
        candidate(12, "Worst.", reward=-1.0),
    )
    votes = [vote("flag", "unsafe", BOB, candidate=9), vote("thumbs", False, BOB, candidate=10)]
    [row] = compiled(joined(record, *votes)).best_of_n
    assert [text(one) for one in row.completions] == ["Best.", "Second.", "Worst."]
    assert row.rewards == [3.0, 2.0, -1.0]
    side = row.side
    assert (side.source, side.user, side.people, side.reward_model) == ("best_of_n", None, [ANN], "reward@1")


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (interaction(1, "One.", "Two.", degraded="reward_partial"), "best_of_n:reward_partial"),
        (interaction(1, "One.", "Two.", degraded="deadline"), "best_of_n:deadline"),
        (interaction(1, "One.", "One."), "best_of_n:fewer_than_two"),
        (interaction(1, "One."), "best_of_n:fewer_than_two"),
    ],
)
def test_where_scores_are_not_all_there_or_not_two_there_is_no_order(record: Interaction, why: str) -> None:
    rows = compiled(joined(record))
    assert (rows.best_of_n, rows.skipped) == ([], {why: 1})


def test_fewer_candidates_because_of_the_load_are_still_an_order() -> None:
    assert len(compiled(joined(interaction(1, "One.", "Two.", degraded="load"))).best_of_n) == 1


def test_a_prompt_is_a_row_once_for_each_split_of_those_who_asked() -> None:
    askers = [ANN, BOB, user("test"), CAT, user("test", 1), user("holdout")]
    rows = compiled(*(joined(interaction(number, "Hi.", user=who)) for number, who in enumerate(askers)))
    assert sorted((row.side.split, row.side.people) for row in rows.prompt) == [
        ("holdout", [user("holdout")]),
        ("test", [user("test")]),
        ("train", [ANN]),
    ]


def test_a_prompt_keeps_the_expected_answer_that_its_request_gave() -> None:
    [with_one] = compiled(joined(interaction(1, "Hi.", reference="42"))).prompt
    [without] = compiled(joined(interaction(1, "Hi."))).prompt
    assert (with_one.reference, without.reference) == ("42", None)


def test_a_prompt_that_a_guard_flagged_gives_nothing() -> None:
    refused = interaction(1, outcome="refused_prompt", prompt_verdict=FLAGGED)
    rows = compiled(joined(refused, vote("thumbs", False)))
    assert all_rows(rows) == []
    assert rows.skipped == {"prompt:flagged": 1}


def test_prompts_that_are_not_text_are_counted_by_their_reason() -> None:
    rows = compiled(joined(interaction(1, "Hi.", parameters={"tools": [{}]}), vote("thumbs", True)))
    assert (all_rows(rows), rows.skipped) == ([], {"prompt:tools": 1})


def test_a_held_out_prompt_is_held_out_whoever_asks() -> None:
    messages = [{"role": "user", "content": question("calibration")}]
    rows = compiled(joined(interaction(1, "A.", "B.", messages=messages), vote("thumbs", True)))
    assert {(row.side.split, row.side.strict) for row in all_rows(rows)} == {("calibration", False)}


PEOPLE = [*(user(split, number) for split in SPLITS for number in range(2)), None]
TEXTS = [f"Text {number}." for number in range(4)]
VERDICTS = [None, Verdict(), FLAGGED, Verdict(error="timeout")]


@st.composite
def candidates(draw: st.DrawFn, index: int) -> CandidateRecord:
    return candidate(
        index,
        draw(st.sampled_from([*TEXTS, ""])),
        reward=draw(st.sampled_from([None, -1.0, 0.0, 2.5])),
        verdict=draw(st.sampled_from(VERDICTS)),
        finish_reason=draw(st.sampled_from(["stop", "stop", "length"])),
    )


@st.composite
def logs(draw: st.DrawFn) -> list[Joined]:
    """Interactions with one prompt and any votes on them."""
    split = draw(st.sampled_from(SPLITS))
    found = []
    for number in range(draw(st.integers(1, 5))):
        count = draw(st.integers(0, 3))
        record = interaction(
            number,
            *(draw(candidates(index)) for index in range(count)),
            user=draw(st.sampled_from(PEOPLE)),
            messages=[{"role": "user", "content": question(split)}],
        )
        which = st.sampled_from([None, 0, 1, 2])
        votes = []
        for kind in draw(
            st.lists(st.sampled_from(["thumbs", "rating", "preference", "flag", "correction"]), max_size=4)
        ):
            value = {
                "thumbs": st.booleans(),
                "rating": st.integers(1, 8),
                "preference": st.sampled_from([1, 2, 3, 4, "tie", "both_bad"]),
                "flag": st.just("unsafe"),
                "correction": st.sampled_from([*TEXTS, "Mended."]),
            }[kind]
            of = (
                {"candidate": 0, "over": draw(st.integers(1, 2))}
                if kind == "preference"
                else {"candidate": draw(which)}
            )
            weight = draw(st.sampled_from([0.0, 0.25, 1.0]))
            votes.append(vote(kind, draw(value), draw(st.sampled_from(PEOPLE)), weight, **of))
        found.append(joined(record, *votes))
    return found


@settings(max_examples=80, deadline=None)
@given(logs(), st.randoms(use_true_random=False))
def test_what_holds_for_the_rows_of_any_log(log: list[Joined], rng: random.Random) -> None:
    rows = compiled(*log)
    found = all_rows(rows)
    by_interaction = {one.interaction.id: one for one in log}
    for row in found:
        side = row.side
        own = {split_of("cluster", side.cluster), *(split_of("user", one) for one in side.people)}
        assert (side.split == "train") == (own == {"train"})
        assert side.strict == (len(own) == 1)
        assert 0 < side.weight <= 1
        askers = {by_interaction[one].interaction.user for one in side.interactions} - {None}
        assert askers <= set(side.people)
        assert side.user is None or side.user in side.people
    assert len({row.side.id for row in found}) == len(found)
    for dataset in DATASETS:
        ids = [row.side.id for row in rows.of(dataset)]
        assert ids == sorted(ids)
    # Neither the order of the records nor that of their votes matters.
    shuffled = [Joined(one.interaction, tuple(rng.sample(one.votes, len(one.votes)))) for one in log]
    rng.shuffle(shuffled)
    assert compiled(*shuffled) == rows


@settings(max_examples=60, deadline=None)
@given(logs())
def test_no_unsafe_answer_is_ever_chosen_for_a_policy(log: list[Joined]) -> None:
    unsafe = {
        str(one.message["content"])
        for joined_one in log
        for one in joined_one.interaction.candidates
        if one.verdict is not None and (one.verdict.flagged or one.verdict.error)
    }
    unsafe |= {
        str(one.message["content"])
        for joined_one in log
        for said in joined_one.votes
        for one in joined_one.interaction.candidates
        if said.vote.kind == "flag" and said.weight > 0 and one.index == (said.vote.candidate or 0)
    }
    rows = compiled(*log)
    learnt = [text(row.chosen) for row in rows.preference if row.side.for_policy]
    learnt += [text(row.completion) for row in rows.unpaired if row.side.for_policy and row.label]
    learnt += [text(row.completion) for row in rows.demonstration]
    learnt += [text(one) for row in rows.best_of_n for one in row.completions]
    assert not unsafe.intersection(learnt)
    for row in rows.preference:
        assert text(row.chosen) != text(row.rejected)
        assert row.side.quadrant != "bad-bad" or not row.side.for_policy


@settings(max_examples=60, deadline=None)
@given(logs(), st.data())
def test_records_that_come_later_change_no_rows_split(log: list[Joined], data: st.DataObject) -> None:
    earlier = [
        Joined(one.interaction, one.votes[: data.draw(st.integers(0, len(one.votes)))])
        for one in log[: data.draw(st.integers(1, len(log)))]
    ]
    before = {row.side.id: (row.side.split, row.side.strict) for row in all_rows(compiled(*earlier))}
    after = {row.side.id: (row.side.split, row.side.strict) for row in all_rows(compiled(*log))}
    for one in before.keys() & after.keys():
        assert before[one] == after[one]
    held_out = [one for one in log if split_of("user", one.interaction.user or "") != "train"]
    for row in all_rows(compiled(*log)):
        if row.side.split == "train":
            assert not set(row.side.interactions) & {one.interaction.id for one in held_out if one.interaction.user}


@settings(max_examples=60, deadline=None)
@given(logs(), st.sampled_from([one for one in PEOPLE if one]))
def test_without_a_person_nothing_of_theirs_is_in_any_row(log: list[Joined], who: str) -> None:
    left = [
        Joined(one.interaction, tuple(said for said in one.votes if said.vote.user != who))
        for one in log
        if one.interaction.user != who
    ]
    if not left:
        return
    assert all(who not in row.side.people for row in all_rows(compiled(*left)))
