"""When the next turn begins: after a time, and when there is enough new feedback for it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from training.cycle.settings import CycleSettings
from training.cycle.turn import Turn

_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Due:
    """now: begin. why: in a sentence. at: the earliest time that could change it (seconds since 1970); None: feedback
    decides.
    """

    now: bool
    why: str
    at: float | None = None


def due(turns: Sequence[Turn], feedback: int, settings: CycleSettings, now: float) -> Due:
    """turns: oldest first. feedback: votes since the last turn that came to its end began."""
    if not turns:
        return _by_feedback(feedback, settings)
    last = turns[-1]
    if last.ended is None:
        return Due(True, f"turn {last.number} was interrupted and goes on")
    if last.ending == "failed":
        at = last.ended + settings.retry_hours * _HOUR_S
        if now < at:
            return Due(False, f"turn {last.number} failed ({last.why}); it is tried again later", at)
        return Due(True, f"turn {last.number} failed and goes on")
    at = last.began + settings.every_hours * _HOUR_S
    if now < at:
        return Due(False, f"turn {last.number} began less than {settings.every_hours:g} h ago", at)
    return _by_feedback(feedback, settings)


def counted_from(turns: Sequence[Turn]) -> float:
    """From when on votes are new: the beginning of the last turn that did not fail; 0 without one."""
    return next((turn.began for turn in reversed(turns) if turn.ending not in ("failed", "abandoned", None)), 0.0)


def _by_feedback(feedback: int, settings: CycleSettings) -> Due:
    enough = feedback >= settings.min_feedback
    said = f"{feedback} new votes of {settings.min_feedback} that a turn is worth"
    return Due(enough, said)
