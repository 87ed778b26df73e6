"""What becomes of a canary, from its counts: stay, go on, promote, roll back, hold, expire. Pure.

    harm shown           roll back, at once and in every stage: the e-value of a signal is at its limit, or that of all
                         of them together
    canary, in a stage   stay until min_hours and min_users are over, then the next one
    canary, before last  promote, once thumbs up are shown to be no more than `margin` fewer (lower bound above
                         -margin) with min_votes and min_days, and two operators agree where that is wanted; else hold
    ratio broken         hold: the groups are not as drawn (answers of one were lost, somebody has many names), so no
                         comparison can be trusted, and least of all a good one. It is no proof of harm, and what
                         broke it is most often the logging; harm that shows at the drawn ratio and at the one that
                         came still rolls back
    too old              expire, whatever it waits for
    watch                watched, after watch_days

Every decision has a sentence with the numbers, and the readings that it was made by (`reading.py`).
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from gateway.release import budget
from gateway.release.counts import Counts
from gateway.release.reading import RATIO, TOGETHER, Reading, read, votes_of
from gateway.release.settings import ReleaseConfig
from gateway.release.state import Canary

HOUR, DAY = 3600.0, 86400.0

Verdict = Literal["stay", "next", "promote", "roll_back", "hold", "expire", "watched"]


class Decision(msgspec.Struct, frozen=True):
    """why: a sentence."""

    act: Verdict
    why: str
    readings: tuple[Reading, ...] = ()


def judge(settings: ReleaseConfig, canary: Canary, counts: Counts, now: float) -> Decision:
    """counts: of the canary's present stage. now: seconds since 1970."""
    readings = read(settings, canary, counts)
    if harm := [one for one in readings if one.harm]:
        return Decision("roll_back", f"the challenger does harm: {_accused(readings, harm)}", readings)
    if canary.phase == "watch":
        act, why = _watching(settings, canary, readings, now)
        return Decision(act, why, readings)
    act, why = _going_on(settings, canary, counts, readings, now)
    days = (now - canary.began) / DAY
    if act != "promote" and days >= settings.expire_days:
        why = f"after {days:.1f} days (release.expire_days: {settings.expire_days:g}) it still waits: {why}"
        return Decision("expire", why, readings)
    return Decision(act, why, readings)


def _watching(settings: ReleaseConfig, canary: Canary, readings: Sequence[Reading], now: float) -> tuple[Verdict, str]:
    days = (now - canary.stage_began) / DAY
    told = _thumbs(readings)
    if days >= settings.watch_days:
        return "watched", f"no harm was seen in {days:.1f} days beside the hold-back group; {told}"
    if broken := _broken(readings):
        return "hold", broken
    return "stay", f"watched for {days:.1f} of {settings.watch_days:g} days; {told}"


def _going_on(
    settings: ReleaseConfig, canary: Canary, counts: Counts, readings: Sequence[Reading], now: float
) -> tuple[Verdict, str]:
    if canary.phase != "canary":
        return "stay", "nobody gets it yet"
    if broken := _broken(readings):
        return "hold", broken
    if canary.held_by:
        return "hold", f"{canary.held_by} holds it: {canary.held}"
    if missing := _missing(settings, canary, counts, now):
        return "stay", missing
    if not budget.is_last(settings, canary):
        share = settings.stages[canary.stage]
        return "next", f"no harm at {share:.3g} of the users: {_users(counts)} in {_hours(canary, now):.1f} hours"
    return _promoting(settings, canary, counts, readings, now)


def _promoting(
    settings: ReleaseConfig, canary: Canary, counts: Counts, readings: Sequence[Reading], now: float
) -> tuple[Verdict, str]:
    votes, days = votes_of(counts), (now - canary.began) / DAY
    thumbs = next((one for one in readings if one.signal == budget.THUMBS), None)
    if thumbs is None:
        return "hold", (
            "there is nobody to compare it with: promote it by hand, or let release.hold_back, stages and compare_from "
            "leave a control group in a stage that compares"
        )
    if min(votes.challenger, votes.control) < settings.min_votes:
        return "hold", (
            f"{votes.challenger} first votes with the challenger and {votes.control} with the control: "
            f"{settings.min_votes} in either group are wanted (release.min_votes)"
        )
    if days < settings.min_days:
        return "stay", f"{days:.1f} days since its first users of {settings.min_days:g} (release.min_days)"
    if not thumbs.ok:
        return "hold", f"not shown to be at most {100 * settings.margin:g} points worse (release.margin): {thumbs}"
    if settings.two_person and len(set(canary.approvals)) < 2:
        by = ", ".join(canary.approvals) or "nobody yet"
        return "hold", f"it waits for two operators (release.two_person), approved by {by}; {thumbs}"
    return "promote", f"at most {100 * settings.margin:g} points worse (release.margin): {thumbs}"


def _missing(settings: ReleaseConfig, canary: Canary, counts: Counts, now: float) -> str | None:
    """What the stage still waits for."""
    hours = _hours(canary, now)
    if hours < settings.min_hours:
        return f"{hours:.1f} of {settings.min_hours:g} hours of the stage (release.min_hours); {_users(counts)}"
    if min(counts.challenger.users, counts.control.users) < settings.min_users:
        return f"{_users(counts)}: {settings.min_users} in either group are wanted (release.min_users)"
    return None


def _accused(readings: Sequence[Reading], harm: Sequence[Reading]) -> str:
    """What shows it: the signals at their limits, or those that together are, the strongest first."""
    alone = [one for one in harm if one.signal != TOGETHER]
    if alone:
        return "; ".join(map(str, alone))
    signals = [one for one in readings if one.signal not in (RATIO, TOGETHER)]
    strongest = sorted(signals, key=lambda one: (one.e_value or 0.0) / (one.limit or 1.0), reverse=True)[:2]
    return "; ".join(map(str, (*harm, *strongest)))


def _broken(readings: Sequence[Reading]) -> str | None:
    ratio = next((one for one in readings if one.signal == RATIO), None)
    if ratio is None or ratio.ok:
        return None
    return f"the groups are not as they were drawn, so nothing can be compared: {ratio}"


def _thumbs(readings: Sequence[Reading]) -> str:
    return next((str(one) for one in readings if one.signal == budget.THUMBS), "nobody to compare it with")


def _users(counts: Counts) -> str:
    return f"{counts.challenger.users} users with the challenger, {counts.control.users} with the control"


def _hours(canary: Canary, now: float) -> float:
    return (now - canary.stage_began) / HOUR
