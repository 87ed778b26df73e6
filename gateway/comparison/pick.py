"""What a person's pick between two answers says of the candidates behind them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.errors import BadRequest
from gateway.log.records import Feedback

NEITHER = ("tie", "both_bad")
# The least that a pick says.
SLIGHTLY = 1

Value = bool | int | str | None
Picked = Literal["first", "second", "tie", "both_bad"]


@dataclass(frozen=True, slots=True)
class Pick:
    """`candidate` is better than `over` by `value`, 1 to 4; or neither is, and `value` says which of the two ways."""

    candidate: int
    over: int
    value: Value


def pick_of(
    shown: Sequence[int], choice: int | None, candidate: int | None, over: int | None, value: Value, *, retracted: bool
) -> Pick:
    """A preference between the two that were shown, by the place of the better one or by the candidates themselves.

    Raises BadRequest naming the field for a pick that is none of these two.
    """
    first, second = shown
    if choice is not None and (candidate is not None or over is not None):
        raise _bad("choice", "it says which answer is better; leave out candidate and over")
    if choice is not None and choice not in (0, 1):
        raise _bad("choice", f"{choice} is neither of the two answers; they are 0 and 1, as they were shown")
    if choice is not None and value in NEITHER:
        raise _bad("choice", f"with the value {value!r} neither is better; leave it out")
    if choice is not None:
        better, other = (first, second) if choice == 0 else (second, first)
        return Pick(better, other, SLIGHTLY if value is None else value)
    if candidate is None and over is None:
        if not retracted and value not in NEITHER:
            raise _bad("choice", "say which answer is better, 0 or 1; or the value 'tie' or 'both_bad'")
        return Pick(first, second, value)
    for name, index in (("candidate", candidate), ("over", over)):
        if index not in (first, second):
            raise _bad(
                name, f"it is none of the two that were shown, {first} and {second}; `choice` names one by place"
            )
    assert candidate is not None and over is not None
    return Pick(candidate, over, value)


def picked(vote: Feedback) -> Picked | None:
    """Which of two answers a vote picked, by the place in which it was shown; None where it is no pick of a pair."""
    if vote.kind != "preference" or len(vote.shown) != 2:
        return None
    if vote.value == "tie":
        return "tie"
    if vote.value == "both_bad":
        return "both_bad"
    return "first" if vote.candidate == vote.shown[0] else "second"


def _bad(field: str, reason: str) -> BadRequest:
    return BadRequest(f"{field}: {reason}", param=field)
