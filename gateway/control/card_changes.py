"""What may be done to model cards: pure functions, which all raise ApiErrors.

A card is refused where a strategy would be misled by it: figures that are not finite, points that do not ascend.
Whether its versions are those that are served is asked at each request (`cards.CardStore`): it can come before them.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from gateway.control.state import ControlState, Decide
from gateway.decoding.card import FORMAT, ModelCard
from gateway.errors import BadRequest, ModelNotFound, NotFound
from gateway.shared.note import Note


def put_card(model: str, card: ModelCard, models: Mapping[str, Any], made: Note) -> Decide:
    """The card of a public model, in the place of the one before it. models: those that are served."""
    if model not in models:
        raise ModelNotFound(f"The model {model!r} does not exist. Available: {', '.join(sorted(models)) or 'none'}.")
    if card.model != model:
        raise BadRequest(f"card.model: it was measured on {card.model!r}, not on {model!r}", param="card.model")
    check_card(card)

    def decide(state: ControlState) -> ControlState:
        if state.cards.get(model) == card:
            return state
        return msgspec.structs.replace(
            state, cards={**state.cards, model: card}, card_notes={**state.card_notes, model: made}
        )

    return decide


def remove_card(model: str) -> Decide:
    """Strategies that need one do without from then on."""

    def decide(state: ControlState) -> ControlState:
        if model not in state.cards:
            raise no_card(model, state)
        return msgspec.structs.replace(
            state,
            cards={name: card for name, card in state.cards.items() if name != model},
            card_notes={name: made for name, made in state.card_notes.items() if name != model},
        )

    return decide


def no_card(model: str, state: ControlState) -> NotFound:
    known = ", ".join(sorted(state.cards)) or "none"
    return NotFound(
        f"there is no card of {model!r} (there is {known}); `bestow calibrate` measures it", code="card_not_found"
    )


def check_card(card: ModelCard) -> None:
    """Raises BadRequest naming the field."""
    if card.format != FORMAT:
        raise _wrong("format", f"{card.format} is of another release; this one reads {FORMAT}")
    for where, number in _numbers("", msgspec.to_builtins(card)):
        if not math.isfinite(number):
            raise _wrong(where, "it must be a finite number")
    for where in ("prompts", "answers", "deviation", "mean_tokens", "law.count", "law.deviation"):
        if not _of(card, where) > 0:
            raise _wrong(where, "it must be above 0")
    _ascends("law.quantiles", card.law.quantiles, least=2)
    _ascends("residuals", card.residuals, least=2)
    if card.lengths:
        _ascends("lengths", card.lengths, least=2)
    _ascends("curve", [point.n for point in card.curve], strictly=True)
    _ascends("partial", [point.tokens for point in card.partial], strictly=True)
    _ascends("length", [point.tokens for point in card.length], strictly=True)
    for index, curved in enumerate(card.curve):
        if curved.n < 1 or not curved.low <= curved.reward <= curved.high:
            raise _wrong(f"curve.{index}", "n must be 1 or more, and low <= reward <= high")
    for index, point in enumerate(card.partial):
        if point.tokens < 1 or not -1 <= point.low <= point.correlation <= point.high <= 1:
            raise _wrong(f"partial.{index}", "tokens must be 1 or more, and -1 <= low <= correlation <= high <= 1")
    for name, law in card.guard.items():
        _ascends(f"guard.{name}.quantiles", law.quantiles, least=2)
        if not (law.quantiles[0] >= 0 and law.quantiles[-1] <= 1 and 0 <= law.flagged <= 1):
            raise _wrong(f"guard.{name}", "probabilities and the share flagged must be in [0, 1]")


def _ascends(where: str, values: Sequence[float], *, least: int = 0, strictly: bool = False) -> None:
    if len(values) < least:
        raise _wrong(where, f"it needs {least} numbers or more")
    if any(after < before or (strictly and after == before) for before, after in pairwise(values)):
        raise _wrong(where, "its points must ascend" if strictly else "it must not decrease")


def _numbers(where: str, value: Any) -> list[tuple[str, float]]:
    """All numbers of the card, each with the path to it."""
    if isinstance(value, dict):
        return [found for key, one in value.items() for found in _numbers(f"{where}.{key}" if where else key, one)]
    if isinstance(value, list):
        return [found for index, one in enumerate(value) for found in _numbers(f"{where}.{index}", one)]
    return [(where, value)] if isinstance(value, float) else []


def _of(card: ModelCard, where: str) -> Any:
    found: Any = card
    for name in where.split("."):
        found = getattr(found, name)
    return found


def _wrong(where: str, what: str) -> BadRequest:
    return BadRequest(f"card.{where}: {what}", param=f"card.{where}")
