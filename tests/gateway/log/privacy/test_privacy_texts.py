"""Every text of a record is redacted, and what hangs on a changed text goes with it."""

from typing import Any

import msgspec
import pytest

from gateway.log.privacy.kinds import KINDS
from gateway.log.privacy.redactor import Count, Redactor
from gateway.log.privacy.texts import redacted
from gateway.log.records import (
    CandidateRecord,
    Feedback,
    Interaction,
    Piece,
    Record,
    Round,
    ScoreRecord,
    ShadowScores,
    Verdict,
    encode,
)
from tests.gateway.log.log_samples import interaction, thumb

SECRET = "ada@example.com"
ALL = Redactor(tuple(KINDS))

# Names, ids and words that Bestow itself chose: no stranger's text is in them.
OURS = {
    "id", "model", "profile", "policy", "strategy", "outcome", "reward_model", "safety_model", "endpoint", "degraded",
    "user", "tenant", "tier", "stream_mode", "finish_reason", "pruned_by", "training", "omitted", "redacted", "rule",
    "flagged", "blocked", "noted", "guards", "categories", "parts", "interaction", "kind", "scorer", "session",
    "previous", "key", "source",
}  # fmt: skip
# Redacted, by the class that holds them; "scores" of candidates and shadow scorers, "second_check" of candidates, ...
TEXTS = {
    ("Verdict", "error"), ("ScoreRecord", "error"), ("CandidateRecord", "message"), ("CandidateRecord", "stop_reason"),
    ("CandidateRecord", "reward_error"), ("CandidateRecord", "broken"), ("Piece", "text"), ("Piece", "reward_error"),
    ("Interaction", "messages"), ("Interaction", "parameters"), ("Interaction", "error"), ("Interaction", "reference"),
    ("Feedback", "value"), ("Feedback", "tags"), ("Feedback", "comment"),
}  # fmt: skip


def done(record: Record) -> Any:
    return redacted(record, ALL, Count())


def verdict() -> Verdict:
    return Verdict({"unsafe": 0.5}, error=f"cannot read {SECRET}")


def full() -> Interaction:
    """A secret in every text."""
    candidate = CandidateRecord(
        0,
        {
            "role": "assistant",
            "content": f"write to {SECRET}",
            "reasoning": SECRET,
            "reasoning_content": SECRET,
            "refusal": SECRET,
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "send", "arguments": f'{{"to": "{SECRET}"}}'}}
            ],
        },
        "stop",
        5,
        token_ids=[1, 2],
        stop_reason=SECRET,
        reward_error=SECRET,
        verdict=verdict(),
        broken=f"{SECRET!r} is too long",
        scores={"r@1": ScoreRecord(error=SECRET)},
        second_check=verdict(),
    )
    return interaction(
        messages=[
            {"role": "system", "content": SECRET},
            {"role": "user", "name": SECRET, "content": [{"type": "text", "text": SECRET}]},
            {"role": "tool", "tool_call_id": "c", "content": f'{{"from": "{SECRET}"}}'},
        ],
        parameters={
            "temperature": 0.7,
            "stop": [SECRET],
            "metadata": {"note": SECRET},
            "tools": [{"type": "function", "function": {"name": "send", "description": SECRET}}],
            "structured_outputs": {"choice": [SECRET, "no"]},
        },
        candidates=[candidate],
        prompt_verdict=verdict(),
        error=f"it said {SECRET}",
        reference=SECRET,
        rounds=[Round([Piece(SECRET, 3, token_ids=[1], reward_error=SECRET, verdict=verdict())])],
    )


def test_no_text_of_an_interaction_keeps_it() -> None:
    record = full()
    assert encode(record).count(SECRET.encode()) == 25
    left = done(record)
    assert SECRET.encode() not in encode(left)
    assert msgspec.json.decode(left.candidates[0].message["tool_calls"][0]["function"]["arguments"]) == {
        "to": "[EMAIL]"
    }


