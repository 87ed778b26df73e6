"""How far a voter is believed: by how often others who judged the same answer agreed.

Each voter u has a probability r_u to agree with what is true of an answer (the one-coin model of Dawid & Skene 1979,
"Maximum likelihood estimation of observer error-rates using the EM algorithm"), with a Beta(a, b) prior. Given the r,
the others on an item make its truth as likely as their log-odds say, so that u's vote s_u = +-1 there is right with

    P(u agrees) = sigmoid(s_u * sum over v != u of s_v * max(0, log(r_v / (1 - r_v))))

and given those, r_u is the mean of its Beta posterior:

    r_u = (a + sum over items of P(u agrees)) / (a + b + number of items)

Both are repeated. Leaving u out keeps a voter from confirming themselves; a voter who is always wrong counts nothing
rather than the opposite, so that the labels cannot flip. An item on which nobody else voted says nothing of its voter.

The weight is max(FLOOR, 2 r - 1), how much better than a coin: a newcomer, of whom nothing is known, counts
2 a / (a + b) - 1 = 0.5, and more only as others come to agree. Numbers of votes alone buy nothing.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gateway.feedback.trust.ballots import Ballot, Item, Voter

PRIOR = (3.0, 1.0)
# Whoever always disagrees is still heard: they may be the only one who knows.
FLOOR = 0.1
ROUNDS = 10

# Item -> what each voter says of it, 1 or -1.
Opinions = Mapping[Item, Mapping[Voter, int]]


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a voter. shared: items that others judged too. reliability: r_u."""

    shared: int
    reliability: float

    @property
    def weight(self) -> float:
        return max(FLOOR, 2.0 * self.reliability - 1.0)


NEWCOMER = Record(0, PRIOR[0] / sum(PRIOR))


def opinions(ballots: Iterable[Ballot]) -> Opinions:
    """Who says what, of each item; a voter who says both things of one says nothing."""
    sums: dict[Item, dict[Voter, int]] = {}
    for ballot in ballots:
        if ballot.says:
            said = sums.setdefault(ballot.item, {})
            said[ballot.voter] = said.get(ballot.voter, 0) + ballot.says
    signs = {item: {voter: 1 if said > 0 else -1 for voter, said in of.items() if said} for item, of in sums.items()}
    # Sums of floats depend on their order.
    return {item: dict(sorted(signs[item].items())) for item in sorted(signs)}


def records(opinions: Opinions, rounds: int = ROUNDS) -> dict[Voter, Record]:
    """What is known of each voter who shares an item with another; the others are NEWCOMERs."""
    before, against = PRIOR
    shared: dict[Voter, int] = {}
    for said in opinions.values():
        for voter in said if len(said) > 1 else ():
            shared[voter] = shared.get(voter, 0) + 1
    known = {voter: Record(count, NEWCOMER.reliability) for voter, count in sorted(shared.items())}
    for _ in range(rounds):
        agreed = dict.fromkeys(known, 0.0)
        for said in opinions.values():
            for voter, chance in agreement(said, known).items() if len(said) > 1 else ():
                agreed[voter] += chance
        known = {
            voter: Record(record.shared, (before + agreed[voter]) / (before + against + record.shared))
            for voter, record in known.items()
        }
    return known


def agreement(said: Mapping[Voter, int], known: Mapping[Voter, Record]) -> dict[Voter, float]:
    """For each voter on an item, how likely the others make what they say; 1/2 where there are none."""
    odds = {voter: sign * _log_odds(known.get(voter, NEWCOMER)) for voter, sign in said.items()}
    total = math.fsum(odds.values())
    return {voter: _sigmoid(sign * (total - odds[voter])) for voter, sign in said.items()}


def _log_odds(record: Record) -> float:
    return max(0.0, math.log(record.reliability / (1.0 - record.reliability)))


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))
