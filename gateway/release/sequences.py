"""What may be looked at after every event, as often as one likes, and still errs as seldom as it says. Pure.

An e-process E has E[E] <= 1 at any time of stopping while nothing is wrong, so that P(E ever reaches 1 / alpha) <=
alpha (Ville 1939; Ramdas, Gruenwald, Vovk & Shafer 2023, "Game-theoretic statistics and safe anytime-valid
inference"). A confidence sequence is an interval that holds the truth at all times together with 1 - alpha.

    log_harm         do more (or fewer) users of the challenger have an event than a draw by hash explains?
    log_worse        do users vote down with the challenger, and up with the control, more than it explains?
    log_imbalance    do the groups come in the ratio that the hash draws?
    lowest, highest  how much larger or smaller is the challenger's share of thumbs up?

The first three are exact for any number of users, however unlike each other they are. The last is asymptotic.
"""

import math
from functools import lru_cache
from typing import NamedTuple

# Odds ratios that harm may have: of a rare error it is large, of what half of the users do it is small.
ODDS = (1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
# Alternatives to "no difference" in thumbs: the control's share of thumbs up, and the challenger's log-odds below it.
_SHARES_UP = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 0.95)
_DROPS = (0.12, 0.25, 0.5, 1.0, 2.0)
# How sure the alternative to the drawn ratio is that the ratio is not far off, in users.
CONCENTRATION = 100.0
# First votes in either group before the asymptotic sequence says anything.
START_VOTES = 30


class Votes(NamedTuple):
    """First votes, one a user, and how many of them are thumbs up."""

    challenger: int
    challenger_up: int
    control: int
    control_up: int

    @property
    def all(self) -> int:
        return self.challenger + self.control

    @property
    def enough(self) -> bool:
        """Whether the asymptotic sequence says anything yet."""
        return min(self.challenger, self.control) >= START_VOTES

    @property
    def difference(self) -> float:
        """The challenger's share of thumbs up less the control's. Both have votes."""
        return self.challenger_up / self.challenger - self.control_up / self.control

    @property
    def variance(self) -> float:
        """Of the difference: p1 q1 / n1 + p0 q0 / n0, each p as if one vote more had been up and one more down
        (Agresti & Caffo 2000), so that few votes which are all alike do not pass for certainty."""
        return _variance(self.challenger_up, self.challenger) + _variance(self.control_up, self.control)


# The leader asks every second, mostly for the same counts.
@lru_cache(maxsize=2**16)
def log_harm(challenger: int, control: int, share: float, fewer: bool = False) -> float:
    """The log e-value of `challenger` and `control` users with a first event of a kind. share: the challenger's of all
    users that are counted, in (0, 1). fewer: harm is that fewer of its users have the event.

    Where the version makes no difference, whether and when a user has the event does not depend on the label, which a
    hash has drawn: given all that users do, the labels L_1, L_2, ... of those with an event are independent
    Bernoulli(share). Harm multiplies the odds by theta > 1:

        E = mean over theta of prod_i (q_theta / share)^L_i ((1 - q_theta) / (1 - share))^(1 - L_i)
        q_theta = theta share / (theta share + 1 - share)

    a mixture of likelihood ratios, so a martingale in the order of the events, which depends on the counts alone. It
    is the safe test of two proportions (Turner, Ly & Gruenwald 2021, "Generic E-variables for exact sequential
    k-sample tests that allow for optional stopping") and the safe logrank test (ter Schure, Perez-Ortiz, Ly &
    Gruenwald 2020) in the form that a randomisation by hash allows: users may be as different as they like.
    """
    thetas = (1.0 / odds if fewer else odds for odds in ODDS)
    return _log_mean([_log_ratio(challenger, control, share, theta) for theta in thetas])


@lru_cache(maxsize=2**16)
def log_worse(votes: Votes, share: float) -> float:
    """The log e-value of the challenger getting a smaller share of thumbs up. share: as in `log_harm`.

    Where it makes no difference, the labels of those whose first vote is up are independent Bernoulli(share), and so
    are those of the others. Where users vote up with p0 by the control and p1 < p0 by the challenger, the odds of the
    label are theta_up = p1 / p0 times as high among ups, theta_down = (1 - p1) / (1 - p0) among downs. E is the mean of
    the likelihood ratios over pairs (p0, p1); it is a supermartingale where the challenger is better, too.

    The upper bound of a confidence sequence below 0 would say the same. But with groups as unlike in size as 14 to 1
    and nearly all thumbs up, the asymptotic one errs five times as often as it says at the small part of alpha that a
    signal has in a stage (tests/gateway/release/test_sequences.py), and this never does.
    """
    down, control_down = votes.challenger - votes.challenger_up, votes.control - votes.control_up
    logs = []
    for theta_up, theta_down in _ALTERNATIVES:
        ups = _log_ratio(votes.challenger_up, votes.control_up, share, theta_up)
        logs.append(ups + _log_ratio(down, control_down, share, theta_down))
    return _log_mean(logs)


