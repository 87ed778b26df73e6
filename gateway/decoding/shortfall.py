"""What strategies say when an answer is less than was asked for, or cannot be given. Pure."""

from gateway.decoding.candidate import Judged
from gateway.errors import GuardUnavailable


def guard_unavailable(judged: tuple[Judged, ...]) -> GuardUnavailable:
    """The error for candidates that could not be judged for safety; trying again helps unless they are unreadable."""
    unreadable = all(one.verdict.unreadable for one in judged if one.verdict and one.verdict.error)
    return GuardUnavailable(
        "the safety check cannot answer; nothing is delivered unchecked", retry_after=None if unreadable else 2.0
    )


def degraded_by(
    judged: tuple[Judged, ...], order: tuple[int, ...], *, timed_out: bool = False, lost: bool = False
) -> str | None:
    """The gravest of what went wrong, as one word for `guidance.degraded`."""
    if timed_out:
        return "deadline"
    if any(one.unjudged for one in judged):
        return "guard_partial"
    if judged and all(one.reward is None and one.reward_error for one in judged):
        return "reward_unavailable"
    if any(one.reward_error for one in judged):
        return "reward_partial"
    if lost:
        return "worker_partial"
    return "format_broken" if order and judged[order[0]].broken else None
