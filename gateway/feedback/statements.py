"""What a person can say of an answer: the rules of each kind, and how it is shown again.

One path for a single vote, for a batch and for an import: body + target -> `to_record` -> the log.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from gateway.api.protocol import says
from gateway.comparison.pick import NEITHER, pick_of
from gateway.errors import BadRequest
from gateway.ids import new_uuid7
from gateway.log.records import Feedback, FeedbackKind
from gateway.signing import FeedbackGrant, Signer

_MAX_TEXT = 32_768
_MAX_TAGS = 16
_MAX_TAG = 64
_MAX_USER = 256
_MAX_INDEX = 1023


@dataclass(frozen=True, slots=True)
class Target:
    """An answer that feedback is for. sent: its id as the client wrote it.

    key: the id of the API key it came with. source: a keyed hash of the sender's address.
    """

    sent: str
    interaction: str
    tenant: str
    grant: FeedbackGrant | None
    key: str | None = None
    source: str | None = None


class FeedbackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person thought of an answer."""

    id: Annotated[str, says("The answer's, with its prefix: `chatcmpl-`, `cmpl-` or `resp_`.")]
    kind: Annotated[FeedbackKind, says("What is said; it decides what `value` is.")]
    value: Annotated[
        bool | int | str | None,
        says(
            "thumbs: true (up) or false. rating: 1 to 8. preference: its strength, 1 to 4 (with `choice` it may be "
            "left out, which is 1), or `tie` or `both_bad` where neither is better. correction: the answer as "
            "it should have been. comment: a text. flag: one of the configured reasons, such as `unsafe`."
        ),
    ] = None
    candidate: Annotated[
        int | None, says("Which candidate, by its index; none: the delivered one.", minimum=0, maximum=_MAX_INDEX)
    ] = None
    over: Annotated[int | None, says("A preference: `candidate` is better than this one.", minimum=0)] = None
    choice: Annotated[
        int | None,
        says(
            "A preference with a comparison's token: the better of the two choices, by its `index`.",
            minimum=0,
            maximum=1,
        ),
    ] = None
    user: Annotated[str | None, says("Who says it, in your words; a feedback token goes before it.")] = None
    tags: Annotated[list[str], says("Labels of your own.", maxItems=_MAX_TAGS)] = []
    comment: Annotated[str | None, says("A remark beside the value.", maxLength=_MAX_TEXT)] = None
    token: Annotated[str | None, says("The feedback token, for senders that cannot set headers.")] = None


def to_record(
    body: FeedbackBody,
    target: Target,
    *,
    signer: Signer,
    reasons: Sequence[str],
    created: float,
    retracted: bool,
) -> Feedback:
    """A checked record. reasons: those a flag can have. Raises BadRequest naming the field and the limit."""
    compared = target.grant.shown if target.grant and body.kind == "preference" else None
    if compared:
        body = _picked(body, compared, retracted=retracted)
    elif body.choice is not None:
        raise bad("choice", "it goes with kind preference and the comparison's own token, which says what was shown")
    for name in ("candidate", "over"):
        index = getattr(body, name)
        if index is not None and not 0 <= index <= _MAX_INDEX:
            raise bad(name, f"{index} is no candidate's index; they count from 0")
    if len(body.tags) > _MAX_TAGS or any(len(tag) > _MAX_TAG for tag in body.tags):
        raise bad("tags", f"at most {_MAX_TAGS} tags of at most {_MAX_TAG} characters")
    if body.comment is not None and len(body.comment) > _MAX_TEXT:
        raise bad("comment", f"at most {_MAX_TEXT} characters")
    if body.user is not None and len(body.user) > _MAX_USER:
        raise bad("user", f"at most {_MAX_USER} characters")
    if not retracted:
        check_value(body, reasons)
    if (body.kind == "preference") != (body.over is not None):
        raise bad("over", "a preference names the candidate it is `over`; other kinds do not")
    if body.kind == "preference" and (body.candidate is None or body.candidate == body.over):
        raise bad("candidate", "a preference names two different candidates, `candidate` and `over`")
    return Feedback(
        id=new_uuid7(),
        interaction=target.interaction,
        created=created,
        kind=body.kind,
        value=body.value,
        candidate=body.candidate,
        over=body.over,
        user=target.grant.user if target.grant else signer.hash_user(body.user),
        tags=body.tags,
        comment=body.comment,
        tenant=target.tenant,
        retracted=retracted,
        key=target.key,
        source=target.source,
        shown=list(compared or ()),
    )


def _picked(body: FeedbackBody, compared: Sequence[int], *, retracted: bool) -> FeedbackBody:
    """A pick between two as a preference that names its candidates."""
    pick = pick_of(compared, body.choice, body.candidate, body.over, body.value, retracted=retracted)
    return msgspec.structs.replace(body, candidate=pick.candidate, over=pick.over, value=pick.value, choice=None)


def check_value(body: FeedbackBody, reasons: Sequence[str]) -> None:
    """Each kind's values. Raises BadRequest naming `value`."""
    value = body.value
    match body.kind:
        case "thumbs":
            if not isinstance(value, bool):
                raise bad("value", "thumbs are true (up) or false (down)")
        case "rating":
            _in_range(value, 1, 8, "a rating is a whole number from 1 to 8")
        case "preference":
            if value not in NEITHER:
                _in_range(
                    value, 1, 4, "a preference's strength is a whole number from 1 to 4, or it is tie or both_bad"
                )
        case "correction" | "comment":
            if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
                raise bad("value", f"a {body.kind} is a text of 1 to {_MAX_TEXT} characters")
        case "flag":
            if value not in reasons:
                raise bad(
                    "value",
                    f"a flag's value is its reason, here one of: {', '.join(reasons) or 'none is configured'}; "
                    "feedback.flag_reasons lists them",
                )


def shown(record: Feedback, sent: str) -> dict[str, Any]:
    """As the API and the webhooks show it. sent: the answer's id as the client wrote it."""
    found: dict[str, Any] = {
        "id": sent,
        "feedback_id": record.id,
        "kind": record.kind,
        "value": record.value,
        "created": int(record.created),
        "user": record.user,
    }
    for key in ("candidate", "over", "comment"):
        if getattr(record, key) is not None:
            found[key] = getattr(record, key)
    if record.tags:
        found["tags"] = record.tags
    if record.shown:
        found["shown"] = record.shown
    return found


def bad(field: str, reason: str) -> BadRequest:
    return BadRequest(f"{field}: {reason}", param=field)


def _in_range(value: Any, low: int, high: int, rule: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise bad("value", rule)
