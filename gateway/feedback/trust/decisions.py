"""What an operator decided of votes that were set aside: it wins over whatever is found. Pure."""

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from gateway.feedback.trust.ballots import Ballot

Verdict = Literal["released", "confirmed"]


class Decision(msgspec.Struct, frozen=True, omit_defaults=True):
    """subject: `vote:<id>`, `user:<hash>`, `source:<hash>` or `key:<id>`. by, at, reason: who decided, when and why."""

    subject: str
    verdict: Verdict
    by: str
    at: float
    reason: str = ""


# By subject.
Decisions = Mapping[str, Decision]


def decided(ballot: Ballot, decisions: Decisions) -> Decision | None:
    """What holds for a vote: what was said of it itself, else of its user, its address, its key."""
    return next((decisions[subject] for subject in subjects(ballot) if subject in decisions), None)


def subjects(ballot: Ballot) -> Iterator[str]:
    """What a decision on this vote can be about, the most exact first."""
    yield f"vote:{ballot.id}"
    for kind in ("user", "source", "key"):
        if (found := getattr(ballot.vote, kind)) is not None:
            yield f"{kind}:{found}"
