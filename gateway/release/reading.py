"""What the counts of a stage say: one reading a signal, each with its limit. Pure."""

import math
from collections.abc import Mapping, Sequence

import msgspec

from gateway.release import budget
from gateway.release.assignment import challenger_share
from gateway.release.counts import Counts, Signal
from gateway.release.sequences import Votes, highest, log_harm, log_imbalance, log_worse, lowest, resolving
from gateway.release.settings import ReleaseConfig
from gateway.release.state import Canary

RATIO, TOGETHER = "ratio", "together"
# The reference's p > .001 as an e-value: a ratio that is right passes it in one stage of a thousand.
RATIO_LIMIT = 1000.0
# Beyond it a float is no number that JSON has.
_MOST_LOG = 690.0

NAMES: dict[str, str] = {
    budget.THUMBS: "thumbs up among first votes",
    RATIO: "users with the challenger",
    TOGETHER: "all signals together",
    "up": "users whose first thumb was up",
    "complaint": "users with a complaint",
    "unsafe": "users with an unsafe answer",
    "error": "users with an error",
    "regenerated": "users who asked again",
    "slow": "users with a slow answer",
}


class Reading(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One signal. value: the challenger's share less the control's (of `ratio`: the challenger's share of the users).

    low, high: of thumbs, each of them right at all times together with probability 1 - alpha; None: too few votes yet.
    e_value, limit: where the first reaches the second the signal is harm (of `ratio`: the groups are not what was
    drawn). challenger, control: how many of how many, by group. harm: it is shown that the challenger is worse.
    ok: nothing here keeps it from being promoted.
    """

    signal: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    e_value: float | None = None
    limit: float | None = None
    harm: bool = False
    ok: bool = True
    challenger: tuple[int, int] = (0, 0)
    control: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        """A clause with the numbers."""
        (hits, users), (control_hits, control_users) = self.challenger, self.control
        name = NAMES[self.signal]
        if self.signal == TOGETHER:
            return f"{name} (e-value {_short(self.e_value)}, harm from {_short(self.limit)})"
        if self.signal == RATIO:
            drawn = f"{hits} of {users} {name}"
            return f"{drawn} (e-value {_short(self.e_value)} against the drawn ratio, broken from {_short(self.limit)})"
        text = f"{name}: {hits} of {users} with the challenger, {control_hits} of {control_users} with the control"
        if self.signal == budget.THUMBS and self.low is not None and self.high is not None and self.value is not None:
            points = (f"{100 * one:+.1f}" for one in (self.value, self.low, self.high))
            text += ": {} points, {} to {}".format(*points)
        return f"{text} (e-value {_short(self.e_value)}, harm from {_short(self.limit)})"


def read(settings: ReleaseConfig, canary: Canary, counts: Counts) -> tuple[Reading, ...]:
    """All that a stage watches; nothing where nobody has the challenger, or everybody."""
    if canary.phase not in ("canary", "watch"):
        return ()
    share = challenger_share(canary, settings)
    if not 0.0 < share < 1.0:
        return ()
    alphas = budget.alphas(settings, canary)
    ratio = _of_users(counts, share)
    # Where users are missing in a group, those who are left do less of everything: what is harm then must be harm at
    # the ratio that came, too.
    shares = (share,) if ratio.ok else (share, _came(counts))
    found = [_of_signal(signal, counts, shares, alphas[signal]) for signal in budget.signals(settings, canary)]
    if budget.THUMBS in alphas:
        found.insert(0, _of_thumbs(settings, counts, shares, alphas[budget.THUMBS]))
    return (ratio, _together(found, alphas), *found)


def votes_of(counts: Counts) -> Votes:
    """First votes, by group."""
    up, down = counts.challenger.of("up"), counts.challenger.of("down")
    control_up, control_down = counts.control.of("up"), counts.control.of("down")
    return Votes(up + down, up, control_up + control_down, control_up)


def bound_of(settings: ReleaseConfig, votes: Votes, share: float) -> float:
    """What the difference in thumbs up is above, at the error of a promotion: alpha, since one stage alone decides."""
    return lowest(votes, settings.alpha, aim_of(settings, share))


def aim_of(settings: ReleaseConfig, share: float) -> float:
    """The votes at which the bound is narrowest: where it resolves the margin."""
    return resolving(settings.margin, share, settings.alpha)


def _of_users(counts: Counts, share: float) -> Reading:
    users, others = counts.challenger.users, counts.control.users
    log_e = log_imbalance(users, others, share)
    return Reading(
        signal=RATIO,
        value=users / (users + others) if users + others else None,
        e_value=_e(log_e),
        limit=RATIO_LIMIT,
        ok=log_e < math.log(RATIO_LIMIT),
        challenger=(users, users + others),
        control=(others, users + others),
    )


def _together(found: Sequence[Reading], alphas: Mapping[str, float]) -> Reading:
    """The mean of the signals' e-values, weighted by their parts: an e-value too, whatever they have to do with each
    other, and at its limit whenever one of them is. Signals that each are nearly harm are harm together."""
    alpha = math.fsum(alphas.values())
    e_value = math.fsum(alphas[one.signal] * (one.e_value or 0.0) for one in found) / alpha
    harm = any(one.harm for one in found) or e_value >= 1.0 / alpha
    return Reading(signal=TOGETHER, e_value=e_value, limit=1.0 / alpha, harm=harm, ok=not harm)


def _came(counts: Counts) -> float:
    """The challenger's share of the users who came, in (0, 1)."""
    return (counts.challenger.users + 0.5) / (counts.challenger.users + counts.control.users + 1.0)


def _of_thumbs(settings: ReleaseConfig, counts: Counts, shares: Sequence[float], alpha: float) -> Reading:
    votes, share = votes_of(counts), shares[0]
    log_e = min(log_worse(votes, one) for one in shares)
    harm = log_e >= -math.log(alpha)
    low = bound_of(settings, votes, share)
    return Reading(
        signal=budget.THUMBS,
        value=votes.difference if votes.challenger and votes.control else None,
        low=low if votes.enough else None,
        high=highest(votes, settings.alpha, aim_of(settings, share)) if votes.enough else None,
        e_value=_e(log_e),
        limit=1.0 / alpha,
        harm=harm,
        ok=low > -settings.margin and not harm,
        challenger=(votes.challenger_up, votes.challenger),
        control=(votes.control_up, votes.control),
    )


def _of_signal(signal: Signal, counts: Counts, shares: Sequence[float], alpha: float) -> Reading:
    one, other = counts.challenger, counts.control
    log_e = min(log_harm(one.of(signal), other.of(signal), share, signal in budget.FEWER) for share in shares)
    harm = log_e >= -math.log(alpha)
    return Reading(
        signal=signal,
        value=one.of(signal) / one.users - other.of(signal) / other.users if one.users and other.users else None,
        e_value=_e(log_e),
        limit=1.0 / alpha,
        harm=harm,
        ok=not harm,
        challenger=(one.of(signal), one.users),
        control=(other.of(signal), other.users),
    )


def _e(log: float) -> float:
    return math.exp(min(log, _MOST_LOG))


def _short(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
