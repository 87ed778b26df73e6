"""Votes as the trust library sees them: who votes, on what, and which way. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from gateway.log.records import Feedback, Interaction
from gateway.log.votes import merge, standing

Kind = Literal["user", "key", "source"]

# A tenant, and who it is there: `user:<hash>`, `key:<id>`, `source:<hash>` or `nobody`.
Voter = tuple[str, str]
# An interaction and the candidate (or the two, of a preference) that are judged; -1: the delivered one, where it is
# not known which that is.
Item = tuple[str, tuple[int, ...]]

_LIKED_FROM = 5


@dataclass(frozen=True, slots=True)
class Ballot:
    """A vote that stands. interaction: None where it has not been found.

    voter: the user where one is named, else the API key, else the address.
    says: 1 or -1, for or against the item (of two candidates: for the one with the lower index); 0: neither.
    """

    vote: Feedback
    interaction: Interaction | None
    voter: Voter
    item: Item
    says: int

    @property
    def id(self) -> str:
        return self.vote.id

    @property
    def model(self) -> str:
        return self.interaction.model if self.interaction else ""

    @property
    def foreign(self) -> bool:
        """Whether it is on the answer of another tenant, which the gateway lets nobody cast."""
        return self.interaction is not None and self.interaction.tenant != self.vote.tenant

    @property
    def asker(self) -> str | None:
        """The hashed user who got the answer."""
        return self.interaction.user if self.interaction else None

    def sender(self, kind: Kind) -> Voter | None:
        """The user, key or address that it came from, where that is known.

        With an API key the address is an application's server, which speaks for all of its users: then there is none.
        """
        if kind == "source" and self.vote.key is not None:
            return None
        found: str | None = getattr(self.vote, kind)
        return None if found is None else (self.vote.tenant, f"{kind}:{found}")


def ballots(interactions: Mapping[str, Interaction], votes: Iterable[Feedback]) -> list[Ballot]:
    """The votes that stand among records in any order, doubles and retractions included; oldest first."""
    by_interaction: dict[str, list[Feedback]] = {}
    for vote in votes:
        by_interaction.setdefault(vote.interaction, []).append(vote)
    found = [
        _ballot(vote, interactions.get(identifier))
        for identifier, records in by_interaction.items()
        for vote in standing(merge(records).values())
    ]
    return sorted(found, key=lambda ballot: (ballot.id, ballot.vote.interaction))


def by_id(interactions: Iterable[Interaction]) -> dict[str, Interaction]:
    """Each once. Of two versions of one record, which may differ by what was redacted, always the same one."""
    found: dict[str, Interaction] = {}
    for record in interactions:
        known = found.get(record.id)
        if known is None or (known != record and msgspec.json.encode(record) < msgspec.json.encode(known)):
            found[record.id] = record
    return found


def direction(vote: Feedback) -> int:
    """1: for it. -1: against it. 0: it does not say."""
    value = vote.value
    match vote.kind:
        case "thumbs":
            return 1 if value else -1
        case "rating" if isinstance(value, int):
            return 1 if value >= _LIKED_FROM else -1
        case "preference" if isinstance(value, int) and vote.candidate is not None and vote.over is not None:
            return 1 if vote.candidate < vote.over else -1
    return 0


def _ballot(vote: Feedback, interaction: Interaction | None) -> Ballot:
    known = [one for one in (vote.candidate, vote.over) if one is not None]
    winner = interaction.winner if interaction else None
    judged = tuple(sorted(known)) or (-1 if winner is None else winner.index,)
    return Ballot(vote, interaction, _voter(vote), (vote.interaction, judged), direction(vote))


def _voter(vote: Feedback) -> Voter:
    named = (f"{kind}:{found}" for kind in ("user", "key", "source") if (found := getattr(vote, kind)) is not None)
    return vote.tenant, next(named, "nobody")
