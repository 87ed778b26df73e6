"""When a canary could be promoted, for operators: votes still to come at the rate at which they come. Pure.

It is a forecast, not a decision: it takes the shares of thumbs up as they are now for the truth, and asks how many
times as many votes would bring the lower bound above -margin.
"""

import math

import msgspec

from gateway.release import budget
from gateway.release.assignment import challenger_share
from gateway.release.counts import Counts
from gateway.release.judging import DAY
from gateway.release.reading import bound_of, votes_of
from gateway.release.sequences import START_VOTES, Votes
from gateway.release.settings import ReleaseConfig
from gateway.release.state import Canary

# Beyond it nobody waits; shares that have just begun to differ are told apart from those that never will.
_MOST_TIMES = 10_000.0


class Outlook(msgspec.Struct, frozen=True):
    """votes: first votes until now, both groups. needed: in all, until the margin is resolved; None: cannot be told.

    a_day: how many come. days: until there are enough at that rate; 0: there are.
    """

    votes: int
    needed: int | None
    a_day: float
    days: float | None
    says: str


def outlook(settings: ReleaseConfig, canary: Canary, counts: Counts, now: float) -> Outlook:
    """Of a canary in a stage that compares."""
    votes = votes_of(counts)
    days = (now - canary.stage_began) / DAY
    a_day = votes.all / days if days > 0 else 0.0
    share = challenger_share(canary, settings)
    if canary.phase != "canary" or not budget.compares(settings, canary) or not 0.0 < share < 1.0:
        return Outlook(votes.all, None, a_day, None, "cannot be told yet: this stage compares no thumbs")
    if not votes.enough:
        told = f"cannot be told yet: {START_VOTES} first votes in either group are the least to go by"
        return Outlook(votes.all, None, a_day, None, told)
    times = _times(settings, votes, share)
    if times is None:
        told = f"cannot be told: at {100 * votes.difference:+.1f} points it never would be shown"
        return Outlook(votes.all, None, a_day, None, told)
    needed = math.ceil(times * votes.all)
    left = needed - votes.all
    wait = left / a_day if a_day > 0 else None
    told = f"{left} more first votes at {100 * votes.difference:+.1f} points"
    if wait is not None:
        told += f", {wait:.1f} days at {a_day:.0f} a day"
        left_days = settings.expire_days - (now - canary.began) / DAY
        told += f"; it expires in {max(0.0, left_days):.1f}" if wait > left_days else ""
    return Outlook(votes.all, needed, a_day, wait, told if left else "enough votes are there")


def _times(settings: ReleaseConfig, votes: Votes, share: float) -> float | None:
    """How many times the votes, at least once, bring the lower bound above -margin and reach min_votes."""

    def enough(times: float) -> bool:
        more = Votes(*(math.floor(times * one) for one in votes))
        wanted = min(more.challenger, more.control) >= settings.min_votes
        return wanted and bound_of(settings, more, share) > -settings.margin

    low, high = 1.0, 1.0
    while not enough(high):
        low, high = high, 2.0 * high
        if high > _MOST_TIMES:
            return None
    while high - low > 0.001 * high:
        middle = (low + high) / 2.0
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
