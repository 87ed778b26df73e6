"""Answers and scores of two sides, for the tests of what gates decide by them."""

from collections.abc import Callable, Sequence

import msgspec

from training.evaluation.answers import SIDES, Answer, Which
from training.evaluation.items import Item, Label
from training.evaluation.judged import Scored

Place = tuple[Which, str, int, int]


def prompts(count: int, label: Label | None = None, turns: int = 1) -> list[Item]:
    return [
        Item(id=f"{label or 'p'}-{number}", turns=[[{"role": "user", "content": f"Q{number}"}]] * turns, label=label)
        for number in range(count)
    ]


def answered(items: Sequence[Item], says: Callable[[Which, int], Answer | str]) -> dict[Place, Answer]:
    """An answer of each side to each turn. says: of a prompt by its place; text, or an answer whose rest is kept."""
    found: dict[Place, Answer] = {}
    for number, item in enumerate(items):
        for side in SIDES:
            for turn in range(len(item.turns)):
                said = says(side, number)
                one = said if isinstance(said, Answer) else answer(text=said)
                placed = answer(side, item.id, turn, one)
                found[placed.place] = placed
    return found


def answer(side: Which = "a", item: str = "", turn: int = 0, like: Answer | None = None, **known: object) -> Answer:
    if like is not None:
        return msgspec.structs.replace(like, side=side, item=item, turn=turn)
    values = {"outcome": "answered", **known}
    return msgspec.convert({"side": side, "item": item, "sample": 0, "turn": turn, **values}, Answer)


def scored(answers: dict[Place, Answer], value: Callable[[Answer], float], by: str = "rm@1") -> dict[Place, Scored]:
    return {
        place: Scored(by=by, side=one.side, item=one.item, sample=0, turn=one.turn, value=value(one))
        for place, one in answers.items()
    }
