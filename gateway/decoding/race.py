"""Halving's decisions: which checkpoints are worth having, and who goes on at each. Pure.

At a checkpoint all that are in the race are compared: those that still run by the reward of what they were when they
passed it, those that have finished by that of the whole. The best go on. Who has finished and lost is out of the race,
but an answer all the same; who still runs and lost is given up.

Nobody waits for a checkpoint: candidates run on until the last of them has passed it and its score is there.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.decoding.card import ModelCard

# Where nobody says otherwise, checkpoints are at these shares of an answer's length.
_SHARES = (1 / 8, 1 / 4, 1 / 2)
# A part of a stream is no longer than this, and passes no checkpoint by more than this share of it.
_LONGEST_INTERVAL = 16
_OVERSHOOT = 1 / 8


@dataclass(frozen=True, slots=True)
class Course:
    """checkpoints: in tokens, ascending. unfit: where there are none, why, in one word."""

    checkpoints: tuple[int, ...]
    unfit: str | None = None


def course(
    wanted: Sequence[int],
    card: ModelCard | None,
    max_tokens: int,
    *,
    min_correlation: float,
    unmeasured: bool = False,
) -> Course:
    """The checkpoints that may decide: where the partial reward was measured to foretell the final one.

    wanted: none for those at shares of an answer's length. unmeasured: those count too of which nothing was measured.
    Unfit: `short` where no answer is long enough, `unmeasured`, or `correlation`, which is too low.
    """
    length = min(max_tokens, card.mean_tokens) if card else max_tokens
    points = sorted(set(wanted)) or sorted({max(1, round(share * length)) for share in _SHARES})
    points = [point for point in points if point < max_tokens]
    if not points:
        return Course((), "short")
    found = {point: card.correlation(point) if card else None for point in points}
    fit = tuple(point for point, one in found.items() if (unmeasured if one is None else one >= min_correlation))
    if fit:
        return Course(fit)
    return Course((), "unmeasured" if all(one is None for one in found.values()) else "correlation")


def interval(checkpoints: Sequence[int]) -> int:
    """Tokens between the parts of a stream, of which the first has one: as many as leave checkpoints where they are."""
    for tokens in range(_LONGEST_INTERVAL, 1, -1):
        if all(-(point - 1) % tokens <= _OVERSHOOT * point for point in checkpoints):
            return tokens
    return 1


@dataclass(frozen=True, slots=True)
class Entry:
    """Who has reached a checkpoint. text: equal for those that say the same. value: None where the score is missing."""

    index: int
    text: bytes
    value: float | None


def losers(entries: Sequence[Entry], share: float, least: int) -> dict[int, float]:
    """Who does not go on, with its score: all but the best round(share * all), `least` at the least.

    Ties go to the earlier. Those that say the same share their fate: they all go on where one does. Who has no score
    goes on, and takes nobody's place.
    """
    scored = [(value, entry) for entry in entries if (value := _known(entry)) is not None]
    places = max(least, round(share * len(scored)))
    copies = Counter(entry.text for _, entry in scored)
    going_on: Counter[bytes] = Counter()
    for _, entry in sorted(scored, key=lambda one: (-one[0], one[1].index)):
        if going_on.total() >= places:
            break
        going_on[entry.text] = copies[entry.text]
    return {entry.index: value for value, entry in scored if entry.text not in going_on}


def _known(entry: Entry) -> float | None:
    """Its score, if it is a number that ranks."""
    return entry.value if entry.value is not None and math.isfinite(entry.value) else None


@dataclass(frozen=True, slots=True)
class Loss:
    """Who is to be given up, after so many checkpoints that it has survived, and what its score was at this one."""

    index: int
    survived: int
    value: float


@dataclass(slots=True)
class Race:
    """Is told what happens; `decide` says who is given up.

    share: of those in the race, that goes on at a checkpoint; least: how many at least. unscored: at a checkpoint of
    more than `least` nobody had a score.
    """

    checkpoints: tuple[int, ...]
    share: float
    least: int
    running: set[int]
    unscored: bool = False
    _stage: int = 0
    _tokens: dict[int, int] = field(default_factory=dict)
    _partial: dict[tuple[int, int], Entry] = field(default_factory=dict)
    _finished: set[int] = field(default_factory=set)
    _final: dict[int, Entry] = field(default_factory=dict)

    def grown(self, index: int, tokens: int) -> list[int]:
        """It has so many tokens. Returns the numbers of the checkpoints that it has passed by that, to be scored."""
        before, self._tokens[index] = self._tokens.get(index, 0), tokens
        return [
            number
            for number, point in enumerate(self.checkpoints)
            if number >= self._stage and before < point <= tokens and index in self.running
        ]

    def begun_anew(self, index: int) -> None:
        """What it was is lost, and so are the scores of that; it stays where it has come in the race."""
        self._tokens[index] = 0
        self._partial = {key: entry for key, entry in self._partial.items() if key[0] != index}

    def scored(self, entry: Entry, number: int) -> None:
        """The score of what it was when it passed the checkpoint of this number."""
        self._partial[entry.index, number] = entry

    def finished(self, index: int) -> None:
        """It has ended: now its final reward counts, which is still to come."""
        if index in self.running:
            self.running.remove(index)
            self._finished.add(index)

    def judged(self, entry: Entry, *, contends: bool) -> None:
        """The final reward of one that has ended. contends: it may win, so that it may take another's place."""
        if entry.index not in self._finished:
            return
        if contends:
            self._final[entry.index] = entry
        else:
            self._finished.remove(entry.index)

    def lost(self, index: int) -> None:
        """It will never end."""
        self.running.discard(index)

    def decide(self) -> list[Loss]:
        """Who is given up now: at each checkpoint for which nothing is missing any more."""
        found: list[Loss] = []
        while self.running and self._stage < len(self.checkpoints):
            here = [self._final.get(index) for index in self._finished]
            here += [self._partial.get((index, self._stage)) for index in self.running]
            entries = [entry for entry in here if entry is not None]
            if len(entries) < len(here):
                break
            out = losers(entries, self.share, self.least)
            self.unscored |= len(entries) > self.least and all(_known(entry) is None for entry in entries)
            found += [Loss(index, self._stage, value) for index, value in out.items() if index in self.running]
            self.running -= out.keys()
            self._finished -= out.keys()
            self._stage += 1
        return found
