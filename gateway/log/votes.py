"""Which vote counts: for each vote key the latest, and none where the latest took it back.

Pure, commutative and idempotent: the same records in any order, any number of times, give the same votes. The Lua
script in `sink` applies the same rule in Redis.
"""

from collections.abc import Iterable

from gateway.log.records import Feedback


def supersedes(new: Feedback, old: Feedback) -> bool:
    """Ids are UUIDv7, so the later id is the later vote; of one id, the retraction wins."""
    return (new.id, new.retracted) > (old.id, old.retracted)


def merge(*sources: Iterable[Feedback]) -> dict[str, Feedback]:
    """The latest record of each vote key, retractions included."""
    latest: dict[str, Feedback] = {}
    for source in sources:
        for vote in source:
            key = vote.vote_key
            if key not in latest or supersedes(vote, latest[key]):
                latest[key] = vote
    return latest


def standing(latest: Iterable[Feedback]) -> list[Feedback]:
    """Those that were not taken back, in the order they were given."""
    return sorted((vote for vote in latest if not vote.retracted), key=lambda vote: vote.id)