def test_no_text_of_feedback_or_shadow_scores_keeps_it() -> None:
    vote = msgspec.structs.replace(
        thumb("chatcmpl-1"), kind="correction", value=f"as {SECRET} says", tags=[SECRET], comment=SECRET
    )
    shadow = ShadowScores("s", "i", 1.0, "r@1", "p@1", None, {0: ScoreRecord(error=SECRET)})
    assert SECRET.encode() not in encode(done(vote)) + encode(done(shadow))


def test_each_field_that_can_hold_text_is_known_here() -> None:
    """A new one is either a text, and redacted in `texts.py`, or ours."""
    unknown = {
        (struct.__name__, field.name)
        for struct in (Interaction, CandidateRecord, Piece, Round, ScoreRecord, Verdict, Feedback, ShadowScores)
        for field in msgspec.structs.fields(struct)
        if _holds_text(msgspec.inspect.type_info(field.type)) and field.name not in OURS
    } - TEXTS
    # The version of the guard that read the winner again.
    assert unknown == {("Interaction", "second_check")}


def _holds_text(info: msgspec.inspect.Type) -> bool:
    match info:
        case msgspec.inspect.StrType() | msgspec.inspect.AnyType():
            return True
        case msgspec.inspect.UnionType(types=types):
            return any(map(_holds_text, types))
        case msgspec.inspect.ListType(item_type=inner):
            return _holds_text(inner)
        case msgspec.inspect.DictType(value_type=inner):
            return _holds_text(inner)
    return False


def test_token_ids_go_where_the_text_changed_and_stay_where_it_did_not() -> None:
    base = interaction().candidates[0]
    changed = msgspec.structs.replace(base, message={"role": "assistant", "content": SECRET}, token_ids=[1])
    kept = msgspec.structs.replace(base, token_ids=[2])
    left = done(
        interaction(
            candidates=[changed, kept], rounds=[Round([Piece(SECRET, 1, token_ids=[3]), Piece("x", 1, token_ids=[4])])]
        )
    )
    assert [one.token_ids for one in left.candidates] == [None, [2]]
    assert [one.token_ids for one in left.rounds[0].pieces] == [None, [4]]


def test_a_record_with_nothing_in_it_is_the_same_object() -> None:
    record = interaction(parameters={"seed": 1234567890, "temperature": 0.7})
    assert done(record) is record


def test_what_runs_over_the_end_of_a_piece_is_taken_out_of_both_and_of_siblings_nothing() -> None:
    first = Round([Piece("write to ada@exa", 4, token_ids=[1], kept=True), Piece("no", 1, token_ids=[2])])
    second = Round(
        [
            Piece("mple.com today", 4, token_ids=[3]),
            Piece("nothing", 1, token_ids=[4]),
            Piece(" way", 1, after=1, token_ids=[5]),
        ]
    )
    left = done(interaction(rounds=[first, second])).rounds
    assert [[piece.text for piece in one.pieces] for one in left] == [
        ["write to [EMAIL]", "no"],
        ["[EMAIL] today", "nothing", " way"],
    ]
    assert [[piece.token_ids for piece in one.pieces] for one in left] == [[None, [2]], [None, [4], [5]]]


def test_data_of_an_image_that_is_kept_stays_whole_while_the_text_beside_it_is_redacted() -> None:
    url = "data:image/png;base64," + "+49301234567/" * 400
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": SECRET}]
    left = done(interaction(messages=[{"role": "user", "content": content}])).messages[0]["content"]
    assert left == [content[0], {"type": "text", "text": "[EMAIL]"}]


@pytest.mark.parametrize("odd", ["\ud800 " + SECRET, 2**70])
def test_what_json_cannot_hold_is_redacted_all_the_same(odd: Any) -> None:
    left = done(interaction(messages=[{"role": "user", "content": SECRET, "x": odd}]))
    assert SECRET not in str(left.messages)
