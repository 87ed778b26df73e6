"""How far a shadow scorer agrees with what decides: the numbers of one request, and their sums over many. Pure.

Rank correlation is Kendall's tau-b, which allows for ties (Kendall, The treatment of ties in ranking problems,
Biometrika 33, 1945, p. 239):

    tau_b = (C - D) / sqrt((P - T) (P - U))

of P pairs of candidates, C of them ranked alike by both and D the other way round, T tied by the one scorer and U by
the other. It is undefined where a scorer ties all. Requests are taken as independent: the standard error of a mean over
m of them is sqrt(s^2 / m) with the sample variance s^2.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import msgspec


def kendall_tau_b(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Of two scores of the same candidates; None where it is undefined."""
    agreeing = tied_first = tied_second = pairs = 0
    for (a, b), (c, d) in combinations(zip(first, second, strict=True), 2):
        one, other = _sign(a - c), _sign(b - d)
        pairs += 1
        agreeing += one * other
        tied_first += one == 0
        tied_second += other == 0
    scale = math.sqrt((pairs - tied_first) * (pairs - tied_second))
    return agreeing / scale if scale else None


class Agreement(msgspec.Struct, frozen=True, omit_defaults=True):
    """Sums over requests, so that several gateways' add up.

    requests: in which the scorer was asked. candidates: that it was asked about; failures: those it gave no score.
    compared: requests where it scored the delivered answer and another that could have been; differs: of these, where
    it would have chosen another. ranked: requests with a rank correlation; tau, tau_squares: its sums.
    """

    requests: int = 0
    candidates: int = 0
    failures: int = 0
    compared: int = 0
    differs: int = 0
    ranked: int = 0
    tau: float = 0.0
    tau_squares: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: "Agreement") -> "Agreement":
        return Agreement(*(a + b for a, b in zip(_values(self), _values(other), strict=True)))

    def figures(self) -> dict[str, Any]:
        """For people: counts, and each mean with its standard error; null where there is too little to tell."""
        share = self.differs / self.compared if self.compared else None
        share_error = None if share is None else math.sqrt(share * (1 - share) / self.compared)
        tau = self.tau / self.ranked if self.ranked else None
        tau_error = None
        if tau is not None and self.ranked > 1:
            variance = max(0.0, self.tau_squares - self.ranked * tau * tau) / (self.ranked - 1)
            tau_error = math.sqrt(variance / self.ranked)
        return {
            "requests": self.requests,
            "candidates": self.candidates,
            "failures": self.failures,
            "compared": self.compared,
            "other_winner": {"share": _rounded(share), "stderr": _rounded(share_error)},
            "rank_correlation": {"mean": _rounded(tau), "stderr": _rounded(tau_error), "requests": self.ranked},
            "mean_ms": _rounded(1000 * self.seconds / self.requests) if self.requests else None,
        }


class Compared(msgspec.Struct, frozen=True):
    """One request. winner: the peer that the shadow scorer prefers; None where it cannot be told."""

    agreement: Agreement
    winner: int | None
    tau: float | None


def compare(
    rewards: Sequence[float | None], shadow: Sequence[float | None], peers: Sequence[int], chosen: int, seconds: float
) -> Compared:
    """rewards, shadow: of the same candidates, None where there is no score. chosen: the one that was delivered.

    peers: those that could have been in its place, it among them. A tie with it is no other winner.
    """
    both = [(one, other) for one, other in zip(rewards, shadow, strict=True) if one is not None and other is not None]
    tau = kendall_tau_b([one for one, _ in both], [other for _, other in both])
    scored = {peer: value for peer in peers if (value := shadow[peer]) is not None}
    winner = None
    if chosen in scored and len(scored) > 1:
        best = max(scored.values())
        winner = chosen if scored[chosen] == best else next(peer for peer in scored if scored[peer] == best)
    agreement = Agreement(
        requests=1,
        candidates=len(shadow),
        failures=sum(value is None for value in shadow),
        compared=int(winner is not None),
        differs=int(winner not in (None, chosen)),
        ranked=int(tau is not None),
        tau=tau or 0.0,
        tau_squares=(tau or 0.0) ** 2,
        seconds=seconds,
    )
    return Compared(agreement, winner, tau)


def _values(one: Agreement) -> list[Any]:
    return [getattr(one, field) for field in one.__struct_fields__]


def _sign(difference: float) -> int:
    return (difference > 0) - (difference < 0)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
