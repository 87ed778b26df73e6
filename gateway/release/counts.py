"""What a stage of a canary has seen: users, and of each user the first event of each kind. Pure.

The unit is the user, and each counts once for each signal: somebody who votes a hundred times is one person with one
taste, and per-vote sequences take that for a hundred (34 % false rollbacks in a trial with 400 users; design page).
"""

from typing import Literal

import msgspec

from gateway.release.state import Arm

Signal = Literal[
    "up",  # the user's first thumb in the stage was up
    "down",  # it was down
    "complaint",  # some answer got a thumb down, or a flag
    "unsafe",  # no candidate was safe, or the user flagged an answer as unsafe
    "error",  # some request failed or was degraded
    "regenerated",  # the user asked the same again
    "slow",  # some answer took longer than release.slow_ms
]
SIGNALS: tuple[Signal, ...] = ("up", "down", "complaint", "unsafe", "error", "regenerated", "slow")


class ArmCounts(msgspec.Struct, frozen=True, omit_defaults=True):
    """users: who were served in the stage. interactions: how often. first: users by signal, each at its first event."""

    users: int = 0
    interactions: int = 0
    first: dict[str, int] = {}

    def of(self, signal: Signal) -> int:
        return self.first.get(signal, 0)


class Counts(msgspec.Struct, frozen=True, omit_defaults=True):
    challenger: ArmCounts = ArmCounts()
    control: ArmCounts = ArmCounts()

    def of(self, arm: Arm) -> ArmCounts:
        return self.challenger if arm == "challenger" else self.control


class Event(msgspec.Struct, frozen=True):
    """One thing that happened to a user of a stage. user: a keyed digest. signal: None: was served."""

    user: str
    arm: Arm
    signal: Signal | None
