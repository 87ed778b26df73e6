"""The answers of both sides, as they are kept: a line each, appended as they come."""

import hashlib
from collections.abc import Mapping
from typing import Literal

import msgspec

from training.data.rows import Message
from training.evaluation.items import Item

Which = Literal["a", "b"]
SIDES: tuple[Which, ...] = ("a", "b")

Outcome = Literal[
    "answered",
    "refused",  # the guard gave its refusal, which is the text
    "blocked",  # the guard gave an error, or an earlier turn of the conversation was blocked
    "failed",  # there is no answer: see error; a rerun asks again
]


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """sample: which of several answers to the prompt. turn: 0 for the first.

    reward, reward_model: as the gateway chose by. degraded: why it did less than the profile says. flags: categories
    that the guard let pass with a note. sampled: candidates; safe: of these, those that could have been shown.
    """

    side: Which
    item: str
    sample: int
    turn: int
    outcome: Outcome
    text: str = ""
    error: str = ""
    tokens: int = 0
    sampled: int = 0
    safe: int = 0
    reward: float | None = None
    reward_model: str = ""
    policy: str = ""
    profile: str = ""
    degraded: str = ""
    flags: list[str] = []
    interaction: str = ""

    @property
    def place(self) -> tuple[Which, str, int, int]:
        return self.side, self.item, self.sample, self.turn

    @property
    def shown(self) -> bool:
        """Somebody could read it."""
        return self.outcome in ("answered", "refused")


Answers = Mapping[tuple[Which, str, int, int], Answer]


def seed_of(seed: int, side: Which, item: str, sample: int, turn: int) -> int:
    """Of a request. The sides' differ: with the same noise a policy would tie with itself, which no user would see.

    Far apart, since candidate i of a request has the seed + i.
    """
    digest = hashlib.sha256(f"evaluate\0{seed}\0{side}\0{item}\0{sample}\0{turn}".encode()).digest()
    return int.from_bytes(digest[:4]) >> 1


def conversation(item: Item, turn: int, before: list[str]) -> list[Message]:
    """What a turn's answer answers. before: that side's answers to the turns before."""
    messages: list[Message] = []
    for number in range(turn + 1):
        messages += item.turns[number]
        if number < turn:
            messages.append({"role": "assistant", "content": before[number]})
    return messages


def transcript(item: Item, turn: int, texts: list[str]) -> str:
    """All that was said after the first question, as one text for a judge: answer, question, answer, ...

    texts: that side's answers, up to this turn's.
    """
    parts = [f"[assistant]\n{texts[0]}"]
    for number in range(1, turn + 1):
        parts += [f"[{message['role']}]\n{message['content']}" for message in item.turns[number]]
        parts.append(f"[assistant]\n{texts[number]}")
    return "\n\n".join(parts)
