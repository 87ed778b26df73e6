"""Simulated canaries: people who come, are served by the arm that the release code gives them, and vote.

A person has a taste t ~ Normal(0, 1.2) in log-odds, comes as a Poisson process whose rate is log-normal over people
(a few ask most), and votes on a share of the answers of their own:

    P(thumbs up) = sigmoid(m + t + d where the challenger answered)

m and d are such that the mean share over people is BASE, and BASE less the `worse` of the version. All else that is
decided is the gateway's own: who is in which group (`assignment`), what counts (`Tally`), and what becomes of the
canary (`judge`), which looks whenever a count has changed. Interactions that say nothing new of a user, neither the
first of the stage nor one with a signal, are left out beforehand: no count but that of interactions would change.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from gateway.release.assignment import arm_of, group_of
from gateway.release.counting import Tally
from gateway.release.counts import Event, Signal
from gateway.release.judging import DAY, HOUR, Verdict, judge
from gateway.release.sequences import START_VOTES, tuned
from gateway.release.settings import ReleaseConfig
from gateway.release.state import Arm, Bundle, Canary

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TASTE_SPREAD = 1.2
ACTIVITY_SPREAD = 1.3
A_DAY = 1.0
ZEAL, ZEAL_STRENGTH = 0.16, 4.0
BASE = 0.6
# Of interactions, in either arm.
ERRORS, UNSAFE, REGENERATED, FLAGS = 0.003, 0.0005, 0.04, 0.005
_GROUPS: tuple[Arm | None, ...] = (None, "challenger", "control")


@dataclass(frozen=True)
class Version:
    """What the challenger is like. worse: points of thumbs up, as a share. errors: of its answers."""

    worse: float = 0.0
    errors: float = ERRORS


@dataclass(frozen=True)
class Traffic:
    """All interactions in the order of their time, one row each. users: of how many people.

    moods: uniform; a thumb is up where it is below the person's probability. chances: uniform, for errors.
    """

    users: int
    times: Floats
    who: Ints
    tastes: Floats
    votes: NDArray[np.bool_]
    moods: Floats
    chances: Floats
    unsafe: NDArray[np.bool_]
    regenerated: NDArray[np.bool_]
    flagged: NDArray[np.bool_]


@dataclass(frozen=True)
class Outcome:
    """How a canary ended. stage: the last one, the watch is one more than the last canary stage.

    interactions, users: of the challenger, in all stages together. days: since the first user. naive, clustered:
    whether a sequence at the whole alpha over all votes, and over first votes, found harm in the stage that compares.
    """

    act: Verdict
    why: str
    promoted: bool
    stage: int
    interactions: int
    users: int
    days: float
    naive: bool = False
    first_votes: bool = False


def traffic(users: int, days: float, rng: np.random.Generator) -> Traffic:
    """What `users` people do in so many days, whoever answers them."""
    rates = A_DAY * rng.lognormal(-(ACTIVITY_SPREAD**2) / 2, ACTIVITY_SPREAD, users)
    zeal = rng.beta(ZEAL_STRENGTH * ZEAL, ZEAL_STRENGTH * (1 - ZEAL), users)
    who = np.repeat(np.arange(users), rng.poisson(rates * days))
    times = rng.random(len(who)) * days * DAY
    order = np.argsort(times)
    who = who[order]
    count = len(who)
    return Traffic(
        users,
        times[order],
        who,
        rng.normal(0.0, TASTE_SPREAD, users),
        rng.random(count) < zeal[who],
        rng.random(count),
        rng.random(count),
        rng.random(count) < UNSAFE,
        rng.random(count) < REGENERATED,
        rng.random(count) < FLAGS,
    )


@lru_cache(maxsize=64)
def leaning(share: float) -> float:
    """The log-odds m at which people say thumbs up with that share on average: E sigmoid(m + taste) = share."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    low, high = -12.0, 12.0
    for _ in range(60):
        middle = (low + high) / 2
        mean = float(weights @ (1 / (1 + np.exp(-middle - TASTE_SPREAD * nodes)))) / math.sqrt(2 * math.pi)
        low, high = (middle, high) if mean < share else (low, middle)
    return low


def run_canary(
    settings: ReleaseConfig, version: Version, seen: Traffic, name: str, *, every: int = 1, contrast: bool = False
) -> Outcome:
    """One canary from its first user to its end. name: of its draw of people.

    every: how many changed counts pass between two looks. contrast: also the naive sequence. Raises ValueError where
    the traffic ends before the canary does.
    """
    canary = Canary(bundle=Bundle(release=1), control=Bundle(), salt=name, phase="canary", began=0.0, stage_began=0.0)
    start, interactions, promoted = 0, 0, False
    had = np.zeros(seen.users, dtype=np.bool_)
    naive = first_votes = False
    while True:
        stage = _Stage(settings, canary, version, seen, start)
        act, why, stop = _watched(stage, settings, canary, every)
        served = stage.challenged(stop)
        interactions += len(served)
        had[served] = True
        if contrast and canary.phase == "canary" and settings.stages[canary.stage] >= settings.compare_from:
            naive, first_votes = stage.contrasts(stop, settings)
        now = float(seen.times[stop])
        if act not in ("next", "promote"):
            place = canary.stage
            return Outcome(
                act, why, promoted, place, interactions, int(had.sum()), now / DAY, naive=naive, first_votes=first_votes
            )
        promoted |= act == "promote"
        canary = msgspec.structs.replace(
            canary, stage=canary.stage + 1, stage_began=now, phase="watch" if promoted else "canary"
        )
        start = stop + 1


