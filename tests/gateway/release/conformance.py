"""What every store of a canary's events must agree with: `Tally`, on cases that are written down and on drawn ones.

for case in CASES:          counts of a fresh store, after `case.events`  ==  case.counts
for seed in range(n):       counts of a fresh store, after `drawn(seed)`  ==  Tally(drawn(seed)).counts
events twice, in one call or in many:  only `interactions` may differ
"""

import random
from dataclasses import dataclass

from gateway.release.counts import SIGNALS, ArmCounts, Counts, Event


@dataclass(frozen=True)
class Case:
    name: str
    events: list[Event]
    counts: Counts


CASES = [
    Case("nothing", [], Counts()),
    Case(
        "a user who comes three times is one user",
        [Event("a", "challenger", None)] * 3,
        Counts(challenger=ArmCounts(users=1, interactions=3)),
    ),
    Case(
        "each signal counts once a user",
        [
            Event("a", "control", None),
            Event("a", "control", "error"),
            Event("a", "control", None),
            Event("a", "control", "error"),
            Event("a", "control", "regenerated"),
        ],
        Counts(control=ArmCounts(users=1, interactions=2, first={"error": 1, "regenerated": 1})),
    ),
    Case(
        "the first thumb is the one that counts",
        [
            Event("a", "challenger", None),
            Event("a", "challenger", "up"),
            Event("a", "challenger", "down"),
            Event("a", "challenger", "complaint"),
            Event("b", "challenger", None),
            Event("b", "challenger", "down"),
            Event("b", "challenger", "complaint"),
            Event("b", "challenger", "up"),
        ],
        Counts(challenger=ArmCounts(users=2, interactions=2, first={"up": 1, "down": 1, "complaint": 2})),
    ),
    Case(
        "groups are apart",
        [
            Event("a", "challenger", None),
            Event("b", "control", None),
            Event("b", "control", "unsafe"),
            Event("c", "control", None),
            Event("a", "challenger", "slow"),
        ],
        Counts(
            challenger=ArmCounts(users=1, interactions=1, first={"slow": 1}),
            control=ArmCounts(users=2, interactions=2, first={"unsafe": 1}),
        ),
    ),
    Case(
        "who has a signal was served, though the event that says so comes later",
        [Event("a", "control", "down"), Event("a", "control", None)],
        Counts(control=ArmCounts(users=1, interactions=1, first={"down": 1})),
    ),
]


def drawn(seed: int, count: int = 300, users: int = 25) -> list[Event]:
    """Events of users who each stay in one group."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        user = rng.randrange(users)
        signal = rng.choice([None, None, *SIGNALS])
        found.append(Event(f"user-{user}", "challenger" if user % 3 else "control", signal))
    return found
