"""A conversation of the demo world and what its writer meant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from training.demo.topics import Aspect, Topic

Message = dict[str, str]
Style = Literal["plain", "brief", "polite", "full"]
STYLES: tuple[Style, ...] = ("plain", "brief", "polite", "full")


@dataclass(frozen=True)
class Prompt:
    """A conversation that waits for an answer, and what its writer meant. Models see `messages` only."""

    messages: tuple[tuple[str, str], ...]
    topic: Topic | None
    aspect: Aspect
    style: Style
    invites: str | None = None

    def as_messages(self) -> list[Message]:
        """The conversation in the OpenAI and Hugging Face form."""
        return [{"role": role, "content": content} for role, content in self.messages]
