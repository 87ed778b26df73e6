"""What strategies say when an answer is less than was asked for, or cannot be given. Pure."""

from gateway.decoding.candidate import Judged
from gateway.errors import ApiError, DeadlineExceeded, GuardUnavailable, WorkerError


def guard_unavailable(judged: tuple[Judged, ...]) -> GuardUnavailable:
    """The error for candidates that could not be judged for safety; trying again helps unless they are unreadable."""
    verdicts = [verdict for one in judged for verdict in (one.verdict, one.second_check)]
    unreadable = all(verdict.unreadable for verdict in verdicts if verdict and verdict.error)
    return GuardUnavailable(
        "the safety check cannot answer; nothing is delivered unchecked", retry_after=None if unreadable else 2.0
    )


def degraded_by(
    judged: tuple[Judged, ...],
    order: tuple[int, ...],
    *,
    timed_out: bool = False,
    skipped: bool = False,
    lost: bool = False,
) -> str | None:
    """The gravest of what went wrong, as one word for `guidance.degraded`.

    skipped: a prune stage gave no score, so that nothing was pruned there. lost: the worker broke off.
    """
    if timed_out:
        return "deadline"
    if any(one.unjudged for one in judged):
        return "guard_partial"
    # Those that the reward model was asked about: what was pruned is none of them.
    asked = [one for one in judged if one.reward is not None or one.reward_error]
    if asked and all(one.reward_error for one in asked):
        return "reward_unavailable"
    if any(one.reward_error for one in asked):
        return "reward_partial"
    if skipped:
        return "prune_unavailable"
    if lost:
        return "worker_partial"
    return "format_broken" if order and judged[order[0]].broken else None


def explain(judged: tuple[Judged, ...], failure: ApiError | None, *, timed_out: bool) -> None:
    """Raise for why nothing can be delivered; returns where all were judged and none was safe."""
    if timed_out:
        raise DeadlineExceeded("no candidate that is safe to deliver was finished and judged in time", retry_after=5.0)
    if any(one.unjudged for one in judged):
        raise guard_unavailable(judged)
    if failure:
        raise failure
    if not judged:
        raise WorkerError("the worker finished without a candidate")
