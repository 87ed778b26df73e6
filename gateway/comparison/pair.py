"""Which two answers are compared, and how likely that was. Pure.

One of the two is always what the selection rule chose, as if nobody had been asked; comparing changes nothing in how it
is chosen. The other is the best of the others by reward (`best`) or any of them alike (`random`), among those that
differ from it in their scores alone: just as safe, and no answer that ranks behind whatever its reward. Candidates that
say the same are one. With p the rule's probabilities and q that of the other one,

    P({i, j}) = p_i q(j | i) + p_j q(i | j)          given all scores, and that a comparison is asked for

Asking, the other one and the order in which they are shown are drawn from the interaction's id: three numbers, the
first bytes of its SHA-256. So whoever has the log can draw again. The request's own seed draws nothing here: an
application that always sends the same one would be asked always or never.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from gateway.comparison.settings import Against
from gateway.decoding.candidate import Judged, identity

# A float holds so many bits of a number below 1.
_BITS = 53


@dataclass(frozen=True, slots=True)
class Draw:
    """What chance says of one request, each in [0, 1): whether it is asked, against which other, in which order."""

    asked: float
    other: float
    order: float

    @classmethod
    def of(cls, identifier: str) -> Self:
        digest = hashlib.sha256(b"comparison\0" + identifier.encode()).digest()
        words = (int.from_bytes(digest[start : start + 8]) for start in (0, 8, 16))
        return cls(*((word >> (64 - _BITS)) / 2**_BITS for word in words))


@dataclass(frozen=True, slots=True)
class Pair:
    """Two candidates, by position. propensity: that it is these two, given all scores and that two are asked for.

    shown: both, in the order in which a person sees them.
    """

    chosen: int
    other: int
    propensity: float
    shown: tuple[int, int]


def pair_of(
    judged: Sequence[Judged],
    peers: Sequence[int],
    chosen: int,
    chances: Sequence[float],
    against: Against,
    drawn: Draw,
) -> Pair | None:
    """The two to compare; None where there are no two different ones.

    peers: positions that may be shown, best first; `chosen` must be one of them. chances: the rule's, by position.
    """
    if chosen not in peers:
        return None
    texts = [identity(one.candidate.message) for one in judged]
    stands: dict[bytes, int] = {}
    for position in peers:
        stands.setdefault(texts[position], position)
    stands[texts[chosen]] = chosen
    able = list(stands.values())
    others = [position for position in able if position != chosen]
    if not others:
        return None
    other = others[0] if against == "best" else others[int(drawn.other * len(others))]

    def drawn_first(first: int) -> float:
        return sum(chance for text, chance in zip(texts, chances, strict=True) if text == texts[first])

    def follows(second: int, first: int) -> float:
        if against == "random":
            return 1 / len(others)
        return float(next(position for position in able if position != first) == second)

    propensity = drawn_first(chosen) * follows(other, chosen) + drawn_first(other) * follows(chosen, other)
    shown = (chosen, other) if drawn.order < 0.5 else (other, chosen)
    return Pair(chosen, other, min(1.0, propensity), shown)
