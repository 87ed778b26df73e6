"""Votes by the thousand: lines of JSON, each checked as a single vote is; a bad one loses no other.

A line may say when it was said (`created`). Its id is then made of that time and a keyed hash of what it says, so the
same line sent twice is one record, and what was said later still wins over it (`votes.supersedes`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import msgspec

from gateway.api.protocol import convert, parse_json, says
from gateway.errors import ApiError, BadRequest
from gateway.feedback.statements import FeedbackBody, Target, bad, to_record
from gateway.ids import unix_seconds, uuid7_at
from gateway.log.records import Feedback
from gateway.signing import Signer

MAX_LINES = 1000
# Clocks of gateways and clients differ a little.
_SLACK_S = 300.0


class FeedbackLine(FeedbackBody, frozen=True, forbid_unknown_fields=True):
    """A vote in a batch."""

    created: Annotated[
        float | str | None,
        says(
            "When it was said: seconds since 1970, or ISO 8601 with a time zone; none: now. With it, the same line "
            "sent again adds nothing."
        ),
    ] = None
    retracted: Annotated[bool, says("Take such a vote back.")] = False


class FeedbackBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Votes as one JSON object; or send the lines as they are, one JSON object a line."""

    data: Annotated[list[FeedbackLine], says("The votes.", minItems=1, maxItems=MAX_LINES)]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a batch, read or not. number: from 1, as it was sent, empty lines counted."""

    number: int
    found: FeedbackLine | ApiError


@dataclass(frozen=True, slots=True)
class Checked:
    """A line's record, or what is wrong with it. history: it says when it was said."""

    number: int
    found: Feedback | ApiError
    history: bool = False


def read_lines(raw: bytes) -> list[Line]:
    """The lines of a body. Raises BadRequest where it has none, or too many."""
    if not raw.strip():
        raise BadRequest(
            'the request has no body; send one vote a line as JSON, or {"data": [...]}', code="invalid_json"
        )
    items = _items(raw)
    if items is not None:
        lines: list[tuple[int, Callable[[], FeedbackLine]]] = [
            (number, lambda item=item: _line(item))  # type: ignore[misc]
            for number, item in enumerate(items, 1)
        ]
    else:
        lines = [
            (number, lambda text=text: convert(parse_json(text), FeedbackLine))  # type: ignore[misc]
            for number, text in enumerate(raw.split(b"\n"), 1)
            if text.strip()
        ]
    if not lines:
        raise bad("data", "it is empty; a batch has at least one vote")
    if len(lines) > MAX_LINES:
        raise bad(
            "data", f"{len(lines)} votes are too many for one request: at most {MAX_LINES}; send several requests"
        )
    return [Line(number, _read(read)) for number, read in lines]


def check(
    line: Line, target_of: Callable[[FeedbackLine], Target], signer: Signer, reasons: Sequence[str], now: float
) -> Checked:
    """target_of: whose answer it is; raises ApiError where there is none."""
    found = line.found
    if isinstance(found, ApiError):
        return Checked(line.number, found)
    try:
        if found.token is not None:
            raise bad("token", "a batch is authorised by its API key; send a vote with a token alone, to /v1/feedback")
        record = _record(found, target_of(found), signer, reasons, now)
    except ApiError as error:
        return Checked(line.number, error)
    return Checked(line.number, record, found.created is not None)


def _record(line: FeedbackLine, target: Target, signer: Signer, reasons: Sequence[str], now: float) -> Feedback:
    created = now if line.created is None else said_at(line.created, target.interaction, now)
    record = to_record(line, target, signer=signer, reasons=reasons, created=created, retracted=line.retracted)
    if line.created is None:
        return record
    # Who sends it is no part of what is said: a second import may come with another key.
    said = msgspec.json.encode(msgspec.structs.replace(record, id="", key=None, source=None))
    return msgspec.structs.replace(record, id=uuid7_at(created, signer.digest_of_statement(said)))


def said_at(created: float | str, interaction: str, now: float) -> float:
    """Seconds since 1970. Raises BadRequest for what is no time, the future, or a time before the answer."""
    try:
        seconds = created if isinstance(created, float) else _iso(created)
    except (ValueError, OverflowError):
        raise bad("created", "it is no time; write seconds since 1970, or such as 2026-01-31T12:00:00Z") from None
    if seconds > now + _SLACK_S:
        raise bad("created", "it is in the future")
    if seconds < unix_seconds(interaction) - _SLACK_S:
        raise bad("created", "it is before the answer was given, which its id tells")
    return seconds


def _iso(text: str) -> float:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("no time zone")
    return found.timestamp()


def _items(raw: bytes) -> list[Any] | None:
    """What `data` lists, where the body is one JSON object with it; None: it is lines."""
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if not isinstance(body, dict) or "data" not in body:
        return None
    if not isinstance(body["data"], list) or len(body) > 1:
        raise bad("data", "the body has one field, `data`, a list of votes")
    parse_json(raw)  # Which refuses what is nested too deeply.
    return body["data"]


def _line(item: Any) -> FeedbackLine:
    if not isinstance(item, dict):
        raise BadRequest("a vote is a JSON object")
    return convert(item, FeedbackLine)


def _read(read: Callable[[], FeedbackLine]) -> FeedbackLine | ApiError:
    try:
        return read()
    except ApiError as error:
        return error