@lru_cache(maxsize=2**16)
def log_imbalance(challenger: int, control: int, share: float) -> float:
    """The log e-value against users coming to the two groups in the ratio share : 1 - share, share in (0, 1).

    Against a ratio that is drawn from Beta(a, b), a = c share, b = c (1 - share) (Lindon & Malek 2022, "Anytime-valid
    inference for multinomial count data"):

        E = B(a + challenger, b + control) / B(a, b) / (share^challenger (1 - share)^control)
    """
    a, b = CONCENTRATION * share, CONCENTRATION * (1.0 - share)
    null = challenger * math.log(share) + control * math.log1p(-share)
    return _log_beta(a + challenger, b + control) - _log_beta(a, b) - null


def highest(votes: Votes, alpha: float, aim: float) -> float:
    """Above the difference at all times together with probability 1 - alpha, approximately. Infinite before the start.

    aim: the number of votes at which the sequence is to be narrow; it is valid at all others too.

    An asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2021, "Time-uniform central limit
    theory and asymptotic confidence sequences", here its one-sided form): for the strong Gaussian approximation S_t of
    the sum of t = n1 + n0 votes' influence functions, half-normally mixed over the drift with scale rho,

        M_t = 2 exp(x^2 / 2) Phi(x) / sqrt(t rho^2 + 1),  x = rho S_t / sqrt(t rho^2 + 1)

    is a martingale, and with Phi(x) >= 1 - exp(-x^2 / 2) / 2 it reaches 1 / alpha no later than the difference leaves

        difference + sqrt(V) sqrt((c + 1) / c) sqrt(2 log(1/2 + sqrt(c + 1) / (2 alpha))),  c = t rho^2

    with the plug-in variance V of `Votes`. Each user has one vote, so that votes are independent whatever the users'
    tastes. The approximation needs a start, nothing is said before START_VOTES in either group, and an alpha that is
    not tiny: at 0.05 and one vote in five with the challenger, the lower bound was wrong in 0.5, 2.1, 2.9, 4.5 and
    6.1 % of 20,000 sequences of 3,000 votes, with 5, 30, 50, 70 and 95 % thumbs up.

    The exact way, universal inference (Wasserman, Ramdas & Balakrishnan 2020) with a Beta mixture for both shares
    against the likeliest pair at a given difference, is 1.7 times as wide at 10,000 votes: it would take three times
    as many users to promote a version. So what takes a version back is exact (`log_worse`), and what lets it pass is
    this, at a level where it keeps its word.
    """
    if not votes.enough:
        return math.inf
    return votes.difference + _half(votes, alpha, aim)


def lowest(votes: Votes, alpha: float, aim: float) -> float:
    """Below the difference at all times together with probability 1 - alpha, as `highest` is above it."""
    if not votes.enough:
        return -math.inf
    return votes.difference - _half(votes, alpha, aim)


def width(alpha: float, c: float) -> float:
    """In standard errors, where c = t rho^2: sqrt((c + 1) / c) sqrt(2 log(1/2 + sqrt(c + 1) / (2 alpha)))."""
    return math.sqrt((c + 1.0) / c * 2.0 * math.log(0.5 + math.sqrt(c + 1.0) / (2.0 * alpha)))


def tuned(alpha: float) -> float:
    """The c = t rho^2 at which a one-sided sequence is narrowest: -2 log a + log(1 - 2 log a), a = 2 alpha (the paper's
    equation for two sides)."""
    sides = -2.0 * math.log(min(2.0 * alpha, 0.5))
    return sides + math.log1p(sides)


def resolving(margin: float, share: float, alpha: float, up: float = 0.5) -> float:
    """How many votes, both groups together, make the sequence at its narrowest as narrow as the margin. share: the
    challenger's of the users. up: of the votes, the share of thumbs up."""
    return up * (1.0 - up) / (share * (1.0 - share)) * (width(alpha, tuned(alpha)) / margin) ** 2


def _half(votes: Votes, alpha: float, aim: float) -> float:
    return math.sqrt(votes.variance) * width(alpha, tuned(alpha) * votes.all / aim)


def _variance(up: int, count: int) -> float:
    share = (up + 1) / (count + 2)
    return share * (1.0 - share) / count


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _log_ratio(challenger: int, control: int, share: float, theta: float) -> float:
    """The log likelihood ratio of labels whose odds are theta times as high: q_theta / share = theta / z and
    (1 - q_theta) / (1 - share) = 1 / z, z = 1 + (theta - 1) share."""
    return challenger * math.log(theta) - (challenger + control) * math.log1p((theta - 1.0) * share)


def _log_mean(logs: list[float]) -> float:
    most = max(logs)
    return most + math.log(math.fsum(math.exp(one - most) for one in logs) / len(logs))


def _thetas(p0: float, drop: float) -> tuple[float, float]:
    p1 = p0 / (p0 + (1.0 - p0) * math.exp(drop))
    return p1 / p0, (1.0 - p1) / (1.0 - p0)


_ALTERNATIVES = tuple(_thetas(p0, drop) for p0 in _SHARES_UP for drop in _DROPS)
