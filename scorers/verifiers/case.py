"""What a check gets and what it gives: the same for our own checks and for those of others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scorers.contract import Message
from scorers.model_scorer import CannotScore as CannotScore
from scorers.reading import read_message


@dataclass(frozen=True, slots=True)
class Case:
    """One answer, and what is known of what was asked.

    messages: the prompt. candidate: the answer, an assistant message, both as they came. tools, response_format: the
    request's, as OpenAI's API has them. reference: the expected answer, where it is known.
    """

    messages: Sequence[Message]
    candidate: Message
    tools: Sequence[dict[str, Any]] = ()
    response_format: dict[str, Any] | None = None
    reference: str | None = None

    @property
    def text(self) -> str:
        """The answer's content as one string. Raises BadScoreRequest where it holds something else than text."""
        message = {"role": "assistant", "content": self.candidate.get("content")}
        return str(read_message(message, "candidate")["content"])


@dataclass(frozen=True, slots=True)
class Verdict:
    """value: 1 passes, 0 does not. parts: what was found, as numbers by name."""

    value: float
    parts: Mapping[str, float] = field(default_factory=dict)


Check = Callable[[Case], Verdict]
"""Judges one answer. Raises CannotScore, with a sentence, where it cannot say; it never makes a number up."""