def _watched(stage: "_Stage", settings: ReleaseConfig, canary: Canary, every: int) -> tuple[Verdict, str, int]:
    """Until something is decided: what, why, and at which interaction."""
    tally, changes, looked = Tally(), 0, -math.inf
    for row, events in stage.events():
        now = float(stage.seen.times[row])
        # Not `any`: all of them count.
        changes += sum([tally.apply(event) for event in events])
        # Time alone decides some things, to the hour.
        if changes < every and now - looked < HOUR:
            continue
        changes, looked = 0, now
        decision = judge(settings, canary, tally.counts, now)
        if decision.act not in ("stay", "hold"):
            return decision.act, decision.why, row
    raise ValueError("the traffic ends before the canary does: simulate more days")


class _Stage:
    """What happens in a stage, from the interaction `start` on."""

    def __init__(self, settings: ReleaseConfig, canary: Canary, version: Version, seen: Traffic, start: int) -> None:
        self.seen, self.start = seen, start
        names = [f"user-{number}" for number in range(seen.users)]
        self._names = names
        self._groups = np.array([_GROUPS.index(group_of(canary, settings, name)) for name in names])
        self._treated = np.array([arm_of(canary, settings, name) == "challenger" for name in names])
        who = seen.who[start:]
        treated = self._treated[who]
        logits = leaning(BASE) + seen.tastes[who] + np.where(treated, leaning(BASE - version.worse) - leaning(BASE), 0)
        self._up = seen.moods[start:] < 1 / (1 + np.exp(-logits))
        self._error = seen.chances[start:] < np.where(treated, version.errors, ERRORS)

    def events(self) -> Iterator[tuple[int, list[Event]]]:
        """The row of each interaction that says something of a counted user, and its events."""
        seen, start = self.seen, self.start
        who, votes = seen.who[start:], seen.votes[start:]
        group = self._groups[who]
        first = np.zeros(len(who), dtype=np.bool_)
        first[np.unique(who, return_index=True)[1]] = True
        complaint = votes & ~self._up | seen.flagged[start:]
        marks: tuple[tuple[Signal, NDArray[np.bool_]], ...] = (
            ("error", self._error),
            ("unsafe", seen.unsafe[start:]),
            ("up", votes & self._up),
            ("down", votes & ~self._up),
            ("complaint", complaint),
            ("regenerated", seen.regenerated[start:]),
        )
        said = first.copy()
        for _, mark in marks:
            said |= mark
        rows = np.flatnonzero(said & (group > 0))
        columns = [mark[rows].tolist() for _, mark in marks]
        for place, row in enumerate(rows.tolist()):
            arm = _GROUPS[group[row]]
            assert arm is not None
            name = self._names[who[row]]
            happened = [Event(name, arm, None)]
            happened += [
                Event(name, arm, signal) for (signal, _), column in zip(marks, columns, strict=True) if column[place]
            ]
            yield start + row, happened

    def challenged(self, stop: int) -> Ints:
        """Who was served by the challenger, once an interaction, up to and with the row `stop`."""
        who = self.seen.who[self.start : stop + 1]
        served: Ints = who[self._treated[who]]
        return served

    def contrasts(self, stop: int, settings: ReleaseConfig) -> tuple[bool, bool]:
        """Whether sequences at the whole alpha found harm: over all votes as if each were a person's, and over first
        votes."""
        end = stop + 1 - self.start
        who = self.seen.who[self.start : stop + 1]
        rows = np.flatnonzero(self.seen.votes[self.start : stop + 1] & (self._groups[who] > 0))
        first = rows[np.sort(np.unique(who[rows], return_index=True)[1])]
        groups, up = self._groups[who] == 1, self._up[:end]
        return harmed(groups[rows], up[rows], settings), harmed(groups[first], up[first], settings)


def harmed(challenger: NDArray[np.bool_], up: NDArray[np.bool_], settings: ReleaseConfig) -> bool:
    """Whether `sequences.highest` at the whole alpha is ever below 0, vote by vote: the same, for arrays."""
    n1, n0 = np.cumsum(challenger), np.cumsum(~challenger)
    up1, up0 = np.cumsum(challenger & up), np.cumsum(~challenger & up)
    enough = np.minimum(n1, n0) >= START_VOTES
    n1, n0, up1, up0 = n1[enough], n0[enough], up1[enough], up0[enough]
    if not len(n1):
        return False
    p1, p0 = (up1 + 1) / (n1 + 2), (up0 + 1) / (n0 + 2)
    share = float(n1[-1] / (n1[-1] + n0[-1]))
    aim = settings.min_votes / min(share, 1 - share)
    c = tuned(settings.alpha) * (n1 + n0) / aim
    width = np.sqrt((c + 1) / c * 2 * np.log(0.5 + np.sqrt(c + 1) / (2 * settings.alpha)))
    spread = np.sqrt(p1 * (1 - p1) / n1 + p0 * (1 - p0) / n0)
    return bool((up1 / n1 - up0 / n0 + spread * width < 0).any())


def days_of(settings: ReleaseConfig) -> float:
    """Long enough for any canary with these settings, and a day."""
    return settings.expire_days + settings.watch_days + 1.0
