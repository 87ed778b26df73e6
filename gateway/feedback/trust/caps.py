"""No one has much to say alone: the weight of one user's votes on a model in a day, and of one key's, has an end.

Where the votes of a group weigh more than its cap together, each is scaled by cap / total, so that all still count and
their proportions stay. Users come first, then keys, of what is left. A vote that names no user counts for its address
where it came without a key, and for its key alone otherwise.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from gateway.feedback.trust.ballots import Ballot, Voter

DAY_S = 86_400.0

Group = tuple[Voter, str, int]  # whose, on which model, on which day


def capped(
    ballots: Sequence[Ballot], weights: Mapping[str, float], *, user_cap: float, key_cap: float
) -> dict[str, float]:
    """The same votes' weights, scaled down where there is too much of one user or key."""
    by_user = _scaled(ballots, weights, _person, user_cap)
    return _scaled(ballots, by_user, _key, key_cap)


def _scaled(
    ballots: Sequence[Ballot], weights: Mapping[str, float], group_of: Callable[[Ballot], Group | None], cap: float
) -> dict[str, float]:
    groups: dict[Group, list[str]] = {}
    for ballot in ballots:
        if ballot.id in weights and (group := group_of(ballot)) is not None:
            groups.setdefault(group, []).append(ballot.id)
    found = dict(weights)
    for members in groups.values():
        total = math.fsum(weights[one] for one in members)
        if total > cap:
            found.update({one: weights[one] * (cap / total) for one in members})
    return found


def _person(ballot: Ballot) -> Group | None:
    return _group(ballot, ballot.voter) if ballot.voter[1].startswith(("user:", "source:")) else None


def _key(ballot: Ballot) -> Group | None:
    sender = ballot.sender("key")
    return _group(ballot, sender) if sender else None


def _group(ballot: Ballot, whose: Voter) -> Group:
    return whose, ballot.model, int(ballot.vote.created // DAY_S)
