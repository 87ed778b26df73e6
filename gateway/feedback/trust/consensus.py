"""Votes against what others say of the same answer: they count less, and that is all.

A vote that the others make unlikely (`history.agreement`) has its weight multiplied by 2 P, at least FLOOR and at most
1: on its own, or where the others are divided, nothing changes. Disagreement alone never sets a vote aside, however
strong: who sees first that an answer is wrong stands alone.
"""

from collections.abc import Iterable, Mapping

from gateway.feedback.trust.ballots import Ballot, Voter
from gateway.feedback.trust.history import Opinions, Record, agreement

FLOOR = 0.25


def factors(ballots: Iterable[Ballot], opinions: Opinions, known: Mapping[Voter, Record]) -> dict[str, float]:
    """Vote id -> what its weight is multiplied by; 1 where it is not in here."""
    likely = {item: agreement(said, known) for item, said in opinions.items() if len(said) > 1}
    found: dict[str, float] = {}
    for ballot in ballots:
        # A voter who says both things of an item is among nobody.
        chance = likely.get(ballot.item, {}).get(ballot.voter)
        if chance is not None and ballot.says == opinions[ballot.item][ballot.voter]:
            found[ballot.id] = max(FLOOR, min(1.0, 2.0 * chance))
    return found
