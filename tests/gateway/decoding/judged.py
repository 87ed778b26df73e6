"""Judged candidates in one line, for tests."""

from collections.abc import Sequence
from typing import Any

from gateway.decoding.candidate import Candidate, Judged
from gateway.decoding.selection.chooser import Chooser, Ranking
from gateway.log.records import Verdict


def candidate(index: int, text: str = "text", *, finished_s: float = 0.0, wave: int = 0) -> Candidate:
    message = {"role": "assistant", "content": text}
    return Candidate(index, wave, None, message, "stop", None, None, [1, 2], 2, finished_s)


def judged(
    index: int,
    reward: float | None,
    *,
    flagged: bool = False,
    unjudged: bool = False,
    text: str = "text",
    finished_s: float = 0.0,
    broken: str | None = None,
    **more: Any,
) -> Judged:
    verdict = Verdict(categories={"x": 0.9 if flagged else 0.1}, flagged=["x"] if flagged else [])
    if unjudged:
        verdict = Verdict(error="no answer")
    error = "failed" if reward is None else None
    return Judged(candidate(index, text, finished_s=finished_s), reward, error, verdict, 0.0, broken, **more)


def rank(candidates: Sequence[Judged], *, unjudged_passes: bool = False) -> Ranking:
    """By the rule that there is without any setting."""
    return Chooser().rank(candidates, unjudged_passes=unjudged_passes)
